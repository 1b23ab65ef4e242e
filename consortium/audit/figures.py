"""The figures that an audit prints: what a verified log says, counted from the folded state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from consortium.encoding import Json
from consortium.replay import Replay
from consortium.state import Job, Proposal


def figures_of(
    replay: Replay, kinds: Mapping[str, int], void: int, sums: int, ballots: Sequence[dict[str, Json]]
) -> dict[str, Json]:
    """The figures of an audited log as one document; every one is of the tree that `size` and `root` name.

    Args:
        kinds: number of readable entries by kind.
        void: number of entries without effect.
        sums: number of secure sums that were recomputed.
        ballots: the entries by which the consortium governs itself.
    """
    state = replay.state
    refusals = Counter[str]()
    refused = spends = 0
    for job in state.jobs.values():
        spends += len(job.spends)
        for decision in job.decisions.values():
            if not decision.permits:
                refused += 1
                refusals.update(decision.clauses)
    return {
        "consortium": state.charter["name"],
        "genesis": state.genesis.hex(),
        "size": state.size,
        "root": replay.root.hex(),
        "entries": dict(sorted(kinds.items())),
        "void": void,
        "members": [
            {
                "member": m.id.hex(),
                "legal_name": m.legal_name,
                "admitted": m.admitted,
                "suspended": m.suspended,
                "removed": m.removed,
                "keys": len(m.keys),
            }
            for m in state.members.values()
        ],
        "jobs": [_job_figures(job) for job in state.jobs.values()],
        "refusals": refused,
        "refusals_by_clause": dict(sorted(refusals.items())),
        "spends": spends,
        "sums_recomputed": sums,
        "accounts": [
            {
                "member": member.hex(),
                "lineage": lineage,
                "spent_rho_micro": spent,
                "cap_rho_micro": state.cap_of(member, lineage),
                "unbounded": (member, lineage) in state.unbounded,
            }
            for (member, lineage), spent in sorted({**dict.fromkeys(state.unbounded, 0), **state.spent}.items())
        ],
        "votes": list(ballots),
        "proposals": [_proposal_figures(proposal) for proposal in state.proposals.values()],
        "credits": {account: str(balance) for account, balance in sorted(state.balances.items())},
    }


def _proposal_figures(proposal: Proposal) -> dict[str, Json]:
    return {
        "proposal": proposal.id.hex(),
        "index": proposal.index,
        "change": proposal.change["type"],
        "for": proposal.count("for"),
        "against": proposal.count("against"),
        "needed": proposal.needed,
        "outcome": proposal.outcome,
        "effect": proposal.effect,
    }


def _job_figures(job: Job) -> dict[str, Json]:
    permitted = sum(decision.permits for (_, stage), decision in job.decisions.items() if stage == "run")
    decided = sum(stage == "run" for _, stage in job.decisions)
    return {
        "job": job.id.hex(),
        "index": job.index,
        "kind": job.kind,
        "purpose": job.request["purpose"],
        "permitted": permitted,
        "refused": decided - permitted,
        "sums": len(job.sums),
        "scores": [] if job.scores is None else job.scores.body["scores"],
        "settled": "" if job.settlement is None else job.settlement.body["amount"],
        "ended": "result" if job.result else "abort" if job.abort else "open",
    }
