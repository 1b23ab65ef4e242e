"""The control of a running node over its unix socket, for the command line and the Python client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from grpc import aio

from consortium.encoding import Json, canonical
from node.config import node_home
from node.rpc import convert
from node.rpc.channels import LOCAL_BYTES_MAX, cancel, client_options, explained_local
from protos.v1 import control_pb2 as pb
from protos.v1.control_pb2_grpc import ControlStub

if TYPE_CHECKING:
    from protos.v1.control_pb2_grpc import ControlAsyncStub

CALL_TIMEOUT_S = 30.0
LONG_CALL_TIMEOUT_S = 600.0  # calls that read a whole dataset or ledger, or wait for every member


class ControlClient:
    """`node.services.api.ControlService` of the node that serves from a folder; an async context manager.

    Every method raises what the node refused with, and UnavailableError when no node serves there.
    """

    def __init__(self, home: Path) -> None:
        self._socket = node_home(home).control_socket
        self._channel: aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = aio.insecure_channel(f"unix:{self._socket}", options=client_options(LOCAL_BYTES_MAX))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def status(self) -> Json:
        return await self._answer(self._stub().Status(pb.StatusRequest(), timeout=CALL_TIMEOUT_S))

    async def pause(self) -> Json:
        return await self._answer(self._stub().Pause(pb.PauseRequest(), timeout=CALL_TIMEOUT_S))

    async def resume(self) -> Json:
        return await self._answer(self._stub().Resume(pb.ResumeRequest(), timeout=CALL_TIMEOUT_S))

    async def invite(self, legal_name: str, valid_hours: int) -> Json:
        request = pb.InviteRequest(legal_name=legal_name, valid_hours=valid_hours)
        return await self._answer(self._stub().Invite(request, timeout=CALL_TIMEOUT_S))

    async def list_members(self) -> Json:
        return await self._answer(self._stub().ListMembers(pb.ListMembersRequest(), timeout=CALL_TIMEOUT_S))

    async def accept_member(self, fingerprint: str) -> Json:
        request = pb.AcceptMemberRequest(fingerprint=fingerprint)
        return await self._answer(self._stub().AcceptMember(request, timeout=CALL_TIMEOUT_S))

    async def offer_dataset(self, path: Path, descriptor: Path, policy: Path, rho_micro: int, delta: str) -> Json:
        request = pb.OfferDatasetRequest(
            path=_absolute(path),
            descriptor_path=_absolute(descriptor),
            policy_path=_absolute(policy),
            rho_micro=rho_micro,
            delta=delta,
        )
        return await self._answer(self._stub().OfferDataset(request, timeout=LONG_CALL_TIMEOUT_S))

    async def list_datasets(self) -> Json:
        return await self._answer(self._stub().ListDatasets(pb.ListDatasetsRequest(), timeout=CALL_TIMEOUT_S))

    async def close_rounds(self) -> Json:
        return await self._answer(self._stub().CloseRounds(pb.CloseRoundsRequest(), timeout=CALL_TIMEOUT_S))

    async def show_budget(self) -> Json:
        return await self._answer(self._stub().ShowBudget(pb.ShowBudgetRequest(), timeout=CALL_TIMEOUT_S))

    async def check_policy(self, policy: Path) -> Json:
        request = pb.CheckPolicyRequest(policy_path=_absolute(policy))
        return await self._answer(self._stub().CheckPolicy(request, timeout=CALL_TIMEOUT_S))

    async def seat_committee(self, members: Sequence[str]) -> Json:
        return await self._answer(self._stub().SeatCommittee(pb.SeatCommitteeRequest(members=members)))

    async def catalogue_app(self, name: str, fab: bytes) -> Json:
        request = pb.CatalogueAppRequest(name=name, fab=fab)
        return await self._answer(self._stub().CatalogueApp(request, timeout=CALL_TIMEOUT_S))

    async def approve_app(self, digest: str) -> Json:
        request = pb.ApproveAppRequest(digest=digest)
        return await self._answer(self._stub().ApproveApp(request, timeout=CALL_TIMEOUT_S))

    async def explain_job(self, job: Json) -> Json:
        request = pb.ExplainJobRequest(job=canonical(job))
        return await self._answer(self._stub().ExplainJob(request, timeout=LONG_CALL_TIMEOUT_S))

    async def submit_job(self, job: Json) -> Json:
        request = pb.SubmitJobRequest(job=canonical(job))
        return await self._answer(self._stub().SubmitJob(request, timeout=LONG_CALL_TIMEOUT_S))

    async def watch_job(self, job: str) -> AsyncGenerator[Json, None]:
        with explained_local(self._socket):
            call = self._stub().WatchJob(pb.WatchJobRequest(job=job))  # no deadline: a job ends by itself
            try:
                async for message in call:
                    yield convert.document_from_message(message)
            finally:
                await cancel(call)

    async def abort_job(self, job: str) -> Json:
        return await self._answer(self._stub().AbortJob(pb.AbortJobRequest(job=job), timeout=CALL_TIMEOUT_S))

    async def list_jobs(self) -> Json:
        return await self._answer(self._stub().ListJobs(pb.ListJobsRequest(), timeout=CALL_TIMEOUT_S))

    async def export_ledger(self, folder: Path) -> Json:
        request = pb.ExportLedgerRequest(folder=_absolute(folder))
        return await self._answer(self._stub().ExportLedger(request, timeout=LONG_CALL_TIMEOUT_S))

    async def save_checkpoint(self, path: Path) -> Json:
        request = pb.SaveCheckpointRequest(path=_absolute(path))
        return await self._answer(self._stub().SaveCheckpoint(request, timeout=CALL_TIMEOUT_S))

    async def list_entries(self, start: int, limit: int) -> Json:
        request = pb.ListEntriesRequest(start=start, limit=limit)
        return await self._answer(self._stub().ListEntries(request, timeout=CALL_TIMEOUT_S))

    async def show_credits(self) -> Json:
        return await self._answer(self._stub().ShowCredits(pb.ShowCreditsRequest(), timeout=CALL_TIMEOUT_S))

    async def settle(self, job: str, amount: str) -> Json:
        request = pb.SettleRequest(job=job, amount=amount)
        return await self._answer(self._stub().Settle(request, timeout=LONG_CALL_TIMEOUT_S))

    async def propose(self, change: Json, from_index: int) -> Json:
        request = pb.ProposeRequest(change=canonical(change), from_index=from_index)
        return await self._answer(self._stub().Propose(request, timeout=LONG_CALL_TIMEOUT_S))

    async def vote(self, proposal: str, choice: str) -> Json:
        request = pb.VoteRequest(proposal=proposal, choice=choice)
        return await self._answer(self._stub().Vote(request, timeout=LONG_CALL_TIMEOUT_S))

    async def list_proposals(self) -> Json:
        return await self._answer(self._stub().ListProposals(pb.ListProposalsRequest(), timeout=CALL_TIMEOUT_S))

    async def rotate_key(self) -> Json:
        return await self._answer(self._stub().RotateKey(pb.RotateKeyRequest(), timeout=LONG_CALL_TIMEOUT_S))

    async def erase(self, member: str) -> Json:
        return await self._answer(self._stub().Erase(pb.EraseRequest(member=member), timeout=CALL_TIMEOUT_S))

    async def _answer(self, call: Awaitable[pb.Document]) -> Json:
        with explained_local(self._socket):
            return convert.document_from_message(await call)

    def _stub(self) -> ControlAsyncStub:
        assert self._channel is not None, "the client is used inside `async with`"
        return ControlStub(self._channel)


def _absolute(path: Path) -> str:
    """The node has another working folder than its caller."""
    return str(Path(path).absolute())
