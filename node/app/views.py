"""What the ledger's state looks like to people: documents for the command line and the Python client."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consortium.encoding import Json
from consortium.keys import fingerprint, key_id
from consortium.replay import Step
from consortium.state import Dataset, Job, Member, State
from node.ports import Reservation

SUMMARY_MAX = 120
SUMMARIES = {
    "genesis": "consortium {name}",
    "enrolment": "{legal_name}, {size}",
    "admission": "member {member:.16}",
    "dataset": "{dataset}, budget {budget[rho_micro]} micro-rho",
    "committee": "{members}",
    "app": "{name} {digest:.16}",
    "approval": "app {digest:.16}",
    "job": "{kind} for {request[purpose]}",
    "decision": "{stage}: {outcome} {clauses}",
    "spend": "{rho_micro} micro-rho of {dataset}, round {round}",
    "sum": "round {round} of job {job:.16}",
    "result": "document {document_sha256:.16}",
    "abort": "{reason}",
    "scores": "{method}",
    "settlement": "{amount} credits",
    "proposal": "{change[type]}, from entry {from_index}",
    "vote": "{choice} proposal {proposal:.16}",
    "rotation": "key {public_key:.16}",
    "handover": "the former committee has handed over",
}


def member(state: State, found: Member, accepted: Collection[bytes], attending: Collection[bytes] | None) -> Json:
    """One member of record; `attending` is known at the coordinator only."""
    return {
        "member": found.id.hex(),
        "fingerprint": fingerprint(key_id(found.public_key)),
        "legal_name": found.legal_name,
        "sector": found.sector,
        "size": found.size,
        "owner_group": found.owner_group,
        "role": "coordinator" if found.id == state.coordinator else "member",
        "accepted": found.id in accepted,
        "attending": None if attending is None else found.id in attending,
        "since": found.admitted,
        "standing": standing(found),
    }


def standing(found: Member) -> str:
    """What a party is to the consortium, in a word."""
    if found.removed is not None:
        return "removed"
    if found.suspended is not None:
        return "suspended"
    return "member" if found.admitted is not None else "enrolled"


def dataset(state: State, found: Dataset, me: bytes) -> Json:
    """One offer of the catalogue."""
    descriptor = found.descriptor
    return {
        "member": found.member.hex(),
        "legal_name": state.members[found.member].legal_name,
        "dataset": found.name,
        "lineage": found.lineage,
        "sector": descriptor["sector"],
        "grade": descriptor["grade"],
        "row_count_band": descriptor["row_count_band"],
        "privacy_unit": descriptor["privacy_unit"],
        "columns": [
            {key: column.get(key) for key in ("name", "type", "unit", "lower", "upper", "resolution")}
            for column in descriptor["columns"]
        ],
        "budget": {"rho_micro": state.cap_of(found.member, found.lineage), "delta": found.delta},
        "policy_sha256": found.policy_sha256,
        "own": found.member == me,
    }


def account(state: State, found: Dataset, spent: int, reservations: Sequence[Reservation]) -> Json:
    """The budget of one lineage, and every spend from it."""
    cap = state.cap_of(found.member, found.lineage)
    return {
        "lineage": found.lineage,
        "dataset": found.name,
        "cap_rho_micro": cap,
        "spent_rho_micro": spent,
        "left_rho_micro": max(cap - spent, 0),
        "delta": found.delta,
        "unbounded": any(reservation.rho_micro is None for reservation in reservations),
        "spends": [
            {
                "job": reservation.job.hex(),
                "round": reservation.round,
                "rho_micro": "unbounded" if reservation.rho_micro is None else reservation.rho_micro,
            }
            for reservation in reservations
        ],
    }


def job(found: Job, state_word: str) -> Json:
    """One job in a line."""
    return {
        "job": found.id.hex(),
        "index": found.index,
        "kind": found.kind,
        "purpose": found.request["purpose"],
        "state": state_word,
        "members": len(found.datasets),
        "permitted": len(found.permitted()),
        "result_sha256": found.result.body["document_sha256"] if found.result else None,
    }


def job_state(found: Job) -> str:
    """A job's state in a word, as the ledger shows it."""
    if found.result is not None:
        return "done"
    if found.abort is None:
        return "open"
    return "refused" if found.abort.body["reason"] == "refused" else "aborted"


def entry(state: State, step: Step) -> Json:
    """One entry in a line."""
    found = step.entry
    author = state.members.get(found.author) if found else None
    return {
        "index": step.index,
        "kind": found.kind if found else "unreadable",
        "author": found.author.hex() if found else "",
        "legal_name": author.legal_name if author else "",
        "leaf": found.leaf.hex() if found else "",
        "void": step.fault.text if step.fault else None,
        "summary": SUMMARIES[found.kind].format_map(found.body)[:SUMMARY_MAX] if found else "",
    }


def credits_of(state: State) -> Json:
    """Balances, settlements and scores."""
    names = {f"member:{found.id.hex()}": found.legal_name for found in state.members.values()}
    return {
        "accounts": [
            {"account": name, "legal_name": names.get(name, ""), "balance": str(balance)}
            for name, balance in sorted(state.balances.items())
        ],
        "settlements": [settlement(found) for found in state.jobs.values() if found.settlement],
        "scores": [
            {"job": found.id.hex(), **found.scores.body} for found in state.jobs.values() if found.scores is not None
        ],
    }


def settlement(found: Job) -> Json:
    """What a settled job paid."""
    assert found.settlement is not None
    assert found.scores is not None
    return {
        "job": found.id.hex(),
        "index": found.settlement.index,
        "amount": found.settlement.body["amount"],
        "postings": found.settlement.body["postings"],
        "scores": found.scores.body["scores"],
    }
