"""Entries under damage: what is read back is what was signed, whatever happens to a byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.errors import ConsortiumError, SignatureError
from consortium.ledger.entry import read_entry
from tests.worlds import honest_world

WORLD = honest_world()[0]
FRAMES = WORLD.ledger.frames
KEYS = {member: WORLD.ledger.state.members[member].public_key for member in WORLD.ledger.state.members}


def is_authentic(data: bytes) -> bool:
    """Whether the bytes are an entry signed by the party that it names; only a refusal may come instead."""
    try:
        entry = read_entry(data)
    except ConsortiumError:
        return False
    public_key = KEYS.get(entry.author)
    if public_key is None:
        return False
    try:
        entry.frame.verify(public_key)
    except SignatureError:
        return False
    return True


@given(st.sampled_from(FRAMES))
def test_every_entry_of_an_honest_log_is_authentic_and_reads_to_itself(frame: bytes) -> None:
    assert is_authentic(frame)
    assert read_entry(frame).frame.data == frame


@settings(max_examples=300)
@given(st.sampled_from(FRAMES), st.data(), st.integers(1, 255))
def test_an_entry_with_any_byte_changed_is_not_authentic(frame: bytes, data: st.DataObject, change: int) -> None:
    position = data.draw(st.integers(0, len(frame) - 1))
    spoiled = bytearray(frame)
    spoiled[position] ^= change
    assert not is_authentic(bytes(spoiled))


@given(st.sampled_from(FRAMES), st.data())
def test_an_entry_that_is_cut_or_extended_is_not_authentic(frame: bytes, data: st.DataObject) -> None:
    assert not is_authentic(frame[: data.draw(st.integers(0, len(frame) - 1))])
    assert not is_authentic(frame + data.draw(st.binary(min_size=1, max_size=8)))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    assert not is_authentic(data)
