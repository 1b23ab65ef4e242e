"""The fold under arbitrary entries: a refusal changes nothing, an acceptance adds one leaf, nothing crashes."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consortium.errors import EntryError, LimitError
from consortium.ledger.entry import Entry, Head, read_entry
from consortium.ledger.merkle import root_hash
from consortium.replay import RULES
from tests.worlds import Ledger, documents, honest_world, snapshot

WORLD = honest_world()[0]
FRAMES = WORLD.ledger.frames
ENTRIES = [read_entry(frame) for frame in FRAMES]
AUTHORS = {key.key_id: key for key in (WORLD.coordinator, *WORLD.members)}
VALUES: dict[str, list[Any]] = {  # other values that a field takes somewhere, or might
    name: [entry.body[name] for entry in ENTRIES if name in entry.body]
    for name in sorted({name for entry in ENTRIES for name in entry.body})
}
SPOILED: dict[str, list[Any]] = {
    "rho_micro": [0, 1, documents.CAP_RHO_MICRO, documents.CAP_RHO_MICRO + 1, "unbounded"],
    "round": list(range(11)),
    "roster": [[], [documents.HASH] * 3, *(entry.body["survivors"] for entry in ENTRIES if entry.kind == "sum")],
    "survivors": [[], [documents.HASH] * 3],
    "amount": ["0", "-1", "1", "99999"],
    "members_min": [0, 2, 4, 5],
    "lineage": ["other"],
    "descriptor": [{}],
    "request": [{}],
    "digest": [documents.HASH],
    "job": [documents.HASH],
    "scores": [[]],
    "postings": [[]],
    "tls_key_sha256": [documents.HASH],
}


@functools.cache
def prefix(size: int) -> Ledger:
    return Ledger.of(FRAMES[:size])


def restored(size: int) -> Ledger:
    """A log of the first entries, of its own."""
    shared, own = prefix(size), Ledger()
    own.frames = list(shared.frames)
    own.replay = copy.deepcopy(shared.replay)
    return own


@st.composite
def attempts(draw: st.DrawFn) -> tuple[Ledger, Entry]:
    """A log at any point of its life, and a signed entry that somebody tries to add there."""
    turn = draw(st.integers(1, len(FRAMES) - 1))
    base = ENTRIES[turn]
    # Mostly when the entry was due, so that the rules of its kind decide, and sometimes at any other time.
    ledger = restored(draw(st.just(turn) | st.just(turn) | st.integers(1, len(FRAMES))))
    body = dict(base.body)
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=2, unique=True)):
        body[name] = draw(st.sampled_from(SPOILED.get(name, []) + VALUES[name]))
    author = AUTHORS[draw(st.sampled_from([base.author] * 12 + sorted(AUTHORS)))]
    place: dict[str, Any] = draw(
        st.sampled_from(
            [{}] * 20
            + [{"seq": 3}, {"prev": b"p" * 32}, {"consortium": b"c" * 32}, {"head": Head(2, b"r" * 32)}]
            + [{"key": base.key}]
        )
    )
    try:
        return ledger, ledger.sign(author, base.kind, body, **place)
    except (EntryError, LimitError):  # the author's own program refuses to sign that
        assume(False)
        raise


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(attempts())
def test_a_refused_entry_changes_nothing_and_an_accepted_one_adds_one_leaf(attempt: tuple[Ledger, Entry]) -> None:
    ledger, entry = attempt
    size, before = ledger.state.size, snapshot(ledger.replay)
    code = ledger.refusal(entry.frame.data)  # asserts that a refusal changed nothing
    assert (ledger.state.size == size) == bool(code)
    assert (snapshot(ledger.replay) == before) == bool(code)
    if not code:
        assert ledger.state.chains[entry.author] == (entry.seq + 1, entry.leaf)
        assert ledger.refusal(entry.frame.data) == "replayed"
        assert ledger.replay.root == root_hash(ledger.frames)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(attempts())
def test_a_void_entry_is_in_the_tree_and_the_rest_of_the_log_reads_on(attempt: tuple[Ledger, Entry]) -> None:
    ledger, entry = attempt
    before = copy.deepcopy(ledger.state)
    if not ledger.force(entry.frame.data):
        return
    assert ledger.replay.root == root_hash(ledger.frames)
    authors = {key for key in AUTHORS if ledger.state.admitted(key)}
    for author in authors - {WORLD.coordinator.key_id}:  # nobody is silenced: each can still say something that counts
        ledger.add(
            AUTHORS[author], "dataset", documents.offer("fresh", "fresh"), head=Head(1, ledger.replay.tree.root(1))
        )
    ledger.state.size, ledger.state.chains = before.size, before.chains
    spoken = {"keys": 0, "datasets": 0, "caps": 0}
    assert {**vars(ledger.state), **spoken} == {**vars(before), **spoken}


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_void_and_change_nothing_but_the_tree(data: bytes) -> None:
    ledger = restored(len(FRAMES))
    assert ledger.refusal(data) == "bad-signature"
    assert ledger.force(data) == "bad-signature"
    assert ledger.replay.root == root_hash(ledger.frames)


def test_the_honest_log_that_is_spoiled_here_has_entries_of_every_kind() -> None:
    voted = {"proposal", "vote", "rotation"}  # see test_governance
    assert set(Counter(entry.kind for entry in ENTRIES)) == {*RULES, "genesis"} - voted
