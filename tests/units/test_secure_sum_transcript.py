"""An auditor recomputes the total from a transcript alone, and names what is wrong with a spoiled one."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum import Transcript, decode_signed, verify_transcript
from consortium.privacy.secure_sum.messages import Reveal, open_message, sign_message
from tests.units.secure_sum_party import Party


def finished(word_bits: int = 32) -> tuple[Party, Transcript]:
    """A sum of nodes 0, 1, 2 and 4 of 5, in which node 4 died after submitting and node 3 before."""
    party = Party(6, word_bits=word_bits)
    party.reveal([0, 1, 2, 5, 4], masking=[0, 1, 2, 4, 5])
    return party, party.server.transcript()


@pytest.mark.parametrize("word_bits", [32, 128])
def test_auditor_recomputes_the_total_from_bytes(word_bits: int) -> None:
    party, transcript = finished(word_bits)
    data = transcript.to_bytes()
    read = Transcript.from_bytes(data)
    assert read == transcript
    assert read.to_bytes() == data
    assert read.digest() == transcript.digest() == hashlib.sha256(data).digest()
    total = verify_transcript(read, party.spec, party.public_keys)
    np.testing.assert_array_equal(total, party.server.total())
    assert list(decode_signed(total, word_bits)) == party.plain_sum([0, 1, 2, 4, 5])


def refused(party: Party, transcript: Transcript, match: str) -> SecureSumError:
    with pytest.raises(SecureSumError, match=match) as error:
        verify_transcript(transcript, party.spec, party.public_keys)
    return error.value


def test_transcript_of_another_sum_is_refused() -> None:
    """Fails without the comparison of specs in `verify_transcript`."""
    party, transcript = finished()
    with pytest.raises(SecureSumError, match="The transcript is of another sum"):
        verify_transcript(transcript, replace(party.spec, input_model=b"m" * 32), party.public_keys)


def test_transcript_relabelled_for_another_round_is_refused() -> None:
    """Fails without the session check in `open_message`."""
    party, transcript = finished()
    other = replace(party.spec, round=9)
    with pytest.raises(SecureSumError, match="belongs to another sum"):
        verify_transcript(replace(transcript, spec=other), other, party.public_keys)


def test_changed_vector_is_named() -> None:
    """Fails without the hash comparison in `Aggregator.add_masked`."""
    party, transcript = finished()
    vectors = [vector.copy() for vector in transcript.vectors]
    vectors[1][0] += 1
    error = refused(party, replace(transcript, vectors=tuple(vectors)), "not the one that its sender signed")
    assert party.spec.roster[1].hex() in error.where
    swapped = (transcript.vectors[1], transcript.vectors[0], *transcript.vectors[2:])
    refused(party, replace(transcript, vectors=swapped), "not the one that its sender signed")
    refused(party, replace(transcript, vectors=transcript.vectors[1:]), "one vector for every masked frame")


def test_left_out_vector_is_named() -> None:
    """Fails without the comparison of votes with the survivors whose vectors are there."""
    party, transcript = finished()
    party6 = replace(transcript, masked=transcript.masked[1:], vectors=transcript.vectors[1:])
    refused(party, party6, "4 masked vectors|another survivor set|the threshold")


def test_too_few_votes_or_reveals_are_named() -> None:
    """Fails without the quorum in `Aggregator.total`."""
    party, transcript = finished()
    refused(party, replace(transcript, votes=transcript.votes[:4]), "4 votes; the threshold is 5")
    refused(party, replace(transcript, reveals=transcript.reveals[:4]), "4 reveals; the threshold is 5")
    refused(party, replace(transcript, votes=()), "0 votes")


def test_missing_or_doubled_set_up_is_named() -> None:
    party, transcript = finished()
    refused(party, replace(transcript, adverts=transcript.adverts[1:]), "sent no adverts")
    refused(party, replace(transcript, shares=transcript.shares[1:]), "sent no shares")
    refused(party, replace(transcript, votes=(*transcript.votes, transcript.votes[0])), "doubled or out of order")
    refused(party, replace(transcript, votes=transcript.votes[::-1]), "doubled or out of order")


def test_frames_in_the_wrong_step_are_refused() -> None:
    party, transcript = finished()
    refused(party, replace(transcript, votes=transcript.reveals), "another kind")


def test_member_both_alive_and_dead_in_a_transcript_is_refused() -> None:
    """Fails without the overlap check in `Reveal.from_json`."""
    party, transcript = finished()
    sender, reveal = open_message(transcript.reveals[0], party.spec, party.public_keys, Reveal)
    signer = next(signer for signer in party.signers if signer.key_id == sender)
    dead = {**reveal.key_shares, party.spec.roster[1]: reveal.seed_shares[party.spec.roster[1]]}
    both = sign_message(signer, party.spec, replace(reveal, key_shares=dead))
    error = refused(party, replace(transcript, reveals=(both, *transcript.reveals[1:])), "both alive and dead")
    assert error.blamed == (sender,)


def test_transcript_bytes_beyond_their_limits_are_refused() -> None:
    _, transcript = finished()
    data = transcript.to_bytes()
    for bad, match in [
        (b"", "truncated"),
        (b"x" + data[1:], "not a transcript"),
        (data[:-1], "truncated"),
        (data + b"x", "bytes after its end"),
        (data[:36] + b"\xff\xff\xff\xff" + data[40:], "above 16384"),
        (data[:40] + b"[" + data[41:], "spec|JSON"),
    ]:
        with pytest.raises(SecureSumError, match=match):
            Transcript.from_bytes(bad)


def test_transcript_with_more_frames_than_members_is_refused() -> None:
    _, transcript = finished()
    crowded = replace(transcript, adverts=transcript.adverts * 2)
    with pytest.raises(SecureSumError, match="above 6"):
        Transcript.from_bytes(crowded.to_bytes())
