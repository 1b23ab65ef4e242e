"""What Flower's children call at the node that started them: synchronous clients with plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import numpy as np
import numpy.typing as npt

from node.rpc import convert
from node.rpc.channels import LOCAL_BYTES_MAX, client_options, explained_local
from node.services import api
from protos.v1 import training_pb2 as pb
from protos.v1.training_pb2_grpc import RoundsStub, TrainerStub

CALL_TIMEOUT_S = 120.0
SUM_TIMEOUT_S = 900.0  # these wait for every other member of the round

Words = npt.NDArray[np.uint32]


class _Child:
    """A channel to one unix socket; a context manager."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=client_options(LOCAL_BYTES_MAX))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


class TrainerClient(_Child):
    """The member's node, as its SuperNode's child sees it; raises what the node refused with."""

    def begin(
        self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_table: bool
    ) -> api.Begin:
        """Whether the app of this digest may run this round, and on what."""
        request = pb.BeginRequest(
            job=job, round=round_number, digest=digest, model_sha256=model_sha256, needs_table=needs_table
        )
        with explained_local(self._socket):
            return convert.begin_from_message(TrainerStub(self._channel).Begin(request, timeout=SUM_TIMEOUT_S))

    def mask(self, job: bytes, round_number: int, model_sha256: bytes, vector: Words) -> Words:
        """The vector (uint32, shape (length,)) plus this node's masks; waits for the round's keys."""
        request = pb.MaskRequest(
            job=job, round=round_number, model_sha256=model_sha256, vector=convert.words_to_bytes(vector)
        )
        with explained_local(self._socket):
            reply = TrainerStub(self._channel).Mask(request, timeout=SUM_TIMEOUT_S)
        return convert.words_from_bytes(reply.masked, "masked")


class RoundsClient(_Child):
    """The coordinator's node, as its ServerApp's child sees it; raises what the node refused with."""

    def open(self, job: bytes, round_number: int, roster: Sequence[bytes], model_sha256: bytes, length: int) -> None:
        """Starts the secure sum of a round over vectors of `length` words."""
        request = pb.OpenRequest(job=job, round=round_number, roster=roster, model_sha256=model_sha256, length=length)
        with explained_local(self._socket):
            RoundsStub(self._channel).Open(request, timeout=CALL_TIMEOUT_S)

    def sum(self, job: bytes, round_number: int, masked: Mapping[bytes, Words]) -> api.RoundSum:
        """Finishes it with the masked vectors that came by Flower, by member."""
        request = pb.SumRequest(job=job, round=round_number, arrays=convert.arrays_to_messages(masked))
        with explained_local(self._socket):
            return convert.sum_from_message(RoundsStub(self._channel).Sum(request, timeout=SUM_TIMEOUT_S))

    def finish(self, job: bytes, outcome: bytes) -> None:
        """Hands over the result of the run, a JSON document."""
        with explained_local(self._socket):
            RoundsStub(self._channel).Finish(pb.FinishRequest(job=job, outcome=outcome), timeout=SUM_TIMEOUT_S)
