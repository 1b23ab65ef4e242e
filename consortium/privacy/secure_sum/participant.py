"""One node's side of one sum (Bonawitz et al. 2017, figure 4, the variant against a malicious coordinator)."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from consortium.errors import SecureSumError
from consortium.keys import Signer
from consortium.privacy.secure_sum.masks import KEY_BYTES, Mask, fold, pair_mask, public_of, self_mask
from consortium.privacy.secure_sum.messages import (
    Advert,
    Masked,
    Reveal,
    Shares,
    Vote,
    check_survivors,
    member_with,
    open_message,
    sign_message,
)
from consortium.privacy.secure_sum.setup import (
    Adverts,
    Setup,
    SharePair,
    commit_seed,
    commit_share,
    open_adverts,
    open_shares,
    seal_pair,
    unseal_pair,
)
from consortium.privacy.secure_sum.shamir import RandomBytes, draw, split
from consortium.privacy.secure_sum.spec import LocalRules, SumSpec
from consortium.privacy.secure_sum.words import Words, check_words, vector_digest


class _Step(enum.IntEnum):
    STARTED = 0
    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    VOTED = 4
    REVEALED = 5


class Participant:
    """One node in one sum: advertise, share, mask, vote, reveal, each once and in this order.

    It lives in memory only: after a restart the round is lost, and no second object may be made for its spec (the
    caller keeps rounds monotone and durable). A call that raises has signed nothing and may be repeated.
    """

    def __init__(
        self,
        spec: SumSpec,
        signer: Signer,
        public_keys: Mapping[bytes, bytes],
        rules: LocalRules,
        random: RandomBytes,
    ) -> None:
        """Checks the spec against the node's own rules.

        Args:
            spec: what all parties agreed on; read from signed documents, not from the coordinator's word.
            signer: the node's ledger identity.
            public_keys: the members' Ed25519 keys by member id, from the ledger.
            rules: the node's own policy.
            random: the source of all secrets, cryptographically strong; called with the number of bytes.

        Raises:
            SecureSumError: the node is not on the roster, a key is missing, or too few members are accepted.
        """
        if any(member not in public_keys for member in spec.roster):
            raise SecureSumError("A roster member has no known public key.", where="roster")
        me = member_with(signer.key_id, spec, public_keys)
        if me is None:
            raise SecureSumError("This node is not on the roster of the sum.", where="roster")
        if me not in rules.accepted:
            raise SecureSumError("The node's own id is not among those its steward accepted.", where="rules")
        rules.check(spec.roster, "roster")
        self._spec, self._signer, self._me, self._rules, self._random = spec, signer, me, rules, random
        self._public_keys = {member: public_keys[member] for member in spec.roster}
        self._step = _Step.STARTED
        self._advert_frame = self._shares_frame = self._vote_frame = b""
        self._mask_key = self._sealing_key = self._seed = b""
        self._adverts: Adverts | None = None
        self._setup: Setup | None = None
        self._pairs: dict[bytes, SharePair] = {}
        self._survivors: tuple[bytes, ...] = ()

    def advertise(self) -> bytes:
        """A signed frame with fresh public keys and the commitment to the self-mask seed.

        Raises:
            SecureSumError: called before.
        """
        self._require(_Step.STARTED)
        self._mask_key, self._sealing_key, self._seed = (draw(self._random, KEY_BYTES) for _ in range(3))
        commitment = commit_seed(self._spec, self._me, self._seed)
        advert = Advert(public_of(self._mask_key), public_of(self._sealing_key), commitment)
        self._advert_frame = sign_message(self._signer, self._spec, advert)
        self._step = _Step.ADVERTISED
        return self._advert_frame

    def share(self, adverts: Sequence[bytes]) -> bytes:
        """A signed frame with a sealed share of the seed and of the mask key for every roster member.

        Args:
            adverts: one advert of every roster member, in any order.

        Raises:
            SecureSumError: out of order, or an advert is missing, doubled, not signed by its member, of another
                session, changed (the own one), or repeats a key.
        """
        self._require(_Step.ADVERTISED)
        if self._advert_frame not in adverts:
            raise SecureSumError("The own advert is missing or was changed.", where="advert", mend="Abort this sum.")
        opened = open_adverts(adverts, self._spec, self._public_keys)
        roster, threshold = self._spec.roster, self._spec.threshold
        seeds = split(self._seed, threshold, len(roster), self._random)
        keys = split(self._mask_key, threshold, len(roster), self._random)
        dealt = list(zip(roster, seeds, keys, strict=True))
        message = Shares(
            opened.digest,
            tuple(
                seal_pair(self._spec, opened, self._me, recipient, self._sealing_key, SharePair(seed, key))
                for recipient, seed, key in dealt
            ),
            tuple(commit_share(self._spec, b"seed-share", self._me, to, seed) for to, seed, _ in dealt),
            tuple(commit_share(self._spec, b"key-share", self._me, to, key) for to, _, key in dealt),
        )
        self._adverts, self._shares_frame = opened, sign_message(self._signer, self._spec, message)
        self._step = _Step.SHARED
        return self._shares_frame

    def mask(self, shares: Sequence[bytes], vector: Words) -> tuple[bytes, Words]:
        """The masked vector, and a signed frame that commits to it.

        Args:
            shares: one shares frame of every roster member, in any order.
            vector: uint32 of shape (length,), or uint64 of shape (length, 2) low limb first; not changed.

        Raises:
            SecureSumError: out of order, a vector of another shape, or a shares frame is missing, doubled, not
                signed by its member, of another session or other adverts, changed (the own one), does not open or
                does not match its commitment (then it blames the dealer).
        """
        self._require(_Step.SHARED)
        assert self._adverts is not None, "SHARED implies adverts"
        check_words(vector, self._spec)
        if self._shares_frame not in shares:
            raise SecureSumError("The own shares are missing or were changed.", where="shares", mend="Abort this sum.")
        setup = open_shares(shares, self._spec, self._public_keys, self._adverts)
        pairs = {
            dealer: unseal_pair(self._spec, setup, dealer, self._me, self._sealing_key) for dealer in self._spec.roster
        }
        masked = fold([vector], self._masks(setup.adverts))
        frame = sign_message(self._signer, self._spec, Masked(setup.digest, vector_digest(masked)))
        self._setup, self._pairs, self._step = setup, pairs, _Step.MASKED
        self._forget_secrets()
        return frame, masked

    def vote(self, survivors: Sequence[bytes]) -> bytes:
        """A signed frame over the session and the one survivor set this node will unmask.

        The caller makes it durable before it sends it. The same set again gives the same frame.

        Raises:
            SecureSumError: out of order; not a sorted set of at least t roster members with this node among them;
                too few of them accepted by this node's steward; or another set than the one voted for.
        """
        chosen = tuple(survivors)
        if self._step is _Step.VOTED and chosen == self._survivors:
            return self._vote_frame
        if self._step >= _Step.VOTED:
            raise SecureSumError(
                "This node has voted for another survivor set in this sum, or has revealed.",
                where="survivors",
                mend="Start a new round: a node serves one survivor set per sum.",
            )
        self._require(_Step.MASKED)
        check_survivors(chosen, self._spec)
        if self._me not in chosen:
            raise SecureSumError("This node masked a vector and is not among the survivors.", where="survivors")
        self._rules.check(chosen, "survivors")
        self._vote_frame = sign_message(self._signer, self._spec, Vote(self._setup_digest(), chosen))
        self._survivors, self._step = chosen, _Step.VOTED
        return self._vote_frame

    def reveal(self, votes: Sequence[bytes]) -> bytes:
        """A signed frame with this node's shares: of the survivors' seeds, and of the others' mask keys.

        Args:
            votes: votes of at least t survivors, all over exactly the set that this node voted for.

        Raises:
            SecureSumError: out of order, or the votes are too few, doubled, not signed by survivors, of another
                session, or over another set.
        """
        self._require(_Step.VOTED)
        check_votes(votes, self._spec, self._public_keys, Vote(self._setup_digest(), self._survivors))
        seeds = {owner: self._pairs[owner].seed for owner in self._survivors}
        keys = {owner: self._pairs[owner].key for owner in self._spec.roster if owner not in seeds}
        frame = sign_message(self._signer, self._spec, Reveal(self._setup_digest(), seeds, keys))
        self._pairs = {}
        self._step = _Step.REVEALED
        return frame

    def _masks(self, adverts: Adverts) -> list[Mask]:
        me = (self._me, adverts.by_member[self._me].mask_key)
        others = [(member, advert.mask_key) for member, advert in adverts.by_member.items() if member != self._me]
        masks = [pair_mask(self._spec, me, other, self._mask_key) for other in others]
        return [*masks, self_mask(self._spec, self._me, self._seed, negative=False)]

    def _forget_secrets(self) -> None:
        # Only references are dropped: Python cannot wipe memory. From here on only shares are needed.
        self._mask_key = self._sealing_key = self._seed = b""

    def _setup_digest(self) -> bytes:
        assert self._setup is not None, "MASKED implies a set-up"
        return self._setup.digest

    def _require(self, step: _Step) -> None:
        if self._step is not step:
            raise SecureSumError(
                f"This call needs a node that has {step.name.lower()}; this one has {self._step.name.lower()}.",
                where="participant",
                mend="Call advertise, share, mask, vote and reveal once each, in this order.",
            )


def check_votes(votes: Sequence[bytes], spec: SumSpec, public_keys: Mapping[bytes, bytes], expected: Vote) -> None:
    """Refuses anything but votes of at least t distinct survivors, each equal to `expected`.

    Raises:
        SecureSumError: too few, doubled, wrongly signed, of another session, or over another set.
    """
    voters: set[bytes] = set()
    for data in votes[: len(spec.roster) + 1]:
        sender, vote = open_message(data, spec, public_keys, Vote)
        if vote != expected:
            raise SecureSumError(
                "A vote is over another survivor set or set-up.",
                where=f"vote of {sender.hex()}",
                mend="Start a new round: nothing was revealed by this node.",
            )
        if sender not in expected.survivors or sender in voters:
            raise SecureSumError("Only survivors vote, once each.", where=f"vote of {sender.hex()}")
        voters.add(sender)
    if len(voters) < spec.threshold:
        raise SecureSumError(
            f"There are {len(voters)} votes; the threshold is {spec.threshold}.",
            where="votes",
            mend="Wait for more survivors to vote.",
        )
