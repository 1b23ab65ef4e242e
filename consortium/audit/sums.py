"""Recomputes a secure sum from its transcript and holds it to what the ledger says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consortium.encoding import digest_of, sha256
from consortium.errors import SecureSumError
from consortium.keys import key_id, open_frame
from consortium.privacy.secure_sum import SumSpec, Transcript, verify_transcript
from consortium.privacy.secure_sum.words import vector_digest
from consortium.state import Job, Recorded, State


@dataclass(frozen=True)
class Summed:
    """A sum that was recomputed: the words and who is in it."""

    total: npt.NDArray[np.uint32]
    survivors: tuple[bytes, ...]


def verify_sum(state: State, job: Job, record: Recorded, transcripts: Mapping[str, bytes]) -> Summed:
    """Checks a `sum` entry against its transcript.

    Raises:
        SecureSumError: the transcript is missing, was changed, is of another sum, or gives another total.
    """
    body = record.body
    data = transcripts.get(body["transcript_sha256"])
    if data is None or sha256(data).hex() != body["transcript_sha256"]:
        raise SecureSumError(
            "The export lacks the transcript that the entry commits to.", mend="Ask for a whole export."
        )
    transcript = Transcript.from_bytes(data)
    _check_spec(state, job, record, transcript.spec)
    keys = _keys_of(state, job, record, transcript)
    total = verify_transcript(transcript, transcript.spec, keys)
    if vector_digest(total).hex() != body["total_sha256"]:
        raise SecureSumError("The transcript gives another sum than the entry records.")
    survivors = tuple(sorted(transcript_survivors(transcript, keys)))
    if [member.hex() for member in survivors] != body["survivors"]:
        raise SecureSumError("The transcript has other survivors than the entry records.")
    return Summed(total, survivors)


def transcript_survivors(transcript: Transcript, keys: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The members whose masked vector a verified transcript holds; `keys` are those that it was verified with."""
    members = {key_id(public_key): member for member, public_key in keys.items()}
    return tuple(members[open_frame(frame).key_id] for frame in transcript.masked)


def _keys_of(state: State, job: Job, record: Recorded, transcript: Transcript) -> dict[bytes, bytes]:
    """The key of each member of the roster: of those in force between the job and the sum, the one that advertised."""
    named = {open_frame(frame).key_id for frame in transcript.adverts}
    found = {}
    for member in transcript.spec.roster:
        held = state.members[member].keys_between(job.index, record.index)
        found[member] = next((key for key in held if key_id(key) in named), held[-1])
    return found


def _check_spec(state: State, job: Job, record: Recorded, spec: SumSpec) -> None:
    expected = (
        state.genesis,
        job.id,
        record.body["round"],
        record.body["roster"],
        bytes.fromhex(digest_of(job.body)),
    )
    actual = (spec.consortium, spec.job, spec.round, [member.hex() for member in spec.roster], spec.request)
    if actual != expected:
        raise SecureSumError("The transcript is of another sum than the entry says.")
