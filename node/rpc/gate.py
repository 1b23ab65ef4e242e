"""The one interceptor of every listener: admits the caller, parses the message, and turns what is raised into a status.

Handlers get their requests as raw bytes from gRPC and parse them here, because gRPC answers bytes that do not parse
with UNKNOWN, and a caller should see that the fault is its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from consortium.errors import ConsortiumError, EncodingError
from node.log import log, log_exception
from node.rpc.auth import CALLER, Admission
from node.rpc.errors import DETAILS_CHARS_MAX, INTERNAL_TEXT, metadata_of, status_of

Context = aio.ServicerContext[Any, Any]
Parse = Callable[[bytes], Any]
StillAdmitted = Callable[[], None]


class Gate(aio.ServerInterceptor):
    """Wraps all four kinds of handlers; a method that the server does not have stays UNIMPLEMENTED."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        return None if handler is None else self._wrap(handler, handler_call_details.method)

    def _wrap(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        parse: Parse = handler.request_deserializer
        make: Any
        behaviour: Any
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else None
            make = make or grpc.unary_stream_rpc_method_handler
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

            async def behaviour(request: Any, context: Context) -> None:
                async with self._answering(method, context) as still_admitted:
                    await _write_all(inner(_parsed(parse, request, still_admitted), context), context, still_admitted)
        else:
            make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else None
            make = make or grpc.unary_unary_rpc_method_handler
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

            async def behaviour(request: Any, context: Context) -> Any:
                async with self._answering(method, context) as still_admitted:
                    return await inner(_parsed(parse, request, still_admitted), context)

        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            behaviour, request_deserializer=None, response_serializer=handler.response_serializer
        )
        return wrapped

    @asynccontextmanager
    async def _answering(self, method: str, context: Context) -> AsyncIterator[StillAdmitted]:
        try:
            with self._admission.admitted(method, context) as still_admitted:
                yield still_admitted
        except aio.AbortError:
            raise
        except ConsortiumError as error:
            caller = CALLER.get()
            log("rpc.refused", method=method, code=error.code, member=caller.hex() if caller else None)
            await context.abort(status_of(error), error.what[:DETAILS_CHARS_MAX], metadata_of(error))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it was, the caller sees only INTERNAL
            log_exception("rpc.failed", error, method=method)
            await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


async def _write_all(
    responses: AsyncGenerator[Any, None] | Awaitable[None], context: Context, still_admitted: StillAdmitted
) -> None:
    if isinstance(responses, AsyncGenerator):
        async with aclosing(responses):
            async for response in responses:
                still_admitted()
                await context.write(response)
    else:  # a handler that writes by itself, such as grpc.health's Watch
        await responses


def _parsed(parse: Parse, request: bytes | AsyncIterator[bytes], still_admitted: StillAdmitted) -> Any:
    return _parse(parse, request) if isinstance(request, bytes) else _parse_all(parse, request, still_admitted)


async def _parse_all(
    parse: Parse, requests: AsyncIterator[bytes], still_admitted: StillAdmitted
) -> AsyncGenerator[Any, None]:
    async for request in requests:
        still_admitted()
        yield _parse(parse, request)


def _parse(parse: Parse, request: bytes) -> Any:
    try:
        return parse(request)
    except DecodeError as error:
        raise EncodingError(
            "The bytes are not a message of this call.", mend="Check that both ends run compatible versions."
        ) from error
