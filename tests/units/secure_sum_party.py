"""A whole secure sum in one process, step by step, so that a test can spoil any step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from consortium.keys import SigningKey
from consortium.privacy.secure_sum import (
    Aggregator,
    LocalRules,
    Participant,
    SumSpec,
    WordBits,
    Words,
    encode_signed,
    minimum_threshold,
)


def make_signers(n: int) -> list[SigningKey]:
    """Signers in the order of their key ids, so that index i is position i of the roster."""
    return sorted((SigningKey(bytes([i + 1]) * 32) for i in range(n)), key=lambda signer: signer.key_id)


def make_spec(
    signers: Sequence[SigningKey],
    *,
    round: int = 1,  # noqa: A002 the field's name
    length: int = 4,
    word_bits: WordBits = 32,
    input_model: bytes = bytes(32),
    threshold: int | None = None,
) -> SumSpec:
    return SumSpec(
        consortium=b"c" * 32,
        job=b"j" * 32,
        round=round,
        roster=tuple(signer.key_id for signer in signers),
        request=b"r" * 32,
        input_model=input_model,
        length=length,
        word_bits=word_bits,
        threshold=threshold or minimum_threshold(len(signers)),
    )


class Party:
    """All nodes and the coordinator of one sum; `values[i]` is what node i holds."""

    def __init__(
        self, n: int = 4, *, spec: SumSpec | None = None, random: Callable[[int], bytes] = os.urandom, **fields: object
    ) -> None:
        self.signers = make_signers(n)
        self.spec = spec or make_spec(self.signers, **fields)  # type: ignore[arg-type]
        self.public_keys = {signer.key_id: signer.public_key for signer in self.signers}
        self.rules = LocalRules(frozenset(self.spec.roster), 3)
        self.nodes = [self.node(i, random=random) for i in range(n)]
        self.server = Aggregator(self.spec, self.public_keys)
        self.values = [[(i + 1) * (-1) ** i * (k + 1) for k in range(self.spec.length)] for i in range(n)]

    def node(
        self, i: int, *, rules: LocalRules | None = None, random: Callable[[int], bytes] = os.urandom
    ) -> Participant:
        return Participant(self.spec, self.signers[i], self.public_keys, rules or self.rules, random)

    def vector(self, i: int) -> Words:
        return encode_signed(self.values[i], self.spec.word_bits)

    def adverts(self) -> list[bytes]:
        for node in self.nodes:
            self.server.add_advert(node.advertise())
        return self.server.adverts()

    def shares(self) -> list[bytes]:
        adverts = self.adverts()
        for node in self.nodes:
            self.server.add_shares(node.share(adverts))
        return self.server.shares()

    def mask(self, who: Iterable[int]) -> list[tuple[bytes, Words]]:
        shares = self.shares()
        sent = [self.nodes[i].mask(shares, self.vector(i)) for i in who]
        for frame, vector in sent:
            self.server.add_masked(frame, vector)
        return sent

    def vote(self, who: Sequence[int], *, masking: Iterable[int] | None = None) -> list[bytes]:
        self.mask(who if masking is None else masking)
        survivors = self.server.survivors()
        for i in who:
            self.server.add_vote(self.nodes[i].vote(survivors))
        return self.server.votes()

    def reveal(self, who: Sequence[int], *, masking: Iterable[int] | None = None) -> None:
        votes = self.vote(who, masking=masking)
        for i in who:
            self.server.add_reveal(self.nodes[i].reveal(votes))

    def plain_sum(self, who: Iterable[int]) -> list[int]:
        chosen = list(who)
        return [sum(self.values[i][k] for i in chosen) for k in range(self.spec.length)]
