"""Proposals, votes and their effects: who is counted, from which index on, and what a void entry cannot do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from consortium import governance
from consortium.audit import audit_export
from consortium.errors import CheckpointError
from consortium.faults import Fault
from consortium.governance import changes, votes_needed
from consortium.keys import SigningKey
from consortium.ledger.cosignature import quorum
from consortium.ledger.entry import read_entry
from consortium.replay import RULE_BOOKS, RULES
from tests.worlds import Ledger, World, documents, governed_world
from tests.worlds.governing import (
    ballot,
    carry,
    committee,
    fresh_key,
    hand_over,
    proof_of,
    propose,
    rotate,
    suspension,
    vote,
)
from tests.worlds.weak_keys import MixedOrderKey

STRANGER = SigningKey(b"\x63" * 32)


def joined() -> World:
    return World().found().join().offer().approve()


def seated() -> World:
    return joined().seat()


def offer_of(world: World, position: int) -> str:
    """The code with which a member's new offer is refused."""
    return world.ledger.refused(world.members[position], "dataset", documents.offer("fresh", "fresh"))


def refused(world: World, change: dict[str, Any], from_index: int = 0) -> str:
    return world.ledger.refused(world.coordinator, "proposal", {"change": change, "from_index": from_index})


def enrolled(world: World, key: SigningKey = STRANGER, name: str = "Late") -> dict[str, Any]:
    """A stranger's enrolment, and the change that would admit it."""
    entry = world.ledger.add(key, "enrolment", documents.enrolment(key, name, "small"))
    return {"type": "admit", "member": key.key_id.hex(), "enrolment": entry.leaf.hex()}


@pytest.mark.parametrize(
    ("electorate", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (6, 5), (7, 5), (9, 7), (10, 7), (200, 134)]
)
def test_the_founding_share_of_votes_is_a_byzantine_quorum(electorate: int, needed: int) -> None:
    assert votes_needed(electorate, 6_667) == needed
    assert needed == quorum(electorate)


def test_members_vote_and_the_change_counts_from_the_entry_after_the_deciding_vote() -> None:
    world = joined()
    proposal = propose(world, suspension(world, 3))
    assert (proposal.needed, proposal.electorate) == (3, frozenset(world.ids[:3]))
    vote(world, proposal, (0, 1))
    assert proposal.outcome == "open"
    assert offer_of(world, 3) == ""
    vote(world, proposal, (2,))
    assert (proposal.outcome, proposal.decided, proposal.effect) == (
        "effective",
        world.ledger.state.size - 1,
        world.ledger.state.size,
    )
    assert world.ledger.state.members[world.ids[3]].suspended == world.ledger.state.size
    assert offer_of(world, 3) == "suspended"


def test_a_change_waits_for_the_index_that_was_proposed() -> None:
    world = joined()
    start = world.ledger.state.size + 8
    proposal = carry(world, suspension(world, 3), from_index=start)
    assert (proposal.outcome, proposal.effect) == ("accepted", start)
    while world.ledger.state.size < start:
        assert world.ledger.state.admitted(world.ids[3])
        world.ledger.add(world.members[3], "dataset", documents.offer("fresh", "fresh"))
    assert proposal.outcome == "effective"
    assert offer_of(world, 3) == "suspended"


def test_a_void_entry_also_brings_the_index_of_a_change() -> None:
    world = joined()
    proposal = carry(world, suspension(world, 3), from_index=world.ledger.state.size + 5)
    world.ledger.force(b"no entry")
    assert proposal.outcome == "effective"


def test_a_proposal_that_can_no_longer_pass_is_rejected() -> None:
    world = joined()
    change = {"type": "charter", "fields": {"name": "Sun"}}
    proposal = propose(world, change)
    vote(world, proposal, (0,), "for")
    vote(world, proposal, (1,), "against")
    assert proposal.outcome == "open"
    vote(world, proposal, (2,), "against")
    assert (proposal.outcome, world.ledger.state.charter["name"]) == ("rejected", "Wind")
    assert world.ledger.refused(world.members[3], "vote", ballot(proposal)) == "decided"
    assert propose(world, change).outcome == "open"  # it may be proposed anew


