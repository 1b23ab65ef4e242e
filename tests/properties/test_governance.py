"""Governing under arbitrary orders and arbitrary entries."""

from __future__ import annotations

import copy
import functools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consortium.errors import EntryError, LimitError
from consortium.ledger.merkle import root_hash
from consortium.state import State
from tests.worlds import World, documents, governed_world, snapshot
from tests.worlds.governing import ballot, committee, fresh_key, proof_of, propose, suspension

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@functools.cache
def _seated() -> World:
    return World().found().join().offer().approve().seat()


def seated() -> World:
    return copy.deepcopy(_seated())


def governed(state: State) -> tuple[Any, ...]:
    """All that votes decide about."""
    return (
        state.charter,
        {
            member.id: (member.admitted, member.suspended, member.removed, member.keys)
            for member in state.members.values()
        },
        state.committees,
        [(proposal.change, proposal.outcome) for proposal in state.proposals.values()],
    )


@SLOW
@given(st.data())
def test_votes_in_any_order_give_the_same_state(data: st.DataObject) -> None:
    """Three proposals that touch each other, any votes on them, in two orders: what becomes of them is the same."""
    start = seated().ledger.state.size + 40
    choices = data.draw(st.lists(st.sampled_from(["for", "for", "against", None]), min_size=12, max_size=12))
    cast = [(number, position) for number in range(3) for position in range(4) if choices[4 * number + position]]
    outcomes = []
    for order in (data.draw(st.permutations(cast)), data.draw(st.permutations(cast))):
        world = seated()
        changes: list[dict[str, Any]] = [
            suspension(world, 3),
            {"type": "remove", "member": world.ids[3].hex()},
            committee(world, (1, 2, 3)),
        ]
        proposals = [propose(world, change, from_index=start) for change in changes]
        for number, position in order:  # a vote after the decision is void, and so is a vote without a right
            choice = choices[4 * number + position]
            world.ledger.force(
                world.ledger.sign(world.members[position], "vote", ballot(proposals[number], choice)).frame.data
            )
        while world.ledger.state.size <= start:
            world.ledger.force(b"time passes")
        outcomes.append(governed(world.ledger.state))
    assert outcomes[0] == outcomes[1]


@SLOW
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["for", "against"])), max_size=12))
def test_nobody_outside_the_members_of_record_counts(ballots: list[tuple[int, str]]) -> None:
    """Whatever strangers, the coordinator, a suspended member and the one concerned vote: only the others decide."""
    world = seated()
    stranger, enrolled = fresh_key("stranger"), fresh_key("enrolled")
    world.ledger.add(enrolled, "enrolment", documents.enrolment(enrolled, "Not admitted", "small"))
    proposal = propose(world, suspension(world, 0))
    voters = [*world.members, world.coordinator, enrolled, stranger]
    expected: dict[bytes, str] = {}
    decided = False
    for position, choice in ballots:
        entry = world.ledger.sign(voters[position], "vote", ballot(proposal, choice))
        world.ledger.force(entry.frame.data)
        if 1 <= position <= 3 and not decided:
            expected.setdefault(world.ids[position], choice)
            counts = [list(expected.values()).count(word) for word in ("for", "against")]
            decided = counts[0] >= 3 or counts[1] > 0
    assert {member: vote.body["choice"] for member, vote in proposal.ballots.items()} == expected
    suspended = world.ledger.state.members[world.ids[0]].suspended is not None
    assert suspended == (list(expected.values()) == ["for"] * 3)


@st.composite
def entries(draw: st.DrawFn) -> tuple[World, list[bytes]]:
    """A governed consortium and some entries of all kinds of governing, most of them out of place."""
    world = governed_world()
    for number in range(draw(st.integers(0, 2))):
        propose(world, {"type": "charter", "fields": {"name": f"Name {number}"}})
    keys = [*world.members, world.coordinator, fresh_key("stranger")]
    member = st.sampled_from([*(one.hex() for one in world.ids), world.coordinator.key_id.hex(), documents.HASH])
    digest = st.sampled_from([documents.HASH, *(proposal.hex() for proposal in world.ledger.state.proposals)])
    new_key = st.sampled_from([fresh_key("a"), fresh_key("b"), world.members[0]])
    rotation = new_key.map(lambda key: proof_of(world, world.ids[1], key))
    change = st.one_of(
        st.builds(
            lambda kind, who: {"type": kind, "member": who}, st.sampled_from(["suspend", "remove", "reinstate"]), member
        ),
        st.builds(lambda who: {"type": "admit", "member": who, "enrolment": documents.HASH}, member),
        st.builds(lambda who, key: {"type": "rotate", "member": who, **key}, member, rotation),
        st.lists(member, max_size=5).map(lambda who: {"type": "committee", "members": who}),
        st.builds(lambda least: {"type": "charter", "fields": {"members_min": least}}, st.integers(0, 9)),
        st.builds(lambda version: {"type": "rules", "version": version}, st.integers(0, 3)),
    )
    body = st.one_of(
        st.tuples(
            st.just("proposal"), st.builds(lambda c, i: {"change": c, "from_index": i}, change, st.integers(0, 200))
        ),
        st.tuples(
            st.just("vote"),
            st.builds(lambda p, c: {"proposal": p, "choice": c}, digest, st.sampled_from(["for", "against"])),
        ),
        st.tuples(st.just("rotation"), rotation),
        st.tuples(
            st.just("handover"), st.sampled_from(["a\n\nb", world.note().decode()]).map(lambda n: {"checkpoint": n})
        ),
    )
    frames = []
    for kind, value in draw(st.lists(body, min_size=1, max_size=6)):
        try:
            frames.append(world.ledger.sign(draw(st.sampled_from(keys)), kind, value).frame.data)
        except (EntryError, LimitError):  # the author's own program refuses to sign that
            continue
    return world, frames


@SLOW
@given(entries())
def test_the_fold_never_raises_and_a_refused_entry_changes_nothing(drawn: tuple[World, list[bytes]]) -> None:
    world, frames = drawn
    for data in frames:
        before = snapshot(world.ledger.replay)
        code = world.ledger.refusal(data)
        assert (snapshot(world.ledger.replay) == before) == bool(code)
        if code:
            world.ledger.force(data)
    assert world.ledger.replay.root == root_hash(world.ledger.frames)
