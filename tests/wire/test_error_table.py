"""Every refusal has a status of its own choosing, and comes back as the class that was raised."""

from __future__ import annotations

import grpc
import pytest
from grpc import aio

from consortium import errors
from consortium.errors import ConsortiumError, LimitError, NotAuthorisedError, NotFoundError, UnavailableError
from node.rpc.errors import STATUS, consortium_error, known_errors, metadata_of, raise_from, status_of

OURS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ConsortiumError)),
    key=lambda kind: kind.__name__,
)


def failed(code: grpc.StatusCode, details: str = "", metadata: tuple = ()) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*metadata), details)


def test_the_table_lists_every_error_of_the_core():
    assert set(STATUS) == set(OURS)


def test_no_two_errors_share_a_code():
    codes = [kind.code for kind in OURS]
    assert len(codes) == len(set(codes))


def test_no_refusal_looks_like_success_or_a_fault_of_ours():
    assert not set(STATUS.values()) & {grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_refusal_survives_the_way_over_the_wire(kind):
    error = kind("数据列 does not exist.", where="line 3, column 7", mend="See the catalogue.")
    back = consortium_error(failed(status_of(error), error.what, metadata_of(error)), "peer:1")
    assert type(back) is kind
    assert (back.what, back.where, back.mend) == (error.what, error.where, error.mend)


def test_an_error_that_is_not_listed_has_the_status_of_its_base():
    class NewError(errors.BudgetError):
        code = "new-in-this-test"

    assert status_of(NewError("x")) == STATUS[errors.BudgetError]
    assert NewError in known_errors()


def test_a_code_from_a_newer_peer_is_still_a_refusal():
    metadata = (("consortium-code", "of-the-future"), ("consortium-what-bin", b"No."))
    back = consortium_error(failed(grpc.StatusCode.ABORTED, "", metadata), "peer:1")
    assert type(back) is ConsortiumError
    assert back.what == "No."


def test_a_peers_text_cannot_steer_a_terminal():
    metadata = (("consortium-code", "paused"), ("consortium-what-bin", b"\x1b[2J\r\nPaid 100\x00"))
    assert consortium_error(failed(grpc.StatusCode.ABORTED, "", metadata), "p").what.isprintable()


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Connection refused", UnavailableError),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Tls handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED",
            NotAuthorisedError,
        ),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", UnavailableError),
        (grpc.StatusCode.CANCELLED, "", UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", LimitError),
        (grpc.StatusCode.UNIMPLEMENTED, "", NotFoundError),
        (grpc.StatusCode.INTERNAL, "some text of the peer", UnavailableError),
        (grpc.StatusCode.UNKNOWN, "some text of the peer", UnavailableError),
        (grpc.StatusCode.DATA_LOSS, "some text of the peer", UnavailableError),
    ],
)
def test_a_transport_fault_is_explained(code, details, kind):
    with pytest.raises(kind) as caught:
        raise_from(failed(code, details), "peer:1")
    assert caught.value.where == "peer:1"
    assert caught.value.mend
    assert "some text" not in str(caught.value)
