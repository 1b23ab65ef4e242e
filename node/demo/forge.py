"""What a dishonest coordinator could do to the record, done on purpose, so that the audit can be seen to name it.

A forger has the coordinator's key and, for one forgery, the key of a member that colludes. It signs its own entries
anew wherever a change needs that (number, predecessor, head, and references to entries that got another hash), leaves
the entries of everybody else as they were signed, rebuilds the tree and signs a fresh checkpoint over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from consortium.audit import Export
from consortium.encoding import Json
from consortium.keys import Signer
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.entry import NO_PREVIOUS, Draft, Entry, Head, read_entry, write_entry
from consortium.ledger.merkle import EMPTY_ROOT, Frontier

TRUNCATED_ENTRIES = 2


@dataclass(frozen=True)
class Forgery:
    """A forged export.

    Attributes:
        name: what was done.
        how: with whose keys.
        expected: the code of the finding that must be among those of the audit.
        export: the result.
        needs_saved: only a checkpoint that a member kept can show it.
    """

    name: str
    how: str
    expected: str
    export: Export
    needs_saved: bool = False


@dataclass(frozen=True)
class Forger:
    """Who forges: the coordinator, and a member that helps it."""

    coordinator: Signer
    colluder: Signer

    def forgeries(self, export: Export) -> tuple[Forgery, ...]:
        """All forgeries of one sound export that holds a refusal, a statistic and a settled training job."""
        entries = [read_entry(frame) for frame in export.frames]
        return (
            Forgery("flip one byte of a spend", "no key", "bad-signature", flip_byte(export, entries)),
            Forgery("drop a refusal", "the coordinator's key", "broken-chain", self._drop(export, entries)),
            Forgery("swap two decisions", "the coordinator's key", "other-history", self._swap(export, entries)),
            Forgery(
                "truncate the last entries",
                "the coordinator's key, against a member's saved checkpoint",
                "truncated",
                self._rebuilt(export, entries[:-TRUNCATED_ENTRIES]),
                needs_saved=True,
            ),
            Forgery("run before approval", "the coordinator's key", "run-before-approval", self._run(export, entries)),
            Forgery(
                "overspend a privacy budget",
                "the coordinator's key and a colluding member's",
                "overspend",
                self._overspend(export, entries),
            ),
            Forgery("mis-settle by one credit", "the coordinator's key", "mis-settled", self._settle(export, entries)),
        )

    def _drop(self, export: Export, entries: Sequence[Entry]) -> Export:
        """Leaves out a refusal; its author signed later entries that follow it."""
        last = {entry.author: index for index, entry in enumerate(entries)}
        refusal = next(
            index
            for index, entry in enumerate(entries)
            if entry.kind == "decision" and entry.body["outcome"] == "refuse" and last[entry.author] > index
        )
        return self._rebuilt(export, [*entries[:refusal], *entries[refusal + 1 :]])

    def _swap(self, export: Export, entries: Sequence[Entry]) -> Export:
        """Swaps two decisions of different members that follow each other."""
        first = next(
            index
            for index, (one, two) in enumerate(pairwise(entries))
            if one.kind == two.kind == "decision" and one.author != two.author
        )
        swapped = [entries[first + 1], entries[first]]
        return self._rebuilt(export, [*entries[:first], *swapped, *entries[first + 2 :]])

    def _run(self, export: Export, entries: Sequence[Entry]) -> Export:
        """Appends a run of an app that no member approved: catalogue, job and a sum over everybody."""
        job = next(entry for entry in entries if entry.kind == "job" and entry.body["kind"] == "training")
        digest = "0" * 64
        request = {**job.body["request"], "app": digest}
        roster = [item["member"] for item in job.body["datasets"]]
        sum_body: dict[str, Json] = {
            "job": "",
            "round": 1,
            "roster": roster,
            "survivors": roster,
            "transcript_sha256": digest,
            "total_sha256": digest,
        }
        return self._rebuilt(
            export,
            entries,
            lambda _: Draft("app", "forged-app", {"name": "forged", "digest": digest}),
            lambda _: Draft("job", "forged-job", {**job.body, "request": request}),
            lambda latest: Draft("sum", "forged-sum", {**sum_body, "job": latest.leaf.hex()}),
        )

    def _overspend(self, export: Export, entries: Sequence[Entry]) -> Export:
        """Appends a spend of a colluding member beyond the cap of its dataset."""
        spend = next(entry for entry in entries if _is_finite_spend(entry) and entry.author == self.colluder.key_id)
        offer = next(
            entry
            for entry in entries
            if entry.kind == "dataset"
            and entry.author == spend.author
            and entry.body["dataset"] == spend.body["dataset"]
        )
        rounds = [entry.body["round"] for entry in entries if entry.kind == "spend" and entry.author == spend.author]
        body = {**spend.body, "round": max(rounds) + 1, "rho_micro": offer.body["budget"]["rho_micro"]}
        return self._rebuilt(export, entries, lambda _: Draft("spend", "forged-spend", body), appender=self.colluder)

    def _settle(self, export: Export, entries: Sequence[Entry]) -> Export:
        """Moves one credit from the last paid member to the platform."""
        index = max(index for index, entry in enumerate(entries) if entry.kind == "settlement")
        postings = [dict(posting) for posting in entries[index].body["postings"]]
        receivers = [posting for posting in postings if int(posting["amount"]) > 0]
        receivers[0]["amount"] = str(int(receivers[0]["amount"]) + 1)
        receivers[-1]["amount"] = str(int(receivers[-1]["amount"]) - 1)
        forged = entries[index]._replace(body={**entries[index].body, "postings": postings})
        return self._rebuilt(export, [*entries[:index], forged, *entries[index + 1 :]])

    def _rebuilt(
        self,
        export: Export,
        entries: Sequence[Entry],
        *drafts: Callable[[Entry], Draft],
        appender: Signer | None = None,
    ) -> Export:
        """The log of these entries and of new ones, with a tree and a checkpoint that belong to it."""
        log = _Log(self.coordinator)
        for entry in entries:
            log.add(entry)
        latest = entries[-1]
        for draft in drafts:
            latest = log.append(appender or self.coordinator, draft(latest))
        return replace(export, frames=tuple(log.frames), checkpoint=log.checkpoint(entries[0].body["origin"]))


class _Log:
    """A log under construction, in which the coordinator's own entries are signed anew where they changed."""

    def __init__(self, coordinator: Signer) -> None:
        self.frames: list[bytes] = []
        self._coordinator = coordinator
        self._genesis = b""
        self._frontier = Frontier()
        self._roots = [EMPTY_ROOT]
        self._chains: dict[bytes, tuple[int, bytes]] = {}
        self._renamed: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Appends an entry as it is, or as its author, if that is the forger, has to sign it here."""
        self._genesis = self._genesis or entry.leaf
        if entry.author != self._coordinator.key_id or not self.frames:
            self._push(entry)
            return
        body = _renamed(entry.body, self._renamed)
        signed = self._sign(
            self._coordinator, Draft(entry.kind, entry.key, body), min(entry.head.size, len(self.frames))
        )
        self._renamed[entry.leaf.hex()] = signed.leaf.hex()
        self._push(signed)

    def append(self, author: Signer, draft: Draft) -> Entry:
        """Appends a new entry of an author who has seen everything so far."""
        signed = self._sign(author, draft, len(self.frames))
        self._push(signed)
        return signed

    def checkpoint(self, origin: str) -> bytes:
        """A signed checkpoint over everything so far."""
        head = Checkpoint(origin, len(self.frames), self._roots[-1])
        return sign_checkpoint(head, self._coordinator, origin).encode()

    def _sign(self, author: Signer, draft: Draft, seen: int) -> Entry:
        sequence, previous = self._chains.get(author.key_id, (0, NO_PREVIOUS))
        head = Head(seen, self._roots[seen])
        return write_entry(author, draft, consortium=self._genesis, head=head, prev=previous, seq=sequence)

    def _push(self, entry: Entry) -> None:
        self.frames.append(entry.frame.data)
        self._frontier = self._frontier.append(entry.leaf)
        self._roots.append(self._frontier.root())
        self._chains[entry.author] = (entry.seq + 1, entry.leaf)


def flip_byte(export: Export, entries: Sequence[Entry]) -> Export:
    """The export with one bit of a recorded spend changed in place; tree and checkpoint stay."""
    index, entry = next((index, entry) for index, entry in enumerate(entries) if _is_finite_spend(entry))
    data = bytearray(entry.frame.data)
    figure = b'"rho_micro":%d' % entry.body["rho_micro"]
    data[data.index(figure) + len(figure) - 1] ^= 1
    return replace(export, frames=(*export.frames[:index], bytes(data), *export.frames[index + 1 :]))


def _is_finite_spend(entry: Entry) -> bool:
    return entry.kind == "spend" and isinstance(entry.body["rho_micro"], int)


def _renamed(value: Json, names: Mapping[str, str]) -> Json:
    """The value with every reference to a re-signed entry replaced."""
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
