"""The services on the wire: convert, call, convert. What they raise is mapped by `node.rpc.gate`."""

# ruff: noqa: N802, ARG002 - gRPC gives names and arguments

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from consortium.errors import EncodingError, LimitError
from node.rpc import convert, witness
from node.rpc.auth import CALLER
from node.services import api
from protos.v1 import (
    control_pb2,
    control_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    witness_pb2,
    witness_pb2_grpc,
)

T = TypeVar("T")
FRAME_BYTES_MAX = 65_535
SECRET_BYTES_MAX = 64
CSR_BYTES_MAX = 4_096
CONTACT_BYTES_MAX = 2_048
OUTCOME_BYTES_MAX = 64 << 20


class LedgerServicer(ledger_pb2_grpc.LedgerServicer):
    def __init__(self, ledger: api.LedgerService) -> None:
        self._ledger = ledger

    async def Append(self, request: ledger_pb2.AppendRequest, context: Any) -> ledger_pb2.AppendReply:
        frame = _bounded(request.frame, FRAME_BYTES_MAX, "frame")
        index, checkpoint = await self._ledger.append(_member(), frame)
        return ledger_pb2.AppendReply(index=index, checkpoint=checkpoint)

    async def AppendEach(
        self, request_iterator: AsyncIterator[ledger_pb2.AppendRequest], context: Any
    ) -> AsyncGenerator[ledger_pb2.AppendReply, None]:
        member = _member()
        async for request in request_iterator:
            index, checkpoint = await self._ledger.append(member, _bounded(request.frame, FRAME_BYTES_MAX, "frame"))
            yield ledger_pb2.AppendReply(index=index, checkpoint=checkpoint)

    async def Follow(
        self, request: ledger_pb2.FollowRequest, context: Any
    ) -> AsyncGenerator[ledger_pb2.FollowReply, None]:
        async with _ended(self._ledger.follow(request.start)) as batches:
            async for batch in batches:
                yield convert.batch_to_message(batch)


class ExchangeServicer(exchange_pb2_grpc.ExchangeServicer):
    def __init__(self, exchange: api.ExchangeService) -> None:
        self._exchange = exchange

    async def Attend(
        self, request_iterator: AsyncIterator[exchange_pb2.FromMember], context: Any
    ) -> AsyncGenerator[exchange_pb2.ToMember, None]:
        async def incoming() -> AsyncGenerator[api.FromMember, None]:
            async for message in request_iterator:
                yield convert.from_member_from_message(message)

        async with _ended(incoming()) as messages, _ended(self._exchange.attend(_member(), messages)) as values:
            async for value in values:
                yield convert.to_member_to_message(value)


class WitnessServicer(witness_pb2_grpc.WitnessServicer):
    def __init__(self, witnesses: api.WitnessService) -> None:
        self._witnesses = witnesses

    async def Attend(
        self, request_iterator: AsyncIterator[witness_pb2.WitnessSays], context: Any
    ) -> AsyncGenerator[witness_pb2.WitnessAsked, None]:
        async def incoming() -> AsyncGenerator[api.WitnessSays, None]:
            async for message in request_iterator:
                yield witness.says_from_message(message)

        async with _ended(incoming()) as messages, _ended(self._witnesses.attend(_member(), messages)) as values:
            async for value in values:
                yield witness.asked_to_message(value)


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServicer):
    def __init__(self, enrolment: api.EnrolmentService) -> None:
        self._enrolment = enrolment

    async def Redeem(self, request: enrolment_pb2.RedeemRequest, context: Any) -> enrolment_pb2.RedeemReply:
        redeemed = await self._enrolment.redeem(
            _bounded(request.secret, SECRET_BYTES_MAX, "secret"),
            _bounded(request.frame, FRAME_BYTES_MAX, "frame"),
            _bounded(request.csr, CSR_BYTES_MAX, "csr"),
            _bounded(request.contact, CONTACT_BYTES_MAX, "contact"),
        )
        return convert.redeemed_to_message(redeemed)


class TrainerServicer(training_pb2_grpc.TrainerServicer):
    def __init__(self, trainer: api.TrainerService) -> None:
        self._trainer = trainer

    async def Begin(self, request: training_pb2.BeginRequest, context: Any) -> training_pb2.BeginReply:
        begin = await self._trainer.begin(
            convert.identifier(request.job, "job"),
            request.round,
            convert.identifier(request.digest, "digest"),
            convert.identifier(request.model_sha256, "model_sha256"),
            needs_table=request.needs_table,
        )
        return convert.begin_to_message(begin)

    async def Mask(self, request: training_pb2.MaskRequest, context: Any) -> training_pb2.MaskReply:
        masked = await self._trainer.mask(
            convert.identifier(request.job, "job"),
            request.round,
            convert.identifier(request.model_sha256, "model_sha256"),
            convert.words_from_bytes(request.vector, "vector"),
        )
        return training_pb2.MaskReply(masked=convert.words_to_bytes(masked))