def test_one_vote_a_member_and_none_after_the_decision() -> None:
    world = joined()
    proposal = propose(world, {"type": "charter", "fields": {"name": "Sun"}})
    vote(world, proposal, (0,))
    assert world.ledger.refused(world.members[0], "vote", ballot(proposal)) == "duplicate"
    assert world.ledger.refused(world.members[0], "vote", ballot(proposal, "against")) == "duplicate"
    vote(world, proposal, (1, 2))
    assert world.ledger.refused(world.members[3], "vote", ballot(proposal)) == "decided"
    assert world.ledger.refused(world.members[3], "vote", {"proposal": documents.HASH, "choice": "for"}) == (
        "unknown-proposal"
    )


def test_only_members_of_record_at_the_proposals_index_vote() -> None:
    world = joined()
    late = enrolled(world)
    carry(world, suspension(world, 3))
    proposal = propose(world, {"type": "charter", "fields": {"name": "Sun"}})
    assert proposal.electorate == frozenset(world.ids[:3])
    assert world.ledger.refused(world.coordinator, "vote", ballot(proposal)) == "no-vote"
    assert world.ledger.refused(STRANGER, "vote", ballot(proposal)) == "not-admitted"
    assert world.ledger.refused(world.members[3], "vote", ballot(proposal)) == "suspended"
    carry(world, late)
    carry(world, {"type": "reinstate", "member": world.ids[3].hex()})
    for key in (STRANGER, world.members[3]):  # of record now, but not when it was proposed
        assert world.ledger.refused(key, "vote", ballot(proposal)) == "no-vote"
    assert STRANGER.key_id in propose(world, {"type": "charter", "fields": {"name": "Moon"}}).electorate


@pytest.mark.parametrize("kind", ["suspend", "remove"])
def test_nobody_votes_on_its_own_suspension_or_removal(kind: str) -> None:
    world = joined()
    proposal = propose(world, {"type": kind, "member": world.ids[1].hex()})
    assert world.ledger.refused(world.members[1], "vote", ballot(proposal, "against")) == "no-vote"


def test_a_suspended_member_is_void_in_everything_until_it_is_reinstated() -> None:
    world = joined()
    job = world.launch("statistic", documents.statistic())
    world.decide(job)
    carry(world, suspension(world, 3))
    me = world.members[3]
    assert world.ledger.refused(me, "spend", world.spend_body(job)) == "suspended"
    assert world.ledger.refused(me, "proposal", {"change": suspension(world, 0), "from_index": 0}) == "suspended"
    assert world.ledger.refused(me, "rotation", proof_of(world, world.ids[3], fresh_key("x"))) == "suspended"
    carry(world, {"type": "reinstate", "member": world.ids[3].hex()})
    world.ledger.add(me, "spend", world.spend_body(job))


def test_a_sum_with_a_suspended_member_on_its_roster_is_void_and_no_new_job_names_it() -> None:
    world = joined()
    job = world.launch("statistic", documents.statistic())
    world.decide(job)
    world.pay(job)
    record = world.statistic_sum(job)
    carry(world, suspension(world, 3))
    assert world.ledger.refused(world.coordinator, "sum", world.sum_body(record)) == "suspended"
    again = world.job_body("statistic", documents.statistic(500))
    assert world.ledger.refused(world.coordinator, "job", again) == "bad-job"


def test_a_removed_member_stays_removed() -> None:
    world = joined()
    carry(world, {"type": "remove", "member": world.ids[3].hex()})
    assert offer_of(world, 3) == "removed"
    assert refused(world, {"type": "reinstate", "member": world.ids[3].hex()}) == "no-member"
    assert refused(world, {"type": "remove", "member": world.ids[3].hex()}) == "no-member"
    assert refused(world, suspension(world, 3)) == "no-member"
    leaf = world.ledger.state.members[world.ids[3]].enrolment.hex()
    assert refused(world, {"type": "admit", "member": world.ids[3].hex(), "enrolment": leaf}) == "already-admitted"


