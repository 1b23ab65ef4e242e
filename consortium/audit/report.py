"""Verifies an export of the ledger offline: signatures, chains, roots, rules, sums, scores and settlements.

Nothing is taken on trust but the genesis. The privacy of what ran is enforced by the nodes; the audit shows that what
they recorded is complete, in order, within budget, approved, and adds up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from consortium.audit.checks import check_heads, check_job
from consortium.audit.contacts import check_contacts
from consortium.audit.figures import figures_of
from consortium.audit.findings import NOT_EVALUATED, AuditReport, Export, Finding
from consortium.encoding import Json
from consortium.ledger.entry import Entry
from consortium.ledger.merkle import leaf_hash
from consortium.replay import Replay, Step

GOVERNANCE = frozenset({"committee", "handover", "proposal", "rotation", "vote"})


@dataclass
class Audit:
    """A running audit: entries are fed in order, then it is closed against a checkpoint.

    Attributes:
        kinds: number of readable entries by kind.
        found: what was found in entries so far.
        void: number of entries without effect.
        ballots: the entries by which the consortium governs itself, void ones too, as plain documents.
        sums_recomputed: the sums that closed audits of this state have recomputed.
        sums_from: sums recorded at this index or later are still to be recomputed.
    """

    replay: Replay = field(default_factory=Replay)
    kinds: Counter[str] = field(default_factory=Counter)
    found: list[Finding] = field(default_factory=list)
    void: int = 0
    ballots: list[dict[str, Json]] = field(default_factory=list)
    sums_recomputed: int = 0
    sums_from: int = 0

    @property
    def size(self) -> int:
        """The number of entries that were fed."""
        return self.replay.state.size

    def feed(self, frame: bytes, signed_by: bytes | None = None) -> Step:
        """Takes the next entry; `signed_by` as in `Replay.feed`."""
        step = self.replay.feed(frame, signed_by)
        if step.fault is not None:
            self.void += 1
            self.found.append(Finding(step.fault.code, step.index, step.fault.text))
        entry = step.entry
        if entry is not None:
            self.kinds[entry.kind] += 1
            if entry.kind in GOVERNANCE:
                self.ballots.append(_ballot(step, entry))
        return step

    def close(
        self,
        checkpoint: bytes,
        genesis: bytes,
        transcripts: Mapping[str, bytes],
        saved: bytes | None = None,
        contacts: Mapping[str, bytes] = MappingProxyType({}),
    ) -> AuditReport:
        """The report on what was fed.

        Args:
            checkpoint: the note over exactly these entries.
            genesis: the leaf hash of the genesis entry, obtained apart from the export.
            transcripts: of the sums recorded since `sums_from`, by SHA-256 in hex.
            saved: a checkpoint note that somebody kept; these entries must extend it.
            contacts: the contact records that were not erased, by SHA-256 in hex.
        """
        findings = list(self.found)
        if self.size == 0 or self.replay.tree.leaf(0) != genesis:
            findings.insert(
                0, Finding("other-genesis", 0, "The export does not begin with the genesis that was given.")
            )
        state = self.replay.state
        if not state.coordinator:
            return AuditReport(tuple(findings), {"entries": self.size}, NOT_EVALUATED)
        findings += check_heads(self.replay, checkpoint, saved)
        for job in state.jobs.values():
            found, recomputed = check_job(state, job, transcripts, self.sums_from)
            findings += found
            self.found += found
            self.sums_recomputed += recomputed
        self.sums_from = self.size
        listed, found = check_contacts(state, contacts)
        findings += found
        figures = figures_of(self.replay, self.kinds, self.void, self.sums_recomputed, self.ballots)
        figures["contacts"] = listed
        return AuditReport(tuple(findings), figures, NOT_EVALUATED)


def audit_export(
    export: Export, genesis: bytes, saved: bytes | None = None, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Audits an export.

    Args:
        genesis: the frame of the genesis entry, obtained apart from the export.
        saved: a checkpoint note that somebody kept; the export must extend it.
        progress: told how many entries were replayed.
    """
    audit = Audit()
    for frame in export.frames:
        step = audit.feed(frame)
        if progress is not None:
            progress(step.index + 1)
    return audit.close(export.checkpoint, leaf_hash(genesis), export.transcripts, saved, export.contacts)


def _ballot(step: Step, entry: Entry) -> dict[str, Json]:
    return {
        "index": step.index,
        "kind": entry.kind,
        "author": entry.author.hex(),
        "void": step.fault is not None,
        "body": entry.body,
    }
