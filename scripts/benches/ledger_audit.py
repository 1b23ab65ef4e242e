"""How fast a whole ledger is audited offline: signatures, canonical form, state, roots, on two processes.

The log is made anew: a consortium of many members whose jobs are launched, decided, paid for, decided again before
release, and aborted (a sum would need its transcript). Authors state the head of the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from operator import truediv
from pathlib import Path
from statistics import mean, median

import nacl.bindings

from consortium.audit import Audit
from consortium.encoding import Json
from consortium.keys import KEY_ID_BYTES, PREFIX_BYTES, SigningKey, key_id, sign_frame, verify
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.entry import NO_PREVIOUS
from consortium.ledger.merkle import leaf_hash, verify_inclusion
from consortium.ledger.tiles import TileProver, encode_bundle, entry_tile_paths, hash_tiles, tile_path
from consortium.ledger.tree import Tree
from consortium.privacy.accounting import rho_micro_for
from node.audit.pipeline import feed_export
from node.export import read_export
from tests.worlds import documents

PROCESSES = 2
MEMBERS = 200
ROSTER = 20  # members of a job
EPOCH_JOBS = 32  # jobs between two checkpoints
SAMPLE = 40_000  # signatures that each process verifies for the limit
AUDITS = 3  # each between two measurements of the limit; figures are their medians: a shared machine's speed wavers
RHO_MICRO = rho_micro_for(1_000, documents.DELTA)


class Author:
    """Signs its own chain; the expanded key is kept, as a signing service would."""

    def __init__(self, seed: bytes, seq: int = 0, prev: bytes = NO_PREVIOUS) -> None:
        """Args: `seq` and `prev` are those of its next entry."""
        self.public_key, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.key_id = key_id(self.public_key)
        self._seq, self._prev = seq, prev

    def sign(self, message: bytes) -> bytes:
        return nacl.bindings.crypto_sign(message, self._secret)[:64]

    def write(self, kind: str, body: Json, consortium: str, head: Json) -> bytes:
        """The frame of the author's next entry."""
        value = {
            "body": body,
            "consortium": consortium,
            "head": head,
            "key": f"{kind}/{self._seq}",
            "prev": self._prev.hex(),
            "seq": self._seq,
        }
        payload = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        frame = sign_frame(self, f"application/vnd.consortium.{kind}.v1+json", payload).data
        self._seq, self._prev = self._seq + 1, leaf_hash(frame)
        return frame


def seeds() -> list[bytes]:
    """Private seeds of the members, by member id."""
    made = [number.to_bytes(32, "little") for number in range(1, MEMBERS + 1)]
    return sorted(made, key=lambda seed: SigningKey(seed).key_id)


def roster(job: int) -> list[int]:
    """The members of a job, by position; each job has the next ones."""
    return sorted((job * ROSTER + place) % MEMBERS for place in range(ROSTER))


def write_members(link: Connection, share: int) -> None:
    """Signs for every second member what the other end of the link asks for; ends with it."""
    authors = {position: Author(seed) for position, seed in enumerate(seeds()) if position % PROCESSES == share}
    while (asked := link.recv()) is not None:
        link.send([_written(authors[position], *rest) for position, *rest in asked if position in authors])


def _written(author: Author, kind: str, body: Json, consortium: str, head: Json) -> bytes:
    return author.write(kind, body, consortium, head)


