"""What version 1 of the protocol puts on the wire: a change here breaks members that run an older node."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from node.rpc import convert
from node.services import api
from protos.v1 import control_pb2, enrolment_pb2, exchange_pb2, ledger_pb2, training_pb2

ID = b"\xaa" * 32
H = "aa" * 32

GOLDEN: list[tuple[Message, str]] = [
    (ledger_pb2.AppendRequest(frame=b"\x01"), "0a0101"),
    (ledger_pb2.AppendReply(index=300, checkpoint=b"c"), "08ac02120163"),
    (ledger_pb2.FollowRequest(start=1), "0801"),
    (convert.batch_to_message(api.Batch(1, (b"a", b"b"), b"c")), "08011201611201621a0163"),
    (enrolment_pb2.RedeemRequest(secret=b"s", frame=b"f", csr=b"c"), "0a01731201661a0163"),
    (convert.redeemed_to_message(api.Redeemed(b"c", b"a", b"g")), "0a01631201611a0167"),
    (convert.from_member_to_message(api.Hello("1", paused=True)), "0a050a01311001"),
    (
        convert.from_member_to_message(api.Explained(7, permitted=True, clauses=(api.Clause("i", "r"),))),
        "120c080710011a060a0169120172",
    ),
    (convert.from_member_to_message(api.Reasons(ID, (api.Clause("i", "r"),))), f"1a2a0a20{H}12060a0169120172"),
    (
        convert.from_member_to_message(api.SumStep(ID, 2, "mask", (b"f",), b"v", (ID,))),
        f"224e0a20{H}100218032201662a01763220{H}",
    ),
    (convert.from_member_to_message(api.SumFailed(ID, 2, "c")), f"2a270a20{H}10021a0163"),
    (convert.to_member_to_message(api.Explain(7, b"j", 3)), "0a07080712016a1803"),
    (convert.to_member_to_message(api.SumOpen(b"s", 3)), "12050a01731003"),
    (convert.to_member_to_message(api.SumStep(ID, 1, "reveal")), f"1a260a20{H}10011805"),
    (convert.to_member_to_message(api.SumClosed(ID, 2, "")), f"22240a20{H}1002"),
    (training_pb2.MaskRequest(job=ID, round=1, model_sha256=ID, vector=b"abcd"), f"0a20{H}10011a20{H}220461626364"),
    (control_pb2.Document(json=b"{}"), "0a027b7d"),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda value: getattr(type(value), "__name__", ""))
def test_a_message_has_the_bytes_of_version_1(message, golden):
    assert message.SerializeToString(deterministic=True).hex() == golden


def test_the_phases_keep_their_numbers():
    assert dict(exchange_pb2.Phase.items()) == {
        "PHASE_UNSPECIFIED": 0,
        "PHASE_ADVERTISE": 1,
        "PHASE_SHARE": 2,
        "PHASE_MASK": 3,
        "PHASE_VOTE": 4,
        "PHASE_REVEAL": 5,
    }
