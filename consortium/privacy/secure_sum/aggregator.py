"""The coordinator's side of one sum, which sees only masked things."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum import shamir
from consortium.privacy.secure_sum.masks import Mask, fold, pair_mask, public_of, self_mask
from consortium.privacy.secure_sum.messages import Advert, M, Masked, Reveal, Shares, Vote, open_message
from consortium.privacy.secure_sum.setup import (
    Adverts,
    Setup,
    check_share,
    commit_seed,
    open_adverts,
    open_shares,
)
from consortium.privacy.secure_sum.spec import SumSpec
from consortium.privacy.secure_sum.transcript import Transcript
from consortium.privacy.secure_sum.words import Words, check_words, vector_digest

SUBSETS_MAX = 256  # t-subsets of shares tried for one secret before its dealer is blamed

StepName = Literal["adverts", "shares", "masked", "votes", "reveals"]


class Aggregator:
    """Collects the messages of one sum step by step, and unmasks the total.

    Every `add_...` checks its message fully; the same frame again is ignored, another of the same sender refused.
    """

    def __init__(self, spec: SumSpec, public_keys: Mapping[bytes, bytes]) -> None:
        """Args: the agreed spec, and the members' Ed25519 keys by key id, from the ledger."""
        self._spec = spec
        self._public_keys = dict(public_keys)
        self._frames: dict[StepName, dict[bytes, bytes]] = {
            "adverts": {},
            "shares": {},
            "masked": {},
            "votes": {},
            "reveals": {},
        }
        self._vectors: dict[bytes, Words] = {}
        self._reveals: dict[bytes, Reveal] = {}
        self._adverts: Adverts | None = None
        self._setup: Setup | None = None
        self._survivors: tuple[bytes, ...] | None = None

    def missing(self, step: StepName) -> tuple[bytes, ...]:
        """Who has not sent the message of this step: of the roster, or from the votes on of the survivors."""
        members = self._spec.roster if self._survivors is None or step == "masked" else self._survivors
        if step in ("adverts", "shares"):
            members = self._spec.roster
        return tuple(member for member in members if member not in self._frames[step])

    def add_advert(self, frame: bytes) -> None:
        """Takes one member's advert.

        Raises:
            SecureSumError: it does not open, or its sender sent another before.
        """
        sender, _ = self._open(frame, Advert)
        self._keep("adverts", sender, frame)

    def adverts(self) -> list[bytes]:
        """The adverts of the whole roster, for every member's `share`.

        Raises:
            SecureSumError: one is missing, or two hold the same key.
        """
        frames = self._in_order("adverts")
        if self._adverts is None:
            self._adverts = open_adverts(frames, self._spec, self._public_keys)
        return frames

    def add_shares(self, frame: bytes) -> None:
        """Takes one member's sealed shares.

        Raises:
            SecureSumError: it does not open, was dealt for other adverts, or its sender sent another before.
        """
        sender, shares = self._open(frame, Shares)
        if self._adverts is None or shares.adverts != self._adverts.digest:
            raise SecureSumError("Shares were dealt for other adverts.", where=f"shares of {sender.hex()}")
        self._keep("shares", sender, frame)

    def shares(self) -> list[bytes]:
        """The shares frames of the whole roster, for every member's `mask`.

        Raises:
            SecureSumError: one is missing.
        """
        frames = self._in_order("shares")
        if self._setup is None:
            adverts = self._adverts or open_adverts(self._in_order("adverts"), self._spec, self._public_keys)
            self._setup = open_shares(frames, self._spec, self._public_keys, adverts)
        return frames

    def add_masked(self, frame: bytes, vector: Words) -> None:
        """Takes one member's masked vector, which is kept without a copy.

        Raises:
            SecureSumError: it came after the survivors were named; the frame does not open or follows another
                set-up; the vector is not the one its sender signed; or its sender sent another before.
        """
        if self._survivors is not None:
            raise SecureSumError(
                "The survivor set of this sum is closed; a late vector is refused.",
                where="masked",
                mend="Take part in the next round.",
            )
        sender, masked = self._open(frame, Masked)
        self._check_setup(masked.setup, f"masked of {sender.hex()}")
        check_words(vector, self._spec)
        if vector_digest(vector) != masked.vector:
            raise SecureSumError(
                "The masked vector is not the one that its sender signed.", where=f"masked of {sender.hex()}"
            )
        self._keep("masked", sender, frame)
        self._vectors[sender] = vector

    def survivors(self) -> tuple[bytes, ...]:
        """Whose vector arrived; closes the masking step.

        Raises:
            SecureSumError: fewer than t (the step stays open).
        """
        if self._survivors is None:
            arrived = tuple(sorted(self._frames["masked"]))
            if len(arrived) < self._spec.threshold:
                raise SecureSumError(
                    f"Only {len(arrived)} masked vectors arrived; the threshold is {self._spec.threshold}.",
                    where="masked",
                    mend="Abort this sum: it stays masked. Start a new round.",
                )
            self._survivors = arrived
        return self._survivors

    def add_vote(self, frame: bytes) -> None:
        """Takes one survivor's vote.

        Raises:
            SecureSumError: it does not open, is over another survivor set, or is not from a survivor.
        """
        sender, vote = self._open(frame, Vote)
        where = f"vote of {sender.hex()}"
        self._check_setup(vote.setup, where)
        if vote.survivors != self._closed_survivors() or sender not in vote.survivors:
            raise SecureSumError("The vote is over another survivor set, or not from a survivor.", where=where)
        self._keep("votes", sender, frame)

    def votes(self) -> list[bytes]:
        """The votes so far, for every survivor's `reveal`.

        Raises:
            SecureSumError: fewer than t.
        """
        return self._quorum("votes")

    def add_reveal(self, frame: bytes) -> None:
        """Takes one survivor's shares, each checked against its dealer's commitment.

        Raises:
            SecureSumError: it does not open, treats another set as alive, is not from a survivor, or holds a share
                that was not dealt (blames the sender; the sum can still end with the shares of t others).
        """
        sender, reveal = self._open(frame, Reveal)
        where = f"reveal of {sender.hex()}"
        setup = self._check_setup(reveal.setup, where)
        survivors = self._closed_survivors()
        if sender not in survivors or reveal.seed_shares.keys() != set(survivors):
            raise SecureSumError("The reveal is for another survivor set, or not from a survivor.", where=where)
        for dealer, share in reveal.seed_shares.items():
            check_share(self._spec, setup, b"seed-share", dealer, sender, share, blamed=sender)
        for dealer, share in reveal.key_shares.items():
            check_share(self._spec, setup, b"key-share", dealer, sender, share, blamed=sender)
        self._keep("reveals", sender, frame)
        self._reveals[sender] = reveal

    def total(self) -> Words:
        """The sum of the survivors' vectors, modulo the word.

        Raises:
            SecureSumError: fewer than t votes or reveals, or a secret that no t of its shares give back (blames its
                dealer, who dealt inconsistent shares).
        """
        self._quorum("votes")
        self._quorum("reveals")
        survivors = self._closed_survivors()
        masks = [self._seed_mask(owner) for owner in survivors]
        for owner in self._spec.roster:
            if owner not in survivors:
                masks += self._dropped_masks(owner, survivors)
        return fold([self._vectors[owner] for owner in survivors], masks)

    def transcript(self) -> Transcript:
        """The record of the sum so far, from which `verify_transcript` recomputes a finished one."""
        ordered = {step: tuple(frames[sender] for sender in sorted(frames)) for step, frames in self._frames.items()}
        return Transcript(
            self._spec,
            ordered["adverts"],
            ordered["shares"],
            ordered["masked"],
            ordered["votes"],
            ordered["reveals"],
            tuple(self._vectors[sender] for sender in sorted(self._vectors)),
        )

    def _seed_mask(self, owner: bytes) -> Mask:
        commitment = self._the_setup().adverts.by_member[owner].seed_commitment
        shares = {sender: reveal.seed_shares[owner] for sender, reveal in self._reveals.items()}
        for seed in self._candidates(shares):
            if commit_seed(self._spec, owner, seed) == commitment:
                return self_mask(self._spec, owner, seed, negative=True)
        raise _inconsistent(owner)

    def _dropped_masks(self, owner: bytes, survivors: Sequence[bytes]) -> list[Mask]:
        # As the dropped owner would have applied them: the opposite of what each survivor did.
        adverts = self._the_setup().adverts.by_member
        shares = {sender: reveal.key_shares[owner] for sender, reveal in self._reveals.items()}
        for key in self._candidates(shares):
            if public_of(key) == adverts[owner].mask_key:
                mine = (owner, adverts[owner].mask_key)
                return [pair_mask(self._spec, mine, (other, adverts[other].mask_key), key) for other in survivors]
        raise _inconsistent(owner)

    def _candidates(self, shares: Mapping[bytes, bytes]) -> Iterator[bytes]:
        positions = {self._spec.roster.index(sender): share for sender, share in sorted(shares.items())}
        subsets = itertools.combinations(positions, self._spec.threshold)
        for subset in itertools.islice(subsets, SUBSETS_MAX):
            secret = shamir.combine({position: positions[position] for position in subset})
            if secret is not None:
                yield secret

    def _open(self, frame: bytes, kind: type[M]) -> tuple[bytes, M]:
        return open_message(frame, self._spec, self._public_keys, kind)

    def _keep(self, step: StepName, sender: bytes, frame: bytes) -> None:
        if self._frames[step].setdefault(sender, frame) != frame:
            raise SecureSumError(
                "The member signed two different messages for one step.",
                where=f"{step} of {sender.hex()}",
                blamed=(sender,),
            )

    def _in_order(self, step: StepName) -> list[bytes]:
        missing = self.missing(step)
        if missing:
            raise SecureSumError(
                f"{len(missing)} of {len(self._spec.roster)} members sent no {step}.",
                where=", ".join(member.hex() for member in missing),
                mend="Abort this sum; nothing was masked. Start anew without them.",
            )
        return [self._frames[step][member] for member in self._spec.roster]

    def _quorum(self, step: StepName) -> list[bytes]:
        frames = [self._frames[step][sender] for sender in sorted(self._frames[step])]
        if len(frames) < self._spec.threshold:
            raise SecureSumError(
                f"There are {len(frames)} {step}; the threshold is {self._spec.threshold}.",
                where=step,
                mend="Wait for more survivors; otherwise abort: the sum stays masked.",
            )
        return frames

    def _the_setup(self) -> Setup:
        if self._setup is None:
            raise SecureSumError("The set-up of this sum is not complete.", where="shares")
        return self._setup

    def _check_setup(self, digest: bytes, where: str) -> Setup:
        setup = self._the_setup()
        if digest != setup.digest:
            raise SecureSumError("The message follows another set-up of this sum.", where=where)
        return setup

    def _closed_survivors(self) -> tuple[bytes, ...]:
        if self._survivors is None:
            raise SecureSumError("The survivor set of this sum is not closed yet.", where="survivors")
        return self._survivors


def _inconsistent(dealer: bytes) -> SecureSumError:
    return SecureSumError(
        "The shares of a secret do not give back what its dealer committed to.",
        where=f"shares of {dealer.hex()}",
        mend="Abort this sum and start anew without this member.",
        blamed=(dealer,),
    )
