"""Messages <-> the values of `node.services.api`; nothing else knows both.

Reading is strict: an id of another length, a missing or unknown member of a oneof, an unknown enum value or a vector
that is not whole words raises EncodingError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from consortium.encoding import Json, canonical, parse
from consortium.errors import EncodingError, LimitError
from node.log import TEXT_FIELDS
from node.services import api
from protos.v1 import control_pb2, enrolment_pb2, exchange_pb2, ledger_pb2, training_pb2

ID_BYTES = 32
ITEMS_MAX = 4_096
TEXT_CHARS_MAX = 2_000
JOB_BYTES_MAX = 65_535

T = TypeVar("T")
Words = npt.NDArray[np.uint32]

_PHASES: Mapping[api.PhaseName, exchange_pb2.Phase.ValueType] = {
    "advertise": exchange_pb2.PHASE_ADVERTISE,
    "share": exchange_pb2.PHASE_SHARE,
    "mask": exchange_pb2.PHASE_MASK,
    "vote": exchange_pb2.PHASE_VOTE,
    "reveal": exchange_pb2.PHASE_REVEAL,
}
_PHASE_NAMES = {value: name for name, value in _PHASES.items()}


def identifier(value: bytes, field: str) -> bytes:
    """A 32-byte id or digest. Raises EncodingError."""
    if len(value) != ID_BYTES:
        raise EncodingError("An id or digest has a wrong length.", where=field, mend="Send its 32 bytes.")
    return value


def identifiers(values: Iterable[bytes], field: str) -> tuple[bytes, ...]:
    """Ids in their order. Raises EncodingError, LimitError."""
    return tuple(identifier(value, field) for value in _few(values, field))


def words_from_bytes(data: bytes, field: str) -> Words:
    """Little-endian uint32, shape (len // 4,). Raises EncodingError."""
    if len(data) % 4:
        raise EncodingError("A vector is not a whole number of 32-bit words.", where=field)
    return np.frombuffer(data, dtype="<u4").astype(np.uint32, copy=False)


def words_to_bytes(words: Words) -> bytes:
    """Little-endian uint32."""
    return np.ascontiguousarray(words, dtype="<u4").tobytes()


def document_to_message(document: Json) -> control_pb2.Document:
    """A document for people and programs on this machine; unlike what is signed, it may hold floats."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return control_pb2.Document(json=text.encode())


def document_from_message(message: control_pb2.Document) -> Json:
    """Raises EncodingError when the bytes are not JSON."""
    try:
        return json.loads(message.json)
    except ValueError as error:
        raise EncodingError("The node's answer is not JSON.", where="json") from error


def job_from_bytes(data: bytes) -> Json:
    """The typed request of a job: a canonical JSON object of at most 65,535 bytes. Raises EncodingError, LimitError."""
    job = parse(data, bytes_max=JOB_BYTES_MAX)
    if not isinstance(job, dict):
        raise EncodingError("A job is not a JSON object.", where="job", mend="Send an object.")
    return job


def change_from_bytes(data: bytes) -> Json:
    """A proposed change: a canonical JSON object of at most 65,535 bytes. Raises EncodingError, LimitError."""
    change = parse(data, bytes_max=JOB_BYTES_MAX)
    if not isinstance(change, dict):
        raise EncodingError("A change is not a JSON object.", where="change", mend="Send an object.")
    return change


def batch_to_message(batch: api.Batch) -> ledger_pb2.FollowReply:
    return ledger_pb2.FollowReply(start=batch.start, frames=batch.frames, checkpoint=batch.checkpoint)


def batch_from_message(message: ledger_pb2.FollowReply) -> api.Batch:
    """Raises LimitError when the batch holds more entries than any honest one."""
    return api.Batch(message.start, tuple(_few(message.frames, "frames")), message.checkpoint)


def redeemed_to_message(redeemed: api.Redeemed) -> enrolment_pb2.RedeemReply:
    return enrolment_pb2.RedeemReply(
        certificate=redeemed.certificate, ca_certificate=redeemed.ca_certificate, genesis=redeemed.genesis
    )


def redeemed_from_message(message: enrolment_pb2.RedeemReply) -> api.Redeemed:
    return api.Redeemed(message.certificate, message.ca_certificate, message.genesis)


def from_member_to_message(value: api.FromMember) -> exchange_pb2.FromMember:
    """What a member says on its stream."""
    match value:
        case api.Hello():
            hello = exchange_pb2.Hello(version=value.version, paused=value.paused)
            return exchange_pb2.FromMember(hello=hello)
        case api.Explained():
            clauses = _clauses_to_messages(value.clauses)
            explained = exchange_pb2.Explained(call=value.call, permitted=value.permitted, clauses=clauses)
            return exchange_pb2.FromMember(explained=explained)
        case api.Reasons():
            reasons = exchange_pb2.Reasons(job=value.job, clauses=_clauses_to_messages(value.clauses))
            return exchange_pb2.FromMember(reasons=reasons)
        case api.SumStep():
            return exchange_pb2.FromMember(step=_step_to_message(value))
        case api.SumFailed():
            failed = exchange_pb2.SumFailed(job=value.job, round=value.round, code=value.code)
            return exchange_pb2.FromMember(failed=failed)


def from_member_from_message(message: exchange_pb2.FromMember) -> api.FromMember:
    """Raises EncodingError, LimitError."""
    match message.WhichOneof("message"):
        case "hello":
            return api.Hello(_word(message.hello.version, "version", "hello.version"), message.hello.paused)
        case "explained":
            explained = message.explained
            clauses = _clauses_from_messages(explained.clauses, "explained.clauses")
            return api.Explained(explained.call, explained.permitted, clauses)
        case "reasons":
            clauses = _clauses_from_messages(message.reasons.clauses, "reasons.clauses")
            return api.Reasons(identifier(message.reasons.job, "reasons.job"), clauses)
        case "step":
            return _step_from_message(message.step)
        case "failed":
            failed = message.failed
            code = _word(failed.code, "code", "failed.code")
            return api.SumFailed(identifier(failed.job, "failed.job"), failed.round, code)
        case _:
            raise _unknown("FromMember")


def to_member_to_message(value: api.ToMember) -> exchange_pb2.ToMember:
    """What the coordinator says on a member's stream."""
    match value:
        case api.Explain():
            return exchange_pb2.ToMember(
                explain=exchange_pb2.Explain(call=value.call, job=value.job, ledger_size=value.ledger_size)
            )
        case api.SumOpen():
            return exchange_pb2.ToMember(open=exchange_pb2.SumOpen(spec=value.spec, ledger_size=value.ledger_size))
        case api.SumStep():
            return exchange_pb2.ToMember(step=_step_to_message(value))
        case api.SumClosed():
            closed = exchange_pb2.SumClosed(job=value.job, round=value.round, code=value.code)
            return exchange_pb2.ToMember(closed=closed)


def to_member_from_message(message: exchange_pb2.ToMember) -> api.ToMember:
    """Raises EncodingError, LimitError."""
    match message.WhichOneof("message"):
        case "explain":
            return api.Explain(message.explain.call, message.explain.job, message.explain.ledger_size)
        case "open":
            return api.SumOpen(message.open.spec, message.open.ledger_size)
        case "step":
            return _step_from_message(message.step)
        case "closed":
            closed = message.closed
            code = _word(closed.code, "code", "closed.code") if closed.code else ""
            return api.SumClosed(identifier(closed.job, "closed.job"), closed.round, code)
        case _:
            raise _unknown("ToMember")


def begin_to_message(begin: api.Begin) -> training_pb2.BeginReply:
    plan = canonical(begin.plan)
    return training_pb2.BeginReply(permitted=begin.permitted, code=begin.code, table=begin.table, plan=plan)


def begin_from_message(message: training_pb2.BeginReply) -> api.Begin:
    """Raises EncodingError."""
    return api.Begin(message.permitted, message.code, message.table, parse(message.plan))


def arrays_to_messages(arrays: Mapping[bytes, Words]) -> list[training_pb2.MaskedArray]:
    return [training_pb2.MaskedArray(member=member, words=words_to_bytes(words)) for member, words in arrays.items()]


def arrays_from_messages(messages: Iterable[training_pb2.MaskedArray]) -> dict[bytes, Words]:
    """Masked vectors by member. Raises EncodingError, also when a member stands there twice."""
    listed = list(messages)
    arrays = {
        identifier(array.member, "arrays.member"): words_from_bytes(array.words, "arrays.words") for array in listed
    }
    if len(arrays) != len(listed):
        raise EncodingError("A member's masked vector is there twice.", where="arrays.member", mend="Send it once.")
    return arrays


def sum_to_message(total: api.RoundSum) -> training_pb2.SumReply:
    return training_pb2.SumReply(total=words_to_bytes(total.total), survivors=total.survivors)


def sum_from_message(message: training_pb2.SumReply) -> api.RoundSum:
    """Raises EncodingError."""
    return api.RoundSum(words_from_bytes(message.total, "total"), identifiers(message.survivors, "survivors"))


def _step_to_message(step: api.SumStep) -> exchange_pb2.SumStep:
    return exchange_pb2.SumStep(
        job=step.job,
        round=step.round,
        phase=_PHASES[step.phase],
        frames=step.frames,
        vector=step.vector,
        survivors=step.survivors,
    )


def _step_from_message(message: exchange_pb2.SumStep) -> api.SumStep:
    phase = _PHASE_NAMES.get(message.phase)
    if phase is None:
        raise EncodingError("A step has an unknown phase.", where="step.phase", mend="Update the older of both ends.")
    return api.SumStep(
        job=identifier(message.job, "step.job"),
        round=message.round,
        phase=phase,
        frames=tuple(_few(message.frames, "step.frames")),
        vector=message.vector,
        survivors=identifiers(message.survivors, "step.survivors"),
    )


def _clauses_to_messages(clauses: Iterable[api.Clause]) -> list[exchange_pb2.Clause]:
    return [exchange_pb2.Clause(id=clause.id, reason=clause.reason) for clause in clauses]


def _clauses_from_messages(messages: Iterable[exchange_pb2.Clause], field: str) -> tuple[api.Clause, ...]:
    return tuple(
        api.Clause(_short(clause.id, f"{field}.id", TEXT_CHARS_MAX), _short(clause.reason, field, TEXT_CHARS_MAX))
        for clause in _few(messages, field)
    )


def _few(values: Iterable[T], field: str) -> list[T]:
    listed = list(values)
    if len(listed) > ITEMS_MAX:
        raise LimitError(f"A list has more than {ITEMS_MAX} items.", where=field)
    return listed


def _short(text: str, field: str, chars_max: int) -> str:
    if len(text) > chars_max:
        raise LimitError(f"A text has more than {chars_max} characters.", where=field)
    return text


def _word(text: str, kind: str, field: str) -> str:
    """A peer's code or version, of the form in which the log takes it: no room for anything else."""
    if not TEXT_FIELDS[kind].fullmatch(text):
        raise EncodingError(f"A {kind} is not of the form of one.", where=field)
    return text


def _unknown(message: str) -> EncodingError:
    return EncodingError(
        "The stream's message is of no kind that is known here.", where=message, mend="Update the older of both ends."
    )
