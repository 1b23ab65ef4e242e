"""Whatever bytes arrive, the parsers of notes, proofs, tiles, bundles and entries refuse with their own errors.

Each test mutates valid documents and makes up new ones. A soak run tries 120,000 inputs in all, CI a tenth: Hypothesis
draws seeds, each seed makes a batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consortium.audit.report import Audit
from consortium.audit.saved import load_audit, save_audit
from consortium.encoding import canonical, parse
from consortium.errors import CheckpointError, ConsortiumError, EncodingError, LimitError, ProofError
from consortium.keys import FRAME_VERSION, PREFIX_BYTES, SigningKey, open_frame, pae
from consortium.ledger.checkpoint import (
    Checkpoint,
    NoteKey,
    format_checkpoint,
    format_note,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)
from consortium.ledger.entry import read_entry
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.patterns import read_plain
from consortium.ledger.proof import EntryProof, check_proof, format_proof, parse_proof
from consortium.ledger.tiles import TileProver, decode_bundle, encode_bundle
from consortium.ledger.tree import Tree
from tests.worlds import honest_world

pytestmark = pytest.mark.soak
BATCH = 60
BATCHES = 200 if os.environ.get("CONSORTIUM_SOAK") == "1" else 20
many = settings(max_examples=BATCHES, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**64 - 1).map(Random)
PIECES = (b"\n", b"\n\n", b'"', b"0", b"{", b"\xff", b",", b" ", b"=", b"+")

SIGNER = SigningKey(b"\x31" * 32)
KEY = NoteKey("example.com/log", SIGNER.public_key)
FRAMES = tuple(honest_world()[0].ledger.frames)
TREE = Tree()
for _frame in FRAMES:
    TREE.append(leaf_hash(_frame))
NOTE = sign_checkpoint(Checkpoint(KEY.name, len(FRAMES), TREE.root()), SIGNER, KEY.name).encode()
PROOFS = [
    format_proof(EntryProof(index, tuple(TREE.inclusion_proof(index, len(FRAMES))), NOTE, FRAMES[index]))
    for index in (0, 17, len(FRAMES) - 1)
]
STATE = save_audit(Audit())


def spoiled(random: Random, *seeds: bytes) -> Iterator[bytes]:
    """Valid documents with a few bytes flipped, cut, doubled, inserted or exchanged; and now and then any bytes."""
    for _ in range(BATCH):
        if random.random() < 0.1:
            yield random.randbytes(random.randrange(300))
            continue
        data = bytearray(random.choice(seeds))
        for _ in range(random.randrange(4)):
            start = random.randrange(len(data) + 1)
            end = min(len(data), start + random.randrange(9))
            how = random.randrange(4)
            if how == 0:
                data[start:end] = random.choice((*PIECES, random.randbytes(3)))
            elif how == 1:
                data[start:start] = data[start:end]
            elif how == 2 and random.random() < 0.3:
                del data[start:]
            elif data:
                data[start % len(data)] ^= 1 << random.randrange(8)
        yield bytes(data)


def outcome(declared: tuple[type[ConsortiumError], ...], parser: Callable[..., Any], *arguments: object) -> Any:
    """What the parser makes of its arguments; None if it refuses with a declared error, and anything else fails."""
    try:
        return parser(*arguments)
    except declared:
        return None


@many
@given(SEEDS)
def test_notes(random: Random) -> None:
    for data in spoiled(random, NOTE):
        note = outcome((CheckpointError,), parse_note, data)
        if note is not None:
            assert format_note(note).encode() == data
        found = outcome((CheckpointError,), open_checkpoint, data, [KEY])
        assert found is None or (found == Checkpoint(KEY.name, len(FRAMES), TREE.root()))


@many
@given(SEEDS)
def test_checkpoint_texts(random: Random) -> None:
    for data in spoiled(random, NOTE.partition(b"\n\n")[0] + b"\n", b"a\n18446744073709551615\nAAAA\n"):
        text = data.decode("utf-8", "replace")
        checkpoint = outcome((CheckpointError,), parse_checkpoint, text)
        if checkpoint is not None:
            assert format_checkpoint(checkpoint) == text


@many
@given(SEEDS)
def test_verifier_keys(random: Random) -> None:
    for data in spoiled(random, KEY.vkey().encode(), b"a+00000000+AAAA"):
        text = data.decode("utf-8", "replace")
        key = outcome((CheckpointError,), NoteKey.parse, text)
        assert key is None or key.vkey() == text


@many
@given(SEEDS)
def test_proof_files(random: Random) -> None:
    for data in spoiled(random, *PROOFS):
        proof = outcome((ProofError,), parse_proof, data)
        if isinstance(proof, EntryProof):
            assert format_proof(proof) == data
            if outcome((ProofError, CheckpointError), check_proof, proof, [KEY]) is not None:
                assert proof.extra == FRAMES[proof.index]  # nothing but what the log signed is ever proved


@many
@given(SEEDS)
def test_entry_bundles(random: Random) -> None:
    for data in spoiled(random, encode_bundle(FRAMES[:5]), encode_bundle([b""] * 3)):
        count = random.randint(0, 6)
        frames = outcome((EncodingError,), decode_bundle, data, count)
        if isinstance(frames, list):
            assert len(frames) == count
            assert encode_bundle(frames) == data


@many
@given(SEEDS)
def test_hash_tiles(random: Random) -> None:
    for data in spoiled(random, b"".join(map(leaf_hash, FRAMES))):
        size, index = random.randint(-1, 400), random.randint(-1, 400)
        proof = outcome((ProofError,), proved, data, size, index)
        assert proof is None or all(len(item) == 32 for item in proof)
        outcome((ProofError,), extended, data, index, size)
        if outcome((ProofError,), tile_root, data) == TREE.root():
            assert data == b"".join(map(leaf_hash, FRAMES))


def tile_root(tile: bytes) -> bytes:
    return TileProver(lambda *_: tile, len(FRAMES)).root()


def proved(tile: bytes, size: int, index: int) -> list[bytes]:
    return TileProver(lambda *_: tile, size).inclusion_proof(index)


def extended(tile: bytes, old_size: int, new_size: int) -> list[bytes]:
    return TileProver(lambda *_: tile, new_size).consistency_proof(old_size, new_size)


@many
@given(SEEDS)
def test_frames_and_entries(random: Random) -> None:
    for data in spoiled(random, *FRAMES):
        frame = outcome((ConsortiumError,), open_frame, data)
        entry = outcome((ConsortiumError,), read_entry, data)
        assert entry is None or frame == entry.frame


@many
@given(SEEDS)
def test_payloads_are_read_alike_by_pattern_and_by_the_general_path(random: Random) -> None:
    for payload in spoiled(random, *(open_frame(frame).payload for frame in FRAMES)):
        frame = random.choice(FRAMES)
        kind = open_frame(frame).payload_type
        data = FRAME_VERSION + frame[1:PREFIX_BYTES] + pae(kind, payload)
        assert_read_alike(data)


@many
@given(SEEDS)
def test_encodings_are_read_alike_by_pattern_and_by_the_general_path(random: Random) -> None:
    for message in spoiled(random, *(frame[PREFIX_BYTES:] for frame in FRAMES)):
        frame = random.choice(FRAMES)
        assert_read_alike(frame[:PREFIX_BYTES] + message)


@many
@given(SEEDS)
def test_json(random: Random) -> None:
    for data in spoiled(
        random, *(open_frame(frame).payload for frame in FRAMES), b'{"a":[1,{"b":-9007199254740991}],"c":null}'
    ):
        try:
            value = parse(data)
        except (EncodingError, LimitError):
            continue
        assert canonical(value) == data


def assert_read_alike(data: bytes) -> None:
    """If the pattern reads the bytes, the general path reads the same; what it refuses, the pattern does not read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consortium.ledger.entry.read_plain", lambda _message: None)
        general = outcome((ConsortiumError,), read_entry, data)
    entry = outcome((ConsortiumError,), read_entry, data)
    assert entry == general
    assert read_plain(data) is None or general is not None