class RoundsServicer(training_pb2_grpc.RoundsServicer):
    def __init__(self, rounds: api.RoundsService) -> None:
        self._rounds = rounds

    async def Open(self, request: training_pb2.OpenRequest, context: Any) -> training_pb2.OpenReply:
        await self._rounds.open(
            convert.identifier(request.job, "job"),
            request.round,
            convert.identifiers(request.roster, "roster"),
            convert.identifier(request.model_sha256, "model_sha256"),
            request.length,
        )
        return training_pb2.OpenReply()

    async def Sum(self, request: training_pb2.SumRequest, context: Any) -> training_pb2.SumReply:
        arrays = convert.arrays_from_messages(request.arrays)
        return convert.sum_to_message(
            await self._rounds.sum(convert.identifier(request.job, "job"), request.round, arrays)
        )

    async def Finish(self, request: training_pb2.FinishRequest, context: Any) -> training_pb2.FinishReply:
        outcome = _bounded(request.outcome, OUTCOME_BYTES_MAX, "outcome")
        await self._rounds.finish(convert.identifier(request.job, "job"), outcome)
        return training_pb2.FinishReply()


class ControlServicer(control_pb2_grpc.ControlServicer):
    def __init__(self, control: api.ControlService) -> None:
        self._control = control

    async def Status(self, request: control_pb2.StatusRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.status())

    async def Pause(self, request: control_pb2.PauseRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.pause())

    async def Resume(self, request: control_pb2.ResumeRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.resume())

    async def Invite(self, request: control_pb2.InviteRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.invite(request.legal_name, request.valid_hours))

    async def ListMembers(self, request: control_pb2.ListMembersRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.list_members())

    async def AcceptMember(self, request: control_pb2.AcceptMemberRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.accept_member(request.fingerprint))

    async def OfferDataset(self, request: control_pb2.OfferDatasetRequest, context: Any) -> control_pb2.Document:
        offered = await self._control.offer_dataset(
            _path(request.path, "path"),
            _path(request.descriptor_path, "descriptor_path"),
            _path(request.policy_path, "policy_path"),
            request.rho_micro,
            request.delta,
        )
        return convert.document_to_message(offered)

    async def ListDatasets(self, request: control_pb2.ListDatasetsRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.list_datasets())

    async def CloseRounds(self, request: control_pb2.CloseRoundsRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.close_rounds())

    async def ShowBudget(self, request: control_pb2.ShowBudgetRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.show_budget())

    async def CheckPolicy(self, request: control_pb2.CheckPolicyRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.check_policy(_path(request.policy_path, "policy_path")))

    async def SeatCommittee(self, request: control_pb2.SeatCommitteeRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.seat_committee(list(request.members)))

    async def CatalogueApp(self, request: control_pb2.CatalogueAppRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.catalogue_app(request.name, request.fab))

    async def ApproveApp(self, request: control_pb2.ApproveAppRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.approve_app(request.digest))

    async def ExplainJob(self, request: control_pb2.ExplainJobRequest, context: Any) -> control_pb2.Document:
        job = convert.job_from_bytes(request.job)
        return convert.document_to_message(await self._control.explain_job(job))

    async def SubmitJob(self, request: control_pb2.SubmitJobRequest, context: Any) -> control_pb2.Document:
        job = convert.job_from_bytes(request.job)
        return convert.document_to_message(await self._control.submit_job(job))

    async def WatchJob(
        self, request: control_pb2.WatchJobRequest, context: Any
    ) -> AsyncGenerator[control_pb2.Document, None]:
        async with _ended(self._control.watch_job(request.job)) as documents:
            async for document in documents:
                yield convert.document_to_message(document)

    async def AbortJob(self, request: control_pb2.AbortJobRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.abort_job(request.job))

    async def ListJobs(self, request: control_pb2.ListJobsRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.list_jobs())

    async def ExportLedger(self, request: control_pb2.ExportLedgerRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.export_ledger(_path(request.folder, "folder")))

    async def SaveCheckpoint(self, request: control_pb2.SaveCheckpointRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.save_checkpoint(_path(request.path, "path")))

    async def ListEntries(self, request: control_pb2.ListEntriesRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.list_entries(request.start, request.limit))

    async def ShowCredits(self, request: control_pb2.ShowCreditsRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.show_credits())

    async def Settle(self, request: control_pb2.SettleRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.settle(request.job, request.amount))

    async def Propose(self, request: control_pb2.ProposeRequest, context: Any) -> control_pb2.Document:
        change = convert.change_from_bytes(request.change)
        return convert.document_to_message(await self._control.propose(change, request.from_index))

    async def Vote(self, request: control_pb2.VoteRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.vote(request.proposal, request.choice))

    async def ListProposals(self, request: control_pb2.ListProposalsRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.list_proposals())

    async def RotateKey(self, request: control_pb2.RotateKeyRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.rotate_key())

    async def Erase(self, request: control_pb2.EraseRequest, context: Any) -> control_pb2.Document:
        return convert.document_to_message(await self._control.erase(request.member))


@asynccontextmanager
async def _ended(stream: AsyncIterator[T]) -> AsyncGenerator[AsyncIterator[T], None]:
    """A caller that goes away leaves the stream unfinished; its `finally` clauses run at once, not at collection."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _member() -> bytes:
    member = CALLER.get()
    assert member is not None, "the rule of this call is MEMBER"
    return member


def _bounded(data: bytes, bytes_max: int, field: str) -> bytes:
    if len(data) > bytes_max:
        raise LimitError(f"A field has more than {bytes_max} bytes.", where=field, mend="Send less.")
    return data


def _path(text: str, field: str) -> Path:
    """The caller's working folder is not ours, so a relative path would name another file than the one it meant."""
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise EncodingError("A path is not absolute.", where=field, mend="Send the absolute path.")
    return path
