"""Double-masked secure sum against a malicious coordinator: a pure API, see README.md."""

from consortium.privacy.secure_sum.aggregator import Aggregator
from consortium.privacy.secure_sum.participant import Participant
from consortium.privacy.secure_sum.spec import LocalRules, SumSpec, WordBits, minimum_threshold
from consortium.privacy.secure_sum.transcript import Transcript
from consortium.privacy.secure_sum.verify import verify_transcript
from consortium.privacy.secure_sum.words import Words, add_words, decode_signed, encode_signed

__all__ = [
    "Aggregator",
    "LocalRules",
    "Participant",
    "SumSpec",
    "Transcript",
    "WordBits",
    "Words",
    "add_words",
    "decode_signed",
    "encode_signed",
    "minimum_threshold",
    "verify_transcript",
]
