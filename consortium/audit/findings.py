"""The values of an audit: what goes in, what is found, what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consortium.encoding import Json


@dataclass(frozen=True)
class Export:
    """What a coordinator or member hands to an auditor.

    Attributes:
        checkpoint: the signed note over all of it.
        frames: the entries in order.
        transcripts: the transcripts of the secure sums, by SHA-256 in hex.
        contacts: the contact records that were not erased, by SHA-256 in hex.
    """

    checkpoint: bytes
    frames: Sequence[bytes]
    transcripts: Mapping[str, bytes]
    contacts: Mapping[str, bytes] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Finding:
    """Something that must not be: a stable code, the index of the entry where it shows, and a sentence."""

    code: str
    index: int | None
    text: str


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, and what it counted; `not_evaluated` names what an export cannot show."""

    findings: tuple[Finding, ...]
    figures: dict[str, Json]
    not_evaluated: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


NOT_EVALUATED = (
    "Policy decisions are recorded by hash and clause id; without the member's disclosure they are not re-evaluated.",
    "What a node computed from its own rows cannot be seen; only that its signed masked vector is in the sum.",
)