def test_where_admission_is_voted_the_coordinator_admits_only_the_founding_members() -> None:
    world = World()
    genesis = documents.genesis(world.coordinator) | {"quorum": {"admission": "vote", "votes_bp": 6_667}}
    world.ledger.add(world.coordinator, "genesis", genesis)
    leaves = [world.enrol(position).leaf.hex() for position in range(4)]
    bodies = [{"member": one.hex(), "enrolment": leaf} for one, leaf in zip(world.ids, leaves, strict=True)]
    for body in bodies[:3]:
        world.ledger.add(world.coordinator, "admission", body)
    assert world.ledger.refused(world.coordinator, "admission", bodies[3]) == "not-voted"
    proposal = propose(world, {"type": "admit", **bodies[3]})
    assert world.ledger.refused(world.members[3], "vote", ballot(proposal)) == "not-admitted"
    vote(world, proposal, (0, 1, 2))
    assert world.ledger.state.members[world.ids[3]].admitted == world.ledger.state.size


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(lambda w: {"type": "suspend", "member": documents.HASH}, "no-member", id="stranger"),
        pytest.param(lambda w: {"type": "suspend", "member": w.coordinator.key_id.hex()}, "coordinator", id="seat"),
        pytest.param(lambda w: {"type": "remove", "member": w.coordinator.key_id.hex()}, "coordinator", id="seat-out"),
        pytest.param(lambda w: {"type": "reinstate", "member": w.ids[0].hex()}, "no-member", id="not-suspended"),
        pytest.param(
            lambda w: {"type": "admit", "member": w.ids[0].hex(), "enrolment": documents.HASH},
            "no-enrolment",
            id="leaf",
        ),
        pytest.param(lambda w: {"type": "rules", "version": 2}, "unknown-rules", id="unknown-rules"),
        pytest.param(lambda w: {"type": "rules", "version": 1}, "unchanged", id="same-rules"),
        pytest.param(lambda w: {"type": "charter", "fields": {"name": "Wind"}}, "unchanged", id="same-charter"),
        pytest.param(lambda w: {"type": "charter", "fields": {"members_min": 2}}, "bad-charter", id="two-members"),
        pytest.param(lambda w: {"type": "charter", "fields": {"schedule": {}}}, "bad-settlement", id="bad-schedule"),
        pytest.param(lambda w: committee(w, (0, 1, 2)), "no-committee", id="no-committee-yet"),
        pytest.param(
            lambda w: {"type": "rotate", "member": documents.HASH, **proof_of(w, w.ids[0], STRANGER)},
            "no-member",
            id="key-for-a-stranger",
        ),
    ],
)
def test_what_cannot_be_done_is_not_proposed(make: Callable[[World], dict[str, Any]], code: str) -> None:
    world = joined()
    assert refused(world, make(world)) == code


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": "nonsense"}, id="unknown-type"),
        pytest.param({"type": ["suspend"], "member": documents.HASH}, id="type-of-another-type"),
        pytest.param({"type": "suspend", "member": documents.HASH, "surplus": 1}, id="surplus-field"),
        pytest.param({"type": "charter", "fields": {}}, id="no-field"),
        pytest.param({"type": "charter", "fields": {"origin": "other"}}, id="the-log's-identity"),
        pytest.param({"type": "charter", "fields": {"rule_version": 2}}, id="rules-by-the-back-door"),
        pytest.param(
            {"type": "charter", "fields": {"quorum": {"admission": "vote", "votes_bp": 5_000}}}, id="half-is-no-quorum"
        ),
        pytest.param(
            {"type": "charter", "fields": {"quorum": {"admission": "vote", "votes_bp": 10_001}}}, id="more-than-all"
        ),
        pytest.param("suspend", id="no-object"),
    ],
)
def test_a_change_of_another_form_is_no_entry(change: Any) -> None:
    from consortium.errors import EntryError
    from consortium.ledger.bodies import check_body

    with pytest.raises(EntryError, match="wrong type or size") as caught:
        check_body("proposal", {"change": change, "from_index": 0})
    assert caught.value.where == "body.change"


def test_the_same_change_stands_proposed_once_and_an_author_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = joined()
    propose(world, suspension(world, 0))
    assert refused(world, suspension(world, 0)) == "duplicate"
    monkeypatch.setattr("consortium.governance.voting.OPEN_MAX", 2)
    propose(world, suspension(world, 1))
    assert refused(world, suspension(world, 2)) == "too-many"
    body = {"change": suspension(world, 2), "from_index": 0}
    assert world.ledger.refused(world.members[0], "proposal", body) == ""