class Log:
    """A log that is being written as entry bundles; its signers are processes."""

    def __init__(self, links: Sequence[Connection]) -> None:
        self.coordinator = Author(bytes(31) + b"\xff")
        self.tree = Tree()
        self._links = links
        self._consortium = ""

    def head(self) -> Json:
        return {"root": self.tree.root().hex(), "size": self.tree.size}

    def own(self, kind: str, body: Json, head: Json) -> bytes:
        frame = self.coordinator.write(kind, body, self._consortium, head)
        self._consortium = self._consortium or leaf_hash(frame).hex()
        return frame

    def asked(self, wanted: Sequence[tuple[int, str, Json]], head: Json) -> list[bytes]:
        """The frames of members, in the order of what is asked of them."""
        tasks = [(*each, self._consortium, head) for each in wanted]
        for link in self._links:
            link.send(tasks)
        answers = [iter(link.recv()) for link in self._links]
        return [next(answers[position % PROCESSES]) for position, _, _ in wanted]

    def entries(self) -> Iterator[bytes]:
        """Entries without end; whoever takes one must have grown the tree by those before."""
        yield self.own("genesis", documents.genesis(SigningKey(bytes(31) + b"\xff")), self.head())
        head = self.head()
        keys = [SigningKey(seed) for seed in seeds()]
        bodies = [documents.enrolment(key, f"Operator {place}", "medium") for place, key in enumerate(keys)]
        enrolments = self.asked([(place, "enrolment", body) for place, body in enumerate(bodies)], head)
        yield from enrolments
        for key, enrolment in zip(keys, enrolments, strict=True):
            body = {"member": key.key_id.hex(), "enrolment": leaf_hash(enrolment).hex()}
            yield self.own("admission", body, head)
        offer = documents.offer(cap=1 << 52)
        yield from self.asked([(place, "dataset", offer) for place in range(MEMBERS)], self.head())
        ids = [key.key_id.hex() for key in keys]
        for epoch in range(1 << 40):
            yield from self._epoch(range(epoch * EPOCH_JOBS, (epoch + 1) * EPOCH_JOBS), ids)

    def _epoch(self, jobs: range, ids: Sequence[str]) -> Iterator[bytes]:
        head = self.head()
        own: list[tuple[bytes, bytes]] = []
        wanted: list[tuple[int, str, Json]] = []
        for job in jobs:
            datasets = [{"member": ids[place], "dataset": "scada"} for place in roster(job)]
            body = {"kind": "statistic", "datasets": datasets, "members_min": 3, "request": documents.statistic()}
            launched = self.own("job", body, head)
            name = leaf_hash(launched).hex()
            own.append((launched, self.own("abort", {"job": name, "reason": "stopped"}, head)))
            spend = {"job": name, "dataset": "scada", "round": 0, "rho_micro": RHO_MICRO, "delta": documents.DELTA}
            for kind, body in (
                ("decision", documents.decision(name)),
                ("spend", spend),
                ("decision", documents.decision(name, stage="release")),
            ):
                wanted += [(place, kind, body) for place in roster(job)]
        answers = iter(self.asked(wanted, head))
        for launched, aborted in own:
            yield launched
            yield from islice(answers, 3 * ROSTER)
            yield aborted


def write_log(folder: Path, size: int) -> None:
    """Writes a log of so many entries as a tlog-tiles folder without hash tiles."""
    with _signers() as links:
        log = Log(links)
        entries = log.entries()
        for tile in entry_tile_paths(size):
            frames: list[bytes] = []
            for frame in islice(entries, tile.width):
                log.tree.append(leaf_hash(frame))
                frames.append(frame)
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_bundle(frames))
    checkpoint = Checkpoint(documents.ORIGIN, size, log.tree.root())
    (folder / "checkpoint").write_text(sign_checkpoint(checkpoint, log.coordinator, documents.ORIGIN))


@contextmanager
def _signers() -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(PROCESSES)]
    children = [context.Process(target=write_members, args=(far, share)) for share, (_, far) in enumerate(pairs)]
    for child in children:
        child.start()
    try:
        yield [near for near, _ in pairs]
    finally:
        for near, _ in pairs:
            near.send(None)
        for child in children:
            child.join()


def verify_sample(folder: Path, share: int, together: Barrier, link: Connection) -> None:
    """Sends signatures verified per second and processor microseconds for each, nothing else done between."""
    frames = read_export(folder).frames
    start = share * SAMPLE % max(len(frames) - SAMPLE, 1)
    keys = {SigningKey(seed).key_id: SigningKey(seed).public_key for seed in (*seeds(), bytes(31) + b"\xff")}
    chosen = list(islice(frames, start, start + SAMPLE))
    tasks = [(keys[frame[1 : 1 + KEY_ID_BYTES]], frame[PREFIX_BYTES:], frame[33:PREFIX_BYTES]) for frame in chosen]
    together.wait()
    begun, used = time.perf_counter(), time.process_time()
    for task in tasks:
        verify(*task)
    link.send((len(tasks) / (time.perf_counter() - begun), (time.process_time() - used) / len(tasks) * 1e6))


