"""A real secure sum in one process, from adverts to reveals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from consortium.keys import SigningKey
from consortium.privacy.secure_sum import Aggregator, LocalRules, Participant, SumSpec, Words, encode_signed
from consortium.privacy.secure_sum.words import vector_digest


@dataclass(frozen=True)
class SumRecord:
    """What a finished sum leaves behind."""

    spec: SumSpec
    total: Words
    survivors: tuple[bytes, ...]
    transcript: bytes

    @property
    def transcript_sha256(self) -> str:
        return hashlib.sha256(self.transcript).hexdigest()

    @property
    def total_sha256(self) -> str:
        return vector_digest(self.total).hex()


def run_sum(
    spec: SumSpec,
    signers: Mapping[bytes, SigningKey],
    vectors: Mapping[bytes, Sequence[int]],
    *,
    absent: Collection[bytes] = (),
) -> SumRecord:
    """Sums the vectors of the roster; who is `absent` goes silent before it sends its masked vector."""
    keys = {member: signers[member].public_key for member in spec.roster}
    rules = LocalRules(frozenset(spec.roster), 3)
    nodes = {
        member: Participant(spec, signers[member], keys, rules, _stream(spec.session + member))
        for member in spec.roster
    }
    server = Aggregator(spec, keys)
    for node in nodes.values():
        server.add_advert(node.advertise())
    adverts = server.adverts()
    for node in nodes.values():
        server.add_shares(node.share(adverts))
    shares = server.shares()
    for member in spec.roster:
        if member not in absent:
            server.add_masked(*nodes[member].mask(shares, encode_signed(list(vectors[member]), spec.word_bits)))
    survivors = server.survivors()
    for member in survivors:
        server.add_vote(nodes[member].vote(survivors))
    votes = server.votes()
    for member in survivors:
        server.add_reveal(nodes[member].reveal(votes))
    return SumRecord(spec, server.total(), survivors, server.transcript().to_bytes())


def _stream(seed: bytes) -> Callable[[int], bytes]:
    """The same bytes in every run, so that a failure can be seen again."""
    state = [seed]

    def random(count: int) -> bytes:
        state[0] = hashlib.sha256(state[0]).digest()
        return hashlib.shake_256(state[0]).digest(count)

    return random