def test_what_another_change_made_impossible_fails_when_its_index_comes() -> None:
    world = joined()
    start = world.ledger.state.size + 20
    later = carry(world, suspension(world, 3), from_index=start)
    carry(world, {"type": "remove", "member": world.ids[3].hex()})
    while later.outcome == "accepted":
        world.ledger.force(b"time passes")
    assert (later.outcome, bool(later.failure)) == ("failed", True)
    assert world.ledger.state.members[world.ids[3]].suspended is None


def test_an_amended_charter_rules_what_comes_after_it() -> None:
    world = joined()
    schedule = copy.deepcopy(documents.SCHEDULE)
    fields = {"members_min": 4, "schedule": schedule, "quorum": {"admission": "vote", "votes_bp": 10_000}}
    first = carry(world, {"type": "charter", "fields": fields})
    assert first.needed == 3
    state = world.ledger.state
    assert (state.charter["members_min"], state.charter["name"]) == (4, "Wind")
    assert propose(world, {"type": "charter", "fields": {"name": "Sun"}}).needed == 4
    assert (
        world.ledger.refused(world.coordinator, "job", world.job_body("statistic", documents.statistic())) == "bad-job"
    )  # it names a minimum of three


def test_every_rule_version_that_can_be_voted_has_its_rules() -> None:
    assert set(changes.RULE_VERSIONS) == set(RULE_BOOKS)


def test_an_activated_rule_version_judges_what_comes_after_it_and_nothing_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "RULE_VERSIONS", frozenset({1, 2}))
    strict = {**RULES, "app": lambda state, index, entry: Fault("no-apps", "No apps any more.")}
    monkeypatch.setattr("consortium.replay.RULE_BOOKS", {1: RULES, 2: strict})
    world = joined()
    app = {"name": "late", "digest": documents.HASH}
    proposal = carry(world, {"type": "rules", "version": 2}, from_index=world.ledger.state.size + 6)
    world.ledger.add(world.coordinator, "app", app)
    while proposal.outcome != "effective":
        world.ledger.force(b"time passes")
    assert world.ledger.refused(world.coordinator, "app", app | {"digest": "0" * 64}) == "no-apps"
    again = Ledger.of(world.ledger.frames)
    assert again.state == world.ledger.state


def test_where_nobody_could_vote_nothing_is_proposed() -> None:
    world = World().found()
    leaf = world.enrol(0).leaf
    admission = {"member": world.ids[0].hex(), "enrolment": leaf.hex()}
    world.ledger.add(world.coordinator, "admission", admission)
    assert refused(world, suspension(world, 0)) == "nobody-votes"


# Keys


def test_after_a_rotation_only_the_new_key_speaks_for_the_member_and_the_name_stays() -> None:
    world = joined()
    old, name = world.members[0], world.ids[0]
    rotate(world, 0)
    assert world.ids[0] == name
    assert world.ledger.refused(old, "dataset", documents.offer("fresh", "fresh")) == "bad-signature"
    entry = world.ledger.add(world.members[0], "dataset", documents.offer("fresh", "fresh"))
    assert entry.frame.key_id != name
    assert (name, "fresh") in world.ledger.state.datasets
    assert world.ledger.state.chains[name][1] == entry.leaf


def test_a_rotation_proves_possession_of_a_sound_key_that_was_never_used() -> None:
    world = joined()
    me, name = world.members[0], world.ids[0]
    used = proof_of(world, name, world.members[1])
    assert world.ledger.refused(me, "rotation", used) == "key-in-use"
    assert world.ledger.refused(me, "rotation", proof_of(world, name, me)) == "key-in-use"
    for_another = proof_of(world, world.ids[1], fresh_key("new"))
    assert world.ledger.refused(me, "rotation", for_another) == "no-possession"
    weak: Any = MixedOrderKey(1)
    assert world.ledger.refused(me, "rotation", proof_of(world, name, weak)) == "weak-key"
    own = proof_of(world, world.coordinator.key_id, fresh_key("new"))
    assert world.ledger.refused(world.coordinator, "rotation", own) == "coordinator-key"
    rotate(world, 0)
    back = proof_of(world, name, me)
    assert world.ledger.refused(world.members[0], "rotation", back) == "key-in-use"