def verify_limit(folder: Path) -> tuple[float, float]:
    """Signatures verified per second by all processes, which begin together, and processor microseconds for each."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    pipes = [context.Pipe() for _ in range(PROCESSES)]
    children = [
        context.Process(target=verify_sample, args=(folder, share, together, far))
        for share, (_, far) in enumerate(pipes)
    ]
    for child in children:
        child.start()
    rates, used = zip(*(near.recv() for near, _ in pipes), strict=True)
    for child in children:
        child.join()
    return sum(rates), sum(used) / PROCESSES


def audit_once(folder: Path) -> Json:
    """Audits a log in this process and its helper; memory is the sum of both peaks."""
    export = read_export(folder)
    audit = Audit()
    begun = time.perf_counter()
    feed_export(audit, export.frames, PROCESSES, lambda _done: None)
    report = audit.close(export.checkpoint, leaf_hash(export.frames[0]), export.transcripts)
    seconds = time.perf_counter() - begun
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    assert report.ok, report.findings[:3]
    return {"entries": audit.size, "seconds": seconds, "peak_mb": sum(peaks), "cpu_s": cpu}


def measure_proofs(size: int = 1_000_000, proofs: int = 2_000) -> Json:
    """The time to build a proof for any entry: from a node's tree in memory, and from hash tiles alone."""
    leaves = [leaf_hash(number.to_bytes(4)) for number in range(size)]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    tiles = dict(hash_tiles(leaves, size))
    indices = [number * 7919 % size for number in range(proofs)]

    def from_tiles(index: int) -> list[bytes]:
        prover = TileProver(lambda level, tile, width: tiles[tile_path(str(level), tile, width)], size)
        return prover.inclusion_proof(index)

    told: Json = {}
    for name, prove in (
        ("proof_p99_ms_1m", lambda at: tree.inclusion_proof(at, size)),
        ("tiles_p99_ms_1m", from_tiles),
    ):
        times = []
        for index in indices:
            begun = time.perf_counter()
            proof = prove(index)
            times.append(time.perf_counter() - begun)
            verify_inclusion(index, size, leaves[index], proof, tree.root())
        told[name] = round(sorted(times)[len(times) * 99 // 100] * 1000, 3)
    return told


def measure(size: int, folder: Path | None = None) -> Json:
    """The figures of the audit of a log of `size` entries.

    Args:
        folder: where the log is, or is to be written; a temporary folder if None.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="ledger-bench-") as made:
            return measure(size, Path(made))
    if not (folder / "checkpoint").exists():
        write_log(folder, size)
    limits = [verify_limit(folder)]
    audits: list[Json] = []
    for _ in range(AUDITS):
        audits.append(_audit_apart(folder))
        limits.append(verify_limit(folder))
    rates = [told["entries"] / told["seconds"] for told in audits]
    limit_rates = [mean(rate for rate, _ in pair) for pair in pairwise(limits)]
    verify_us = [mean(used for _, used in pair) for pair in pairwise(limits)]
    audit_us = [told["cpu_s"] / told["entries"] * 1e6 for told in audits]
    return {
        **measure_proofs(),
        "audit_entries": audits[0]["entries"],
        "audit_1m_s": round(1_000_000 / median(rates), 2),
        "audit_peak_mb": round(max(told["peak_mb"] for told in audits)),
        "audit_cpu_us_per_entry": round(median(audit_us), 1),
        "verify_cpu_us": round(median(verify_us), 1),
        "ratio_by_cpu_time": _median_ratio(verify_us, audit_us),
        "verify_limit_per_s": round(median(limit_rates)),
        "ratio_to_verify_limit": _median_ratio(rates, limit_rates),
        "ratio_to_verify_limit_lowest": round(min(map(truediv, rates, limit_rates)), 3),
    }


def _audit_apart(folder: Path) -> Json:
    """An audit by a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "scripts.benches.ledger_audit", "--audit", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return round(median(map(truediv, over, under)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="Keep the log here, and use it again.")
    parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")
    parser.add_argument("--audit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    figures = audit_once(options.audit) if options.audit else measure(options.entries, options.folder)
    print(json.dumps(figures) if options.json or options.audit else "\n".join(f"{k}: {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
