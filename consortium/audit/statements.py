"""What a verified log says, as tables: one row for each member, job, decision, spend, score, posting and ballot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from consortium.audit.report import Audit
from consortium.encoding import Json
from consortium.state import UNBOUNDED, State

Row = tuple[Json, ...]


@dataclass(frozen=True)
class Table:
    """A table with its headings; `rows` are made when asked for."""

    headings: tuple[str, ...]
    rows: Callable[[State], Iterator[Row]]


def _members(state: State) -> Iterator[Row]:
    for member in state.members.values():
        yield (
            *(member.id.hex(), member.legal_name, member.sector, member.size, member.owner_group),
            "" if member.admitted is None else member.admitted,
        )


def _jobs(state: State) -> Iterator[Row]:
    for job in state.jobs.values():
        permitted = len(job.permitted())
        ended = "result" if job.result else "abort" if job.abort else "open"
        purpose = job.request["purpose"]
        yield job.index, job.id.hex(), job.kind, purpose, permitted, len(job.decided()) - permitted, ended


def _decisions(state: State) -> Iterator[Row]:
    for job in state.jobs.values():
        for (member, stage), decision in job.decisions.items():
            outcome = "permit" if decision.permits else "refuse"
            yield decision.index, job.id.hex(), member.hex(), stage, outcome, " ".join(decision.clauses)


def _spends(state: State) -> Iterator[Row]:
    for job in state.jobs.values():
        for (member, number), spend in job.spends.items():
            dataset = job.datasets[member]
            rho_micro = UNBOUNDED if spend.rho_micro is None else spend.rho_micro
            yield (
                *(spend.index, job.id.hex(), member.hex(), dataset, state.datasets[member, dataset].lineage, number),
                *(rho_micro, spend.delta),
            )


def _scores(state: State) -> Iterator[Row]:
    for job in state.jobs.values():
        if job.scores is not None:
            for score in job.scores.body["scores"]:
                name = score["member"]
                yield job.scores.index, job.id.hex(), name, score["score_micro"], score["error_micro"]


def _postings(state: State) -> Iterator[Row]:
    for job in state.jobs.values():
        if job.settlement is not None:
            for posting in job.settlement.body["postings"]:
                yield job.settlement.index, job.id.hex(), posting["account"], posting["amount"]


def _proposals(state: State) -> Iterator[Row]:
    for proposal in state.proposals.values():
        effect = "" if proposal.effect is None else proposal.effect
        counts = (proposal.count("for"), proposal.count("against"), proposal.needed)
        yield (
            *(proposal.index, proposal.id.hex(), proposal.author.hex(), proposal.change["type"]),
            *(*counts, proposal.outcome, effect),
        )


def _credits(state: State) -> Iterator[Row]:
    for account, balance in sorted(state.balances.items()):
        yield account, str(balance)


TABLES: Mapping[str, Table] = {
    "members": Table(("member", "legal_name", "sector", "size", "owner_group", "admitted_at"), _members),
    "jobs": Table(("index", "job", "kind", "purpose", "permitted", "refused", "ended"), _jobs),
    "decisions": Table(("index", "job", "member", "stage", "outcome", "clauses"), _decisions),
    "spends": Table(("index", "job", "member", "dataset", "lineage", "round", "rho_micro", "delta"), _spends),
    "scores": Table(("index", "job", "member", "score_micro", "error_micro"), _scores),
    "postings": Table(("index", "job", "account", "amount"), _postings),
    "proposals": Table(
        ("index", "proposal", "author", "change", "for", "against", "needed", "outcome", "effect_from"), _proposals
    ),
    "credits": Table(("account", "balance"), _credits),
}
ANOMALIES = ("index", "code", "text")
VOTES = ("index", "kind", "author", "void")


def statements(audit: Audit, findings: Sequence[Row]) -> Iterator[tuple[str, tuple[str, ...], Iterator[Row]]]:
    """The name, headings and rows of every table; each row ends with the size and root of the tree that it is of.

    Args:
        findings: of the report, as (index or "", code, text).
    """
    head = (audit.size, audit.replay.root.hex())
    made: dict[str, tuple[tuple[str, ...], Iterator[Row]]] = {
        name: (table.headings, table.rows(audit.replay.state)) for name, table in TABLES.items()
    }
    made["votes"] = (VOTES, (tuple(ballot[key] for key in VOTES) for ballot in audit.ballots))
    made["anomalies"] = (ANOMALIES, iter(findings))
    for name, (headings, rows) in made.items():
        yield name, (*headings, "tree_size", "tree_root"), ((*row, *head) for row in rows)