def test_nobody_enrols_with_a_key_that_was_rotated_in() -> None:
    world = joined()
    rotate(world, 0)
    body = documents.enrolment(world.members[0], "Twin", "small") | {"tls_key_sha256": documents.HASH}
    assert world.ledger.refused(world.members[0], "enrolment", body) in ("wrong-author", "already-enrolled")


def test_a_lost_key_is_replaced_by_vote_and_must_be_accepted_anew() -> None:
    world = joined()
    name, old, key = world.ids[0], world.members[0], fresh_key("found again")
    carry(world, {"type": "rotate", "member": name.hex(), **proof_of(world, name, key)})
    world.members[0] = key
    assert world.ledger.refused(old, "dataset", documents.offer("fresh", "fresh")) == "bad-signature"
    world.ledger.add(key, "dataset", documents.offer("fresh", "fresh"))
    state = world.ledger.state
    assert state.trusted({old.key_id}) == frozenset()  # a steward accepted the lost key
    assert state.trusted({key.key_id}) == frozenset({name})
    rotate(world, 0)
    assert state.trusted({key.key_id}) == frozenset({name})  # the accepted key signed for the next one


def test_the_member_that_lost_its_key_has_no_vote_on_the_new_one() -> None:
    world = joined()
    name = world.ids[0]
    proposal = propose(world, {"type": "rotate", "member": name.hex(), **proof_of(world, name, STRANGER)})
    assert world.ledger.refused(world.members[0], "vote", ballot(proposal, "against")) == "no-vote"


def test_a_witness_that_lost_its_key_leaves_the_committee_first() -> None:
    world = seated()
    name = world.ids[0]
    change = {"type": "rotate", "member": name.hex(), **proof_of(world, name, STRANGER)}
    assert refused(world, change) == "seated-witness"
    carry(world, committee(world, (1, 2, 3)))
    hand_over(world)
    carry(world, change)
    assert world.ledger.state.members[name].public_key == STRANGER.public_key


def test_a_checkpoint_is_cosigned_with_the_keys_of_its_size() -> None:
    world = seated()
    before = world.note()
    size = world.ledger.state.size
    stale = tuple(world.members)
    for position in (0, 1):
        rotate(world, position)
    world.ledger.replay.check_head(before)
    world.ledger.replay.check_head(world.note())
    world.ledger.witnesses = stale
    with pytest.raises(CheckpointError):
        world.ledger.replay.check_head(world.ledger.note(world.coordinator))
    assert world.ledger.replay.check_head(world.ledger.note(world.coordinator, size=size)).size == size


def test_secure_sums_before_and_after_a_rotation_verify_in_one_audit() -> None:
    world = joined().seat()
    world.ask()
    rotate(world, 1)
    world.ask()
    job = world.launch("statistic", documents.statistic(300))
    world.decide(job)
    world.pay(job)
    world.decide(job, stage="release")
    record = world.statistic_sum(job)
    rotate(world, 2)  # its frames are signed with the key before, which was in force when the job began
    world.record(record)
    world.answer(job)
    report = audit_export(world.export(), world.ledger.frames[0])
    assert (report.findings, report.figures["sums_recomputed"]) == ((), 3)


def test_a_sum_signed_with_a_key_that_was_replaced_before_its_job_is_found() -> None:
    world = joined().seat()
    old = world.members[1]
    rotate(world, 1)
    job = world.launch("statistic", documents.statistic())
    world.decide(job)
    world.pay(job)
    world.decide(job, stage="release")
    new, world.members[1] = world.members[1], old
    names = world.ids
    record = world.statistic_sum(job)
    world.members[1] = new
    assert world.ids == names
    world.record(record)
    assert [found.code for found in audit_export(world.export(), world.ledger.frames[0]).findings] == ["bad-sum"]


# Committees


