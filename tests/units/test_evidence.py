"""Evidence: what the coordinator's signatures contradict is proved to anybody; nobody honest can be framed."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consortium.encoding import canonical
from consortium.errors import ConsortiumError, EncodingError, EntryError, LimitError, SignatureError
from consortium.evidence import (
    EVIDENCE_BYTES_MAX,
    Evidence,
    EvidenceReport,
    disorder,
    two_views,
    unproved,
    verify_evidence,
    write_evidence,
)
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, NoteKey, sign_checkpoint
from consortium.ledger.entry import Entry, read_entry
from consortium.ledger.tree import Tree
from tests.worlds import Ledger, World, documents

WORLD = World().found().join()
FRAMES = WORLD.ledger.frames
GENESIS = FRAMES[0]
COORDINATOR = WORLD.coordinator
MEMBER = WORLD.members[0]
KEY = NoteKey(documents.ORIGIN, COORDINATOR.public_key)


def app(ledger: Ledger, number: int) -> Entry:
    return ledger.add(COORDINATOR, "app", {"name": f"app-{number}", "digest": f"{number:064x}"}, key=f"app-{number}")


def grown(numbers: range, start: int = 9) -> Ledger:
    """The log with some apps after its first entries."""
    ledger = Ledger.of(FRAMES[:start])
    for number in numbers:
        app(ledger, number)
    return ledger


def report(evidence: Evidence | None, genesis: bytes | None = GENESIS) -> EvidenceReport:
    assert evidence is not None
    return verify_evidence(write_evidence(evidence, "what was seen", GENESIS, MEMBER), genesis)


HONEST, OTHER = grown(range(1, 6)), grown(range(11, 18))


def test_two_logs_of_one_size_are_proved() -> None:
    evidence = two_views(KEY, HONEST.note(COORDINATOR, size=12), HONEST.replay.tree, OTHER.note(COORDINATOR, size=12))
    found = report(evidence)
    assert (found.kind, found.proved, found.member, found.says) == ("two-views", True, MEMBER.key_id, "what was seen")
    assert "two different logs of 12 entries" in found.text


@pytest.mark.parametrize(("held", "shown"), [(13, 10), (14, 12), (12, 10), (14, 13)])
def test_a_smaller_log_that_ours_does_not_contain_is_proved(held: int, shown: int) -> None:
    """A rewritten or shrunk tree: our own copy gives the proof."""
    notes = HONEST.note(COORDINATOR, size=held), OTHER.note(COORDINATOR, size=shown)
    assert report(two_views(KEY, notes[0], HONEST.replay.tree, notes[1])).proved


@pytest.mark.parametrize(("held", "shown"), [(10, 16), (12, 13), (14, 16), (11, 12)])
def test_a_larger_log_that_does_not_contain_ours_is_proved_once_its_leaves_are_seen(held: int, shown: int) -> None:
    notes = HONEST.note(COORDINATOR, size=held), OTHER.note(COORDINATOR, size=shown)
    assert two_views(KEY, notes[0], HONEST.replay.tree, notes[1]) is None
    assert two_views(KEY, notes[0], HONEST.replay.tree, notes[1], HONEST.replay.tree) is None
    found = report(two_views(KEY, notes[0], HONEST.replay.tree, notes[1], OTHER.replay.tree))
    assert found.proved
    assert "does not begin with" in found.text


@pytest.mark.parametrize(("held", "shown"), [(12, 12), (14, 10), (9, 9)])
def test_heads_of_one_log_are_no_evidence(held: int, shown: int) -> None:
    notes = HONEST.note(COORDINATOR, size=held), HONEST.note(COORDINATOR, size=shown)
    assert two_views(KEY, notes[0], HONEST.replay.tree, notes[1]) is None
    assert two_views(KEY, notes[1], HONEST.replay.tree, notes[0], HONEST.replay.tree) is None


def test_a_note_of_another_key_is_no_evidence() -> None:
    forged = OTHER.note(SigningKey(b"\x66" * 32), size=12)
    assert two_views(KEY, HONEST.note(COORDINATOR, size=12), HONEST.replay.tree, forged) is None
    assert two_views(KEY, b"", HONEST.replay.tree, forged) is None


@pytest.mark.parametrize("trick", ["same note", "other key", "other origin", "wrong root", "wrong proof", "no proof"])
def test_an_honest_coordinator_cannot_be_framed(trick: str) -> None:
    """Fails when a check of `verify_evidence` is left out."""
    small, large = HONEST.note(COORDINATOR, size=11), HONEST.note(COORDINATOR, size=14)
    proof = tuple(HONEST.replay.tree.consistency_proof(11, 14))
    elsewhere = sign_checkpoint(Checkpoint("elsewhere", 14, bytes(32)), COORDINATOR, "elsewhere").encode()
    evidence = {
        "same note": Evidence("two-views", (small, small), proofs=((),)),
        "other key": Evidence("two-views", (small, OTHER.note(SigningKey(b"\x66" * 32), size=11)), proofs=((),)),
        "other origin": Evidence("two-views", (large, elsewhere), proofs=((),)),
        "wrong root": Evidence("two-views", (small, large), root=bytes(32), proofs=(proof,)),
        "wrong proof": Evidence("two-views", (small, large), root=OTHER.replay.tree.root(11), proofs=(proof[::-1],)),
        "no proof": Evidence("two-views", (small, large), root=OTHER.replay.tree.root(11), proofs=((),)),
    }[trick]
    found = report(evidence)
    assert not found.proved
    assert "word of the member" in found.text
    assert not report(Evidence("two-views", (small, large), HONEST.replay.tree.root(11), (proof,))).proved


def withheld() -> tuple[Ledger, Entry]:
    """A log that lacks an app between two others of the coordinator."""
    whole = grown(range(1, 4))
    ledger = Ledger.of(whole.frames[:10])
    assert ledger.force(whole.frames[11]) == "broken-chain"
    return ledger, read_entry(whole.frames[11])


def test_a_withheld_entry_is_proved() -> None:
    """Fails without the look for the predecessor among the leaves."""
    ledger, entry = withheld()
    note = ledger.note(COORDINATOR, size=11)
    evidence = disorder(KEY, note, ledger.replay.tree, 10, entry, [COORDINATOR.public_key])
    found = report(evidence)
    assert (found.kind, found.proved) == ("withheld-entry", True)
    assert "entry 10" in found.text


@pytest.mark.parametrize("trick", ["honest log", "other index", "other key", "other leaves", "cut leaves"])
def test_a_whole_log_withholds_nothing(trick: str) -> None:
    ledger, entry = withheld()
    note, leaves = ledger.note(COORDINATOR, size=11), ledger.replay.tree.leaves()[: 11 * 32]
    whole = grown(range(1, 3))
    honest, note_of_whole = whole.replay.tree.leaves(), whole.note(COORDINATOR)
    public_key = COORDINATOR.public_key
    late = app(whole, 3)
    evidence = {
        "honest log": Evidence(
            "withheld-entry",
            (whole.note(COORDINATOR),),
            b"",
            (),
            late.frame.data,
            11,
            public_key,
            whole.replay.tree.leaves(),
        ),
        "other index": Evidence("withheld-entry", (note,), b"", (), entry.frame.data, 9, public_key, leaves),
        "other key": Evidence("withheld-entry", (note,), b"", (), entry.frame.data, 10, MEMBER.public_key, leaves),
        "other leaves": Evidence("withheld-entry", (note,), b"", (), entry.frame.data, 10, public_key, honest),
        "cut leaves": Evidence("withheld-entry", (note_of_whole,), b"", (), late.frame.data, 11, public_key, honest),
    }[trick]
    assert not report(evidence).proved


def foreign() -> tuple[Ledger, Entry]:
    """A log with an entry whose author had seen another one."""
    ledger = grown(range(1, 3))
    other = grown(range(11, 13))
    odd = ledger.sign(COORDINATOR, "app", {"name": "odd", "digest": "ab" * 32}, key="odd", head=other.head)
    assert ledger.force(odd.frame.data) == "other-history"
    return ledger, odd


def test_an_entry_that_saw_another_log_is_proved() -> None:
    ledger, odd = foreign()
    evidence = disorder(KEY, ledger.note(COORDINATOR), ledger.replay.tree, 11, odd, [COORDINATOR.public_key])
    found = report(evidence)
    assert (found.kind, found.proved) == ("other-history", True)
    assert "another history of 11 entries" in found.text


def test_an_entry_that_saw_more_than_there_was_is_proved() -> None:
    ledger = grown(range(1, 3))
    head = grown(range(1, 6)).head
    odd = ledger.sign(COORDINATOR, "app", {"name": "odd", "digest": "ab" * 32}, key="odd", head=head)
    assert ledger.force(odd.frame.data) == "other-history"
    evidence = disorder(KEY, ledger.note(COORDINATOR), ledger.replay.tree, 11, odd, [COORDINATOR.public_key])
    assert report(evidence).proved


def test_an_entry_that_saw_this_log_proves_nothing() -> None:
    ledger = grown(range(1, 3))
    entry = app(ledger, 3)
    tree = ledger.replay.tree
    proofs = tuple(tree.consistency_proof(11, 12)), tuple(tree.inclusion_proof(11, 12))
    evidence = Evidence(
        "other-history",
        (ledger.note(COORDINATOR),),
        tree.root(11),
        proofs,
        entry.frame.data,
        11,
        COORDINATOR.public_key,
    )
    assert not report(evidence).proved


def test_a_note_that_does_not_cover_what_is_here_gives_no_evidence() -> None:
    ledger, odd = foreign()
    for note in (b"", ledger.note(SigningKey(b"\x66" * 32)), OTHER.note(COORDINATOR, size=12)):
        assert disorder(KEY, note, ledger.replay.tree, 11, odd, [COORDINATOR.public_key]) is None


def test_testimony_says_that_it_is_one() -> None:
    found = report(unproved(HONEST.note(COORDINATOR), b""))
    assert (found.kind, found.proved, found.says) == ("testimony", False, "what was seen")
    assert "signed checkpoints of 14 entries" in found.text
    assert not report(unproved()).proved


def test_without_a_genesis_the_file_names_its_own() -> None:
    found = report(unproved(), genesis=None)
    assert found.consortium == HONEST.state.genesis


def test_evidence_about_another_consortium_is_refused() -> None:
    other = World()
    founding = other.ledger.add(other.coordinator, "genesis", documents.genesis(other.coordinator) | {"name": "Other"})
    with pytest.raises(EntryError, match="another consortium"):
        report(unproved(), genesis=founding.frame.data)


def test_a_file_that_was_changed_is_refused() -> None:
    data = write_evidence(unproved(), "what was seen", GENESIS, MEMBER)
    file = json.loads(data)
    file["evidence"]["text"] = "what was not seen"
    with pytest.raises(SignatureError):
        verify_evidence(canonical(file), GENESIS)
    with pytest.raises(EncodingError):
        verify_evidence(json.dumps(json.loads(data)).encode(), GENESIS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "guess"),
        ("kind", "two-views"),
        ("notes", ["!"]),
        ("index", "1"),
        ("root", "zz"),
        ("genesis", ""),
        ("proofs", 3),
    ],
)
def test_a_file_of_another_shape_is_refused(field: str, value: object) -> None:
    file = json.loads(write_evidence(unproved(), "seen", GENESIS, MEMBER))
    file["evidence"][field] = value
    with pytest.raises(ConsortiumError):
        verify_evidence(canonical(file), None)


def test_a_file_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(LimitError):
        verify_evidence(b" " * (EVIDENCE_BYTES_MAX + 1), None)


@settings(max_examples=60)
@given(st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=5), lambda v: st.lists(v, max_size=3)), st.data())
def test_any_value_in_any_field_gives_a_declared_error_or_no_proof(value: object, data: st.DataObject) -> None:
    evidence = two_views(KEY, HONEST.note(COORDINATOR, size=12), HONEST.replay.tree, OTHER.note(COORDINATOR, size=12))
    assert evidence is not None
    file = json.loads(write_evidence(evidence, "seen", GENESIS, MEMBER))
    place = data.draw(st.sampled_from(["file", "evidence"]))
    target = file if place == "file" else file["evidence"]
    field = data.draw(st.sampled_from(sorted(target)))
    assume(target[field] != value)  # an unchanged file is sound
    target[field] = value
    with pytest.raises(ConsortiumError):
        verify_evidence(canonical(file), GENESIS)


@settings(max_examples=60)
@given(st.integers(9, 14), st.integers(9, 16), st.integers(0, 14))
def test_a_member_that_follows_gets_a_proof_wherever_the_logs_part(held: int, shown: int, common: int) -> None:
    """Two trees that part at any place: the notes and the leaves suffice, and trees that do not part give nothing."""
    ours, theirs = Tree(), Tree()
    for index in range(16):
        ours.append(bytes([index]) * 32)
        theirs.append(bytes([index + (200 if index >= common else 0)]) * 32)
    notes = [
        sign_checkpoint(Checkpoint(documents.ORIGIN, size, tree.root(size)), COORDINATOR, documents.ORIGIN).encode()
        for size, tree in ((held, ours), (shown, theirs))
    ]
    evidence = two_views(KEY, notes[0], ours, notes[1], theirs)
    assert (evidence is not None) == (common < min(held, shown))
    if evidence is not None:
        assert report(evidence).proved
