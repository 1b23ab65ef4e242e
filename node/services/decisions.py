"""What this node's steward allows: the two authorisations of a job, on declared and on actual values."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from consortium.encoding import Json, canonical, digest_of, sha256
from consortium.errors import PolicyRefusedError
from consortium.jobs import Request, TrainingRequest, read_request
from consortium.ledger.entry import Draft
from consortium.policy.decision import Decision
from consortium.policy.engine import PolicyEngine
from consortium.policy.request import RELEASE, AuthorisationRequest, DatasetAttributes, Requester
from consortium.privacy.accounting import rho_micro_for
from consortium.state import State
from node.ports import Accounts, Clock, Datasets, Members, StoredDataset
from node.services.datasets import opened

SALT_BYTES = 16
COHORT_MIN = 100  # local rows that a job must at least rest on; a policy can ask for more


@dataclass(frozen=True)
class Authorisation:
    """A decision together with the request that it is about."""

    request: AuthorisationRequest
    decision: Decision


class Decisions:
    """Asks the policy engine; reserves nothing and records nothing."""

    def __init__(
        self,
        me: bytes,
        *,
        engine: PolicyEngine,
        datasets: Datasets,
        accounts: Accounts,
        members: Members,
        clock: Clock,
    ) -> None:
        self._me = me
        self._engine = engine
        self._datasets = datasets
        self._accounts = accounts
        self._members = members
        self._clock = clock
        self._declared: dict[tuple[str, str], AuthorisationRequest] = {}

    async def before_run(self, state: State, body: Json, dataset: str) -> Authorisation:
        """Decides on the declared values of a job's body.

        Raises:
            NotFoundError: the dataset is not on this node.
            RequestError: the request is not well formed.
        """
        stored = await self._datasets.get(dataset)
        request = await self._request(state, body, dataset, read_request(body))
        decision = self._decide(state, stored, request)
        if decision.permitted:
            self._declared.setdefault((digest_of(body), dataset), request)
        return Authorisation(request, decision)

    async def before_release(
        self, state: State, body: Json, dataset: str, *, columns: Sequence[str], rows: int, rho_micro: int
    ) -> Authorisation:
        """Decides on the actual values, after the spend and before the masked vector leaves.

        Raises:
            PolicyRefusedError: this process has not permitted the job to run (it was restarted since).
        """
        declared = self._declared.get((digest_of(body), dataset))
        if declared is None:
            raise PolicyRefusedError(
                "The job was not permitted to run since this node started.", mend="Launch it anew."
            )
        stored = await self._datasets.get(dataset)
        lineage = state.datasets[self._me, dataset].lineage
        request = replace(
            declared,
            action=RELEASE,
            columns=tuple(columns),
            rho_micro=rho_micro,
            rho_micro_left=max(state.cap_of(self._me, lineage) - await self._accounts.spent(lineage), 0),
            cohort=rows,
            now=self._clock.now(),
            declared=declared,
        )
        return Authorisation(request, self._decide(state, stored, request))

    def _decide(self, state: State, stored: StoredDataset, request: AuthorisationRequest) -> Decision:
        _, descriptor = opened(stored)
        attributes = DatasetAttributes(
            name=stored.name,
            columns=tuple(column.name for column in descriptor.columns),
            sector=descriptor.sector,
            grade=descriptor.grade,
            apps=tuple(sorted(digest for member, digest in state.approvals if member == self._me)),
        )
        return self._engine.decide(self._engine.check(stored.policy_text), request, attributes)

    async def _request(self, state: State, body: Json, dataset: str, request: Request) -> AuthorisationRequest:
        requester = state.members[state.coordinator]
        lineage = state.datasets[self._me, dataset].lineage
        accepted = state.trusted(await self._members.accepted()) | {self._me}
        named = {bytes.fromhex(item["member"]) for item in body["datasets"]}
        training = isinstance(request, TrainingRequest)
        return AuthorisationRequest(
            requester=Requester(state.coordinator.hex(), requester.sector, requester.size),
            action="fl_train" if training else "statistic",
            dataset=dataset,
            purpose=request.purpose,
            columns=request.columns if isinstance(request, TrainingRequest) else request.columns_read,
            measures=() if isinstance(request, TrainingRequest) else request.measures,
            privacy="exact_training" if training else "dp",
            epsilon_milli=0 if isinstance(request, TrainingRequest) else request.epsilon_milli,
            rho_micro=0
            if isinstance(request, TrainingRequest)
            else rho_micro_for(request.epsilon_milli, request.delta),
            rho_micro_left=max(state.cap_of(self._me, lineage) - await self._accounts.spent(lineage), 0),
            members=len(accepted & named),
            members_min=body["members_min"],
            cohort=COHORT_MIN,
            secure_aggregation=True,
            app=request.app if isinstance(request, TrainingRequest) else "",
            now=self._clock.now(),
        )


def decision_draft(job: bytes, stage: str, decision: Decision) -> Draft:
    """The ledger entry of a decision: clause ids and hashes; the reason texts only as a salted hash."""
    reasons: Json = [[clause.id, clause.reason] for clause in decision.clauses]
    salt = secrets.token_bytes(SALT_BYTES)
    body = {
        **decision.record(),
        "clauses": [] if decision.permitted else list(decision.clause_ids),
        "job": job.hex(),
        "stage": stage,
        "reasons_sha256": sha256(salt + canonical(reasons)).hex(),
    }
    return Draft("decision", f"decision/{job.hex()}/{stage}", body)