def test_two_committees_must_cosign_until_the_old_one_has_handed_over() -> None:
    world = seated()
    carry(world, committee(world, (0, 1, 2)))
    check = world.ledger.replay.check_head

    def note(*positions: int) -> bytes:
        world.ledger.witnesses = tuple(world.members[position] for position in positions)
        return world.ledger.note(world.coordinator)

    with pytest.raises(CheckpointError):
        check(note(0, 1, 3))  # a quorum of the old committee, not of the new one
    with pytest.raises(CheckpointError):
        check(note(0, 1))
    check(note(0, 1, 2))
    before = world.ledger.state.size
    hand_over(world)
    assert world.ledger.state.committee == tuple(sorted(world.ids[:3]))
    with pytest.raises(CheckpointError):
        check(note(0, 1, 3))
    assert len(world.ledger.state.committees_at(before)) == 2
    assert len(world.ledger.state.committees_at(before + 1)) == 1


def test_only_the_coordinator_hands_over_once_and_only_on_a_cosigned_checkpoint_of_the_new_time() -> None:
    world = seated()
    early = world.note().decode()
    assert world.ledger.refused(world.coordinator, "handover", {"checkpoint": early}) == "no-handover"
    carry(world, committee(world, (0, 1, 2)))
    assert world.ledger.refused(world.coordinator, "handover", {"checkpoint": early}) == "too-early"
    assert world.ledger.refused(world.members[0], "handover", {"checkpoint": world.note().decode()}) == (
        "not-coordinator"
    )
    world.ledger.witnesses = ()
    bare = world.ledger.note(world.coordinator).decode()
    assert world.ledger.refused(world.coordinator, "handover", {"checkpoint": bare}) == "bad-checkpoint"
    assert world.ledger.refused(world.coordinator, "handover", {"checkpoint": "no\n\nnote"}) == "bad-checkpoint"
    assert refused(world, committee(world, (1, 2, 3))) == "handing-over"
    hand_over(world)
    assert world.ledger.refused(world.coordinator, "handover", {"checkpoint": world.note().decode()}) == "no-handover"


def test_a_committee_has_its_sizes_and_only_members_of_record() -> None:
    world = seated()
    assert refused(world, committee(world, (0, 1))) == "bad-committee"
    assert refused(world, committee(world, (0, 1, 2, 3))) == "unchanged"
    carry(world, suspension(world, 3))
    assert refused(world, committee(world, (1, 2, 3))) == "bad-committee"


def test_nobody_is_suspended_whose_going_would_leave_the_witnesses_without_a_quorum() -> None:
    world = seated()
    carry(world, suspension(world, 3))
    assert refused(world, suspension(world, 2)) == "witness-quorum"
    assert refused(world, {"type": "remove", "member": world.ids[2].hex()}) == "witness-quorum"
    three = seated()
    carry(three, committee(three, (0, 1, 2)))
    hand_over(three)
    carry(three, suspension(three, 3))
    assert refused(three, suspension(three, 0)) == "witness-quorum"


def test_a_governed_log_replays_to_the_same_state_and_audits_clean() -> None:
    world = governed_world()
    report = audit_export(world.export(), world.ledger.frames[0])
    assert report.findings == ()
    assert report.figures["consortium"] == "Wind and sun"
    assert [(each["change"], each["outcome"]) for each in report.figures["proposals"]] == [
        ("charter", "effective"),
        ("committee", "effective"),
        ("suspend", "effective"),
        ("reinstate", "effective"),
    ]
    assert {entry.kind for entry in map(read_entry, world.ledger.frames)} >= {"rotation", "vote", "handover"}


def test_a_state_in_the_middle_of_governing_is_saved_and_goes_on() -> None:
    from consortium.audit.report import Audit
    from consortium.audit.saved import load_audit, save_audit

    world = governed_world()
    for size in range(10, world.ledger.state.size, 7):
        audit = Audit()
        for frame in world.ledger.frames[:size]:
            audit.feed(frame)
        again = load_audit(save_audit(audit))
        assert again.replay.state == audit.replay.state
        for frame in world.ledger.frames[size:]:
            again.feed(frame)
        assert again.replay.state == world.ledger.state


def test_possession_binds_consortium_member_and_key() -> None:
    parts = [
        governance.possession(bytes([a]) * 32, bytes([b]) * 32, bytes([c]) * 32)
        for a, b, c in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))
    ]
    assert len(set(parts)) == 4
    assert not any(part.startswith((b"DSSEv1", b"cosignature/")) for part in parts)
