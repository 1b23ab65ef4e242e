"""Recomputes a secure sum from its transcript and holds it to what the ledger says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consortium.encoding import digest_of, sha256
from consortium.errors import SecureSumError
from consortium.keys import open_frame
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
    keys = {member: state.members[member].public_key for member in transcript.spec.roster}
    total = verify_transcript(transcript, transcript.spec, keys)
    if vector_digest(total).hex() != body["total_sha256"]:
        raise SecureSumError("The transcript gives another sum than the entry records.")
    survivors = tuple(sorted(transcript_survivors(transcript)))
    if [member.hex() for member in survivors] != body["survivors"]:
        raise SecureSumError("The transcript has other survivors than the entry records.")
    return Summed(total, survivors)


def transcript_survivors(transcript: Transcript) -> tuple[bytes, ...]:
    """The members whose masked vector a verified transcript holds."""
    return tuple(open_frame(frame).key_id for frame in transcript.masked)


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
