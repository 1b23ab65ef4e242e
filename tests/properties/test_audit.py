"""No byte of an export is free: whatever is changed, the audit names something."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.audit import audit_export
from tests.worlds import World, honest_world

EXPORT = honest_world()[0].export()
FRAMES = EXPORT.frames
_SMALL = World().found().join().offer()
_SMALL.ask()
SMALL = _SMALL.export()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(FRAMES) - 1), st.data(), st.integers(1, 255))
def test_one_byte_changed_in_any_entry_is_named_where_it_stands(index: int, data: st.DataObject, change: int) -> None:
    frame = bytearray(FRAMES[index])
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= change
    export = replace(EXPORT, frames=(*FRAMES[:index], bytes(frame), *FRAMES[index + 1 :]))
    findings = audit_export(export, FRAMES[0]).findings
    assert any(finding.index == index for finding in findings)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(0, len(FRAMES) - 6))
def test_entries_in_another_order_are_named(order: list[int], start: int) -> None:
    moved = [FRAMES[start + place] for place in order]
    export = replace(EXPORT, frames=(*FRAMES[:start], *moved, *FRAMES[start + 6 :]))
    assert audit_export(export, FRAMES[0]).ok == (order == sorted(order))


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 255))
def test_one_byte_changed_in_a_transcript_is_named(data: st.DataObject, change: int) -> None:
    ((name, transcript),) = SMALL.transcripts.items()
    spoiled = bytearray(transcript)
    spoiled[data.draw(st.integers(0, len(spoiled) - 1))] ^= change
    export = replace(SMALL, transcripts={name: bytes(spoiled)})
    assert [finding.code for finding in audit_export(export, SMALL.frames[0]).findings] == ["bad-sum"]


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 255))
def test_one_byte_changed_in_the_checkpoint_is_named(data: st.DataObject, change: int) -> None:
    spoiled = bytearray(SMALL.checkpoint)
    spoiled[data.draw(st.integers(0, len(spoiled) - 1))] ^= change
    findings = audit_export(replace(SMALL, checkpoint=bytes(spoiled)), SMALL.frames[0]).findings
    assert [finding.code for finding in findings] == ["bad-checkpoint"]
