"""What an auditor runs: the same sum again, from its transcript alone."""

from __future__ import annotations

from collections.abc import Mapping

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum.aggregator import Aggregator
from consortium.privacy.secure_sum.spec import SumSpec
from consortium.privacy.secure_sum.transcript import Transcript
from consortium.privacy.secure_sum.words import Words


def verify_transcript(transcript: Transcript, spec: SumSpec, public_keys: Mapping[bytes, bytes]) -> Words:
    """Recomputes the total of a finished sum, checking every signature, commitment and share on the way.

    Args:
        transcript: the record of the sum.
        spec: the sum that it must be of, from documents that the auditor trusts (the ledger).
        public_keys: the members' Ed25519 keys by key id, from the ledger.

    Raises:
        SecureSumError: it is of another sum, not finished, or anything in it is wrong; says what and whose.
    """
    if transcript.spec != spec:
        raise SecureSumError("The transcript is of another sum.", where="spec")
    if len(transcript.vectors) != len(transcript.masked):
        raise SecureSumError("The transcript must hold one vector for every masked frame.", where="vectors")
    again = Aggregator(spec, public_keys)
    for frame in transcript.adverts:
        again.add_advert(frame)
    again.adverts()
    for frame in transcript.shares:
        again.add_shares(frame)
    again.shares()
    for frame, vector in zip(transcript.masked, transcript.vectors, strict=True):
        again.add_masked(frame, vector)
    again.survivors()
    for frame in transcript.votes:
        again.add_vote(frame)
    for frame in transcript.reveals:
        again.add_reveal(frame)
    if again.transcript().digest() != transcript.digest():
        raise SecureSumError("The frames of the transcript are doubled or out of order.", where="transcript")
    return again.total()
