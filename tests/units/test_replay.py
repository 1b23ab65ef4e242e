"""The fold over the log: chains, heads, authors, idempotency; no refusal changes anything, no void entry wedges it."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.encoding import canonical
from consortium.keys import SigningKey, sign_frame
from consortium.ledger.entry import NO_PREVIOUS, Head, read_entry
from consortium.ledger.merkle import leaf_hash, root_hash
from consortium.replay import Replay
from tests.worlds import Ledger, World, documents, honest_world
from tests.worlds.weak_keys import MixedOrderKey

STRANGER = SigningKey(b"\x63" * 32)


@pytest.fixture
def world() -> World:
    return World().found().join()


def replayed(frames: list[bytes]) -> Replay:
    replay = Replay()
    for frame in frames:
        assert replay.feed(frame).fault is None
    return replay


class TestTree:
    """What every fold agrees on."""

    def test_offering_and_feeding_the_same_log_end_in_the_same_state(self) -> None:
        world = honest_world()[0]
        again = replayed(world.ledger.frames)
        assert again.state == world.ledger.state
        assert again.root == world.ledger.replay.root

    def test_the_roots_are_those_of_the_merkle_tree_over_the_frames(self) -> None:
        frames = honest_world()[0].ledger.frames
        tree = replayed(frames).tree
        assert [tree.root(size) for size in range(len(frames) + 1)] == [
            root_hash(frames[:size]) for size in range(len(frames) + 1)
        ]

    def test_a_void_entry_has_a_leaf_too(self, world: World) -> None:
        assert world.ledger.force(b"junk") == "bad-signature"
        assert world.ledger.replay.root == root_hash(world.ledger.frames)
        assert world.ledger.state.size == len(world.ledger.frames)


class TestGenesis:
    """Entry 0."""

    def test_the_founder_is_the_coordinator_and_counts_at_once(self) -> None:
        world = World().found()
        state = world.ledger.state
        assert state.genesis == leaf_hash(world.ledger.frames[0])
        assert state.coordinator == world.coordinator.key_id
        assert state.admitted(world.coordinator.key_id)
        assert state.charter["name"] == "Wind"

    @pytest.mark.parametrize(
        "spoiled",
        [
            pytest.param({"members_min": 2}, id="minimum-of-two"),
            pytest.param({"rule_version": 2}, id="another-rule-version"),
            pytest.param({"schedule": {}}, id="no-schedule"),
            pytest.param({"schedule": documents.SCHEDULE | {"platform_fee_bp": 9_999}}, id="greedy-schedule"),
            pytest.param({"origin": "two words"}, id="origin-that-no-checkpoint-can-carry"),
        ],
    )
    def test_a_charter_that_this_program_cannot_keep_is_refused(self, spoiled: dict[str, Any]) -> None:
        key = SigningKey(b"\x01" * 32)
        assert Ledger().refused(key, "genesis", documents.genesis(key) | spoiled) == "no-genesis"

    @pytest.mark.parametrize(
        "place",
        [
            pytest.param({"seq": 1}, id="not-its-first"),
            pytest.param({"prev": b"p" * 32}, id="with-a-predecessor"),
            pytest.param({"consortium": b"c" * 32}, id="of-a-consortium"),
            pytest.param({"head": Head(1, bytes(32))}, id="after-something"),
        ],
    )
    def test_a_genesis_has_nothing_before_it(self, place: dict[str, Any]) -> None:
        key = SigningKey(b"\x01" * 32)
        assert Ledger().refused(key, "genesis", documents.genesis(key), **place) == "no-genesis"

    def test_a_genesis_is_signed_by_the_coordinator_that_it_names(self) -> None:
        body = documents.genesis(SigningKey(b"\x01" * 32))
        assert Ledger().refused(STRANGER, "genesis", body) == "bad-signature"

    def test_a_coordinator_with_a_weak_key_founds_nothing(self) -> None:
        key: Any = MixedOrderKey(1)
        assert Ledger().refused(key, "genesis", documents.genesis(key)) == "bad-signature"

    def test_a_log_begins_with_its_genesis_and_has_one(self, world: World) -> None:
        enrolment = documents.enrolment(STRANGER, "Somebody", "small")
        assert Ledger().refused(STRANGER, "enrolment", enrolment) == "no-genesis"
        body = documents.genesis(world.coordinator)
        assert world.ledger.refused(world.coordinator, "genesis", body) == "no-genesis"
        assert world.ledger.refusal(world.ledger.frames[0]) == "no-genesis"

    def test_a_log_without_a_genesis_never_starts(self) -> None:
        ledger = Ledger()
        assert ledger.force(b"junk") == "bad-signature"
        key = SigningKey(b"\x01" * 32)
        assert ledger.refused(key, "genesis", documents.genesis(key)) == "no-genesis"
        app = {"name": "power", "digest": documents.APP}
        assert ledger.refused(key, "app", app) == "bad-entry"
        assert not ledger.state.coordinator


class TestPlace:
    """Author, consortium, chain, head and idempotency key of an entry."""

    def test_an_entry_with_a_wrong_signature_is_refused(self, world: World) -> None:
        frame = bytearray(world.ledger.sign(world.members[0], "dataset", documents.offer()).frame.data)
        frame[40] ^= 1
        assert world.ledger.refusal(bytes(frame)) == "bad-signature"

    def test_an_entry_in_the_name_of_another_is_refused(self, world: World) -> None:
        frame = world.ledger.sign(world.members[0], "dataset", documents.offer()).frame.data
        renamed = frame[:1] + world.ids[1] + frame[33:]
        assert world.ledger.refusal(renamed) == "bad-signature"

    def test_who_is_not_enrolled_is_refused(self, world: World) -> None:
        assert world.ledger.refused(STRANGER, "dataset", documents.offer()) == "bad-entry"

    def test_an_entry_with_a_float_is_refused(self, world: World) -> None:
        entry = world.ledger.sign(world.members[0], "dataset", documents.offer())
        payload = entry.frame.payload.replace(b'"rho_micro":400000', b'"rho_micro":400000.5')
        assert payload != entry.frame.payload
        frame = sign_frame(world.members[0], entry.frame.payload_type, payload).data
        assert world.ledger.refusal(frame) == "malformed"

    def test_an_entry_with_a_duplicate_json_key_is_refused(self, world: World) -> None:
        entry = world.ledger.sign(world.members[0], "dataset", documents.offer())
        payload = entry.frame.payload.replace(b'"lineage":"turbine"', b'"lineage":"turbine","lineage":"turbine"')
        frame = sign_frame(world.members[0], entry.frame.payload_type, payload).data
        assert world.ledger.refusal(frame) == "malformed"

    def test_an_oversized_entry_is_refused(self, world: World) -> None:
        payload = canonical({"body": "x" * 70_000})
        frame = sign_frame(world.members[0], "application/vnd.consortium.app.v1+json", payload).data
        assert world.ledger.refusal(frame) == "too-large"

    @pytest.mark.parametrize("step", [-1, 1, 100])
    def test_a_sequence_number_that_is_replayed_or_skipped_is_refused(self, world: World, step: int) -> None:
        sequence, previous = world.ledger.state.chains[world.ids[0]]
        place = {"seq": sequence + step, "prev": previous}
        assert world.ledger.refused(world.members[0], "dataset", documents.offer(), **place) == "broken-chain"

    def test_an_entry_after_another_predecessor_is_refused(self, world: World) -> None:
        assert world.ledger.refused(world.members[0], "dataset", documents.offer(), prev=NO_PREVIOUS) == "broken-chain"

    @pytest.mark.parametrize("consortium", [b"", b"c" * 32])
    def test_an_entry_for_another_consortium_is_refused(self, world: World, consortium: bytes) -> None:
        offer = documents.offer()
        assert world.ledger.refused(world.members[0], "dataset", offer, consortium=consortium) == "other-consortium"

    def test_an_author_who_saw_another_log_is_refused(self, world: World) -> None:
        size = world.ledger.state.size
        for head in (
            Head(size, b"r" * 32),
            Head(size - 1, world.ledger.replay.root),
            Head(size + 1, world.ledger.replay.root),
            Head(1 << 52, bytes(32)),
        ):
            assert world.ledger.refused(world.members[0], "dataset", documents.offer(), head=head) == "other-history"

    def test_an_author_may_have_seen_less_than_there_is(self, world: World) -> None:
        for size in (0, 3):
            head = Head(size, world.ledger.replay.tree.root(size))
            world.ledger.add(world.members[0], "dataset", documents.offer(), head=head)

    def test_the_same_bytes_again_are_a_replay(self, world: World) -> None:
        entry = world.ledger.add(world.members[0], "dataset", documents.offer(), key="offer")
        assert world.ledger.refusal(entry.frame.data) == "replayed"

    def test_an_idempotency_key_says_one_thing_only(self, world: World) -> None:
        world.ledger.add(world.members[0], "dataset", documents.offer(), key="offer")
        other = documents.offer(cap=1)
        assert world.ledger.refused(world.members[0], "dataset", other, key="offer") == "duplicate-key"
        world.ledger.add(world.members[1], "dataset", other, key="offer")  # keys are each author's own

    def test_after_a_refusal_the_same_key_can_be_used_for_the_mended_entry(self, world: World) -> None:
        bad = documents.offer() | {"descriptor": {}}
        assert world.ledger.refused(world.members[0], "dataset", bad, key="offer") == "bad-descriptor"
        world.ledger.add(world.members[0], "dataset", documents.offer(), key="offer")

    def test_a_fault_never_shows_what_was_in_the_entry(self, world: World) -> None:
        body = documents.offer() | {"descriptor": documents.descriptor("scada", "turbine") | {"canary": "4711"}}
        step = world.ledger.replay.offer(world.ledger.sign(world.members[0], "dataset", body).frame.data)
        assert step.fault is not None
        assert "4711" not in step.fault.text


class TestVoid:
    """`feed`: entries that are in the log although no honest sequencer would have taken them."""

    def test_a_void_entry_has_no_effect_and_its_author_goes_on(self, world: World) -> None:
        bad = world.ledger.sign(world.members[0], "dataset", documents.offer() | {"descriptor": {}})
        assert world.ledger.force(bad.frame.data) == "bad-descriptor"
        assert not world.ledger.state.datasets
        world.offer()
        assert len(world.ledger.state.datasets) == 4

    def test_a_dropped_entry_makes_one_finding(self, world: World) -> None:
        skipped = world.ledger.sign(world.members[0], "dataset", documents.offer())
        late = world.ledger.sign(world.members[0], "dataset", documents.offer(), seq=skipped.seq + 1, prev=skipped.leaf)
        assert world.ledger.force(late.frame.data) == "broken-chain"
        world.ledger.add(world.members[0], "dataset", documents.offer())

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_a_member_whose_old_entry_is_repeated_by_the_coordinator_is_not_silenced(self, index: int) -> None:
        world = World().found().join().offer().approve()
        own = [frame for frame in world.ledger.frames if read_entry(frame).author == world.ids[0]]
        before = world.ledger.state.chains[world.ids[0]]
        assert world.ledger.force(own[index]) == "replayed"
        assert world.ledger.state.chains[world.ids[0]] == before
        world.ledger.add(world.members[0], "dataset", documents.offer())

    def test_an_entry_signed_for_another_consortium_does_not_move_its_authors_chain(self, world: World) -> None:
        before = world.ledger.state.chains[world.ids[0]]
        foreign = world.ledger.sign(world.members[0], "dataset", documents.offer(), consortium=b"c" * 32)
        assert world.ledger.force(foreign.frame.data) == "other-consortium"
        assert world.ledger.state.chains[world.ids[0]] == before

    def test_an_unsigned_entry_does_not_move_anybodys_chain(self, world: World) -> None:
        before = dict(world.ledger.state.chains)
        frame = bytearray(world.ledger.sign(world.members[0], "dataset", documents.offer()).frame.data)
        frame[50] ^= 1
        assert world.ledger.force(bytes(frame)) == "bad-signature"
        assert world.ledger.state.chains == before

    def test_a_step_tells_index_entry_and_fault(self, world: World) -> None:
        entry = world.ledger.sign(world.members[0], "dataset", documents.offer())
        step = world.ledger.replay.feed(entry.frame.data)
        assert (step.index, step.entry, step.fault) == (9, entry, None)
        junk = world.ledger.replay.feed(b"junk")
        assert (junk.index, junk.entry) == (10, None)