def test_the_frequent_kinds_of_an_honest_log_are_read_by_pattern() -> None:
    kinds = {read_entry(frame).kind for frame in FRAMES if read_plain(frame) is not None}
    assert kinds == {"abort", "decision", "job", "spend", "sum", "result"}
    for frame in FRAMES:
        assert_read_alike(frame)


@pytest.mark.parametrize(
    "request_text",
    [
        *("[" * depth + "]" * depth for depth in range(11, 17)),  # 14 levels more make 16 with those around it
        '{"b":1,"a":2}',
        '{"a":1.0}',
        '{"a":1}}',
        '{"a":1},"other":{}',
        '{"a":"},\\"consortium\\":"}',
        '{"é":"é"}',
        '{"é":"\\u00e9"}',
        "7",
    ],
)
def test_a_request_within_a_job_is_read_alike(request_text: str) -> None:
    job = next(frame for frame in FRAMES if read_entry(frame).kind == "job")
    opened = open_frame(job)
    text = opened.payload.decode()
    start = text.index('"request":') + len('"request":')
    end = text.index('},"consortium"')
    for request in (request_text, '{"a":' + request_text + "}"):
        payload = (text[:start] + request + text[end:]).encode()
        assert_read_alike(job[:PREFIX_BYTES] + pae(opened.payload_type, payload))


@many
@given(SEEDS)
def test_saved_states(random: Random) -> None:
    for data in spoiled(random, STATE):
        audit = outcome((EncodingError,), load_audit, data)
        assert (audit is not None) == (data == STATE)
