"""What leaves a node: no planted value, no exact partial sum, and nothing that differs from uniform noise."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consortium.errors import DatasetError
from consortium.jobs import read_request
from consortium.privacy.plan import Plan
from consortium.privacy.secure_sum import encode_signed, minimum_threshold
from consortium.privacy.secure_sum.words import subtract_in_place, wire_bytes
from node.coordinator.sum_run import words_of
from node.log import close_log, open_log
from node.services.api import SumStep
from tests.simulator import POLICY, Attacker, Consortium, SimulatedRows, consortium
from tests.simulator.attacker import Sum
from tests.simulator.consortium import until
from tests.worlds import documents

CANARY = "canary-4711-in-a-cell"
POWERS = 1_789
CHI_SQUARE_255_MAX = 378.0  # exceeded once in a million runs by 256 equally frequent bytes


def many(place: int) -> SimulatedRows:
    """So many records that the sums have eight digits and more: no such number turns up by chance."""
    return SimulatedRows([(float(POWERS + place), 7.0)] * (20_011 + place))


async def left_behind(house: Consortium, folder: Path) -> dict[str, bytes]:
    """Everything that others could ever see of the members, by where it is."""
    core = house.coordinator.core
    sent = [message for member in house.members for message in member.link.sent]
    return {
        "ledger": b"\n".join(await house.ledger()),
        "messages": b"\n".join(repr(message).encode() for message in sent),
        "vectors": b"\n".join(message.vector for message in sent if isinstance(message, SumStep)),
        "transcripts": b"\n".join(
            [
                await core.transcripts.get(bytes.fromhex(record.body["transcript_sha256"]))
                for job in house.state.jobs.values()
                for record in job.sums.values()
            ]
        ),
        "log": b"\n".join(file.read_bytes() for file in folder.iterdir()),  # noqa: ASYNC240 a file
    }


def traces(total: int) -> list[bytes]:
    """A secret total as it could stand somewhere: decimal, hexadecimal, words of 32, 64 and 128 bits."""
    assert len(str(abs(total))) >= 8
    word = bytes(wire_bytes(encode_signed([total], 128)))
    return [str(total).encode(), b"%x" % abs(total), word, word[:8], word[:8][::-1], word[:4], word.hex().encode()]


async def test_no_canary_and_no_exact_sum_leaves_a_node(tmp_path: Path) -> None:
    """Fails when a node sends a sum without noise or mask, or writes one into its log."""
    logs = tmp_path / "logs"
    logs.mkdir()
    open_log(logs)
    try:
        async with consortium(tmp_path, rows=many) as house:
            request = documents.statistic() | {"measures": ["count", "mean", "std"]}
            said = await house.coordinator.jobs.submit(house.body(request))
            assert (await house.coordinator.last(said.leaf))["state"] == "done"
            plan = Plan.of(read_request(house.job(said.leaf).body), minimum_threshold(4))  # type: ignore[arg-type]
            seen = await left_behind(house, logs)
            for member in house.members:
                for total in member.rows.totals(plan)[1:]:  # type: ignore[attr-defined]
                    for trace in traces(total):
                        assert not [place for place, text in seen.items() if trace in text]
    finally:
        close_log()


@pytest.mark.parametrize("failure", [RuntimeError(CANARY), ValueError(0, CANARY), DatasetError(CANARY)])
async def test_what_an_error_quotes_reaches_no_other_party(tmp_path: Path, failure: Exception) -> None:
    """Fails when a node sends the text of an error instead of its code. An unexpected error's is not logged either."""
    logs = tmp_path / "logs"
    logs.mkdir()
    open_log(logs)
    try:
        async with consortium(tmp_path) as house:
            house.members[0].rows.failure = failure  # type: ignore[attr-defined]
            attacker = Attacker(house)
            job = await attacker.launch(house.body(documents.statistic()))
            attack = Sum(attacker, attacker.spec(job))
            step = attack.step("share", await attack.share())
            await attack.relay(step, house.ids[1:])
            house.coordinator.hub.send(house.ids[0], step)
            answers = attacker.answers[house.ids[0]]
            if isinstance(failure, DatasetError):
                assert (await asyncio.wait_for(answers.get(), 20)).code == "bad-dataset"  # type: ignore[union-attr]
            else:
                name = type(failure).__name__.encode()
                await until(lambda: name in (logs / "node.log").read_bytes())
                assert answers.empty()
            seen = await left_behind(house, logs)
            if isinstance(failure, DatasetError):
                seen.pop("log")  # a refusal's own words stand in the log of the node's own machine
            assert not [place for place, text in seen.items() if CANARY.encode() in text]
    finally:
        close_log()


async def test_the_reasons_of_a_policy_reach_the_requester_and_no_ledger_or_log(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    open_log(logs)
    policy = POLICY.replace("The purpose is not agreed.", CANARY)
    try:
        async with consortium(tmp_path, policies=dict.fromkeys(range(4), policy)) as house:
            document = await house.ask(purpose="resale")
            assert document["refusals"][0]["clauses"] == [{"id": "purpose", "reason": CANARY}]
            seen = await left_behind(house, logs)
            assert [place for place, text in seen.items() if CANARY.encode() in text] == ["messages"]
            assert re.search(rb'"code": ?"refuse"', seen["log"])
    finally:
        close_log()


async def vectors_of(house: Consortium, epsilon: int) -> tuple[Sum, dict[bytes, bytes]]:
    attacker = Attacker(house)
    edges = [f"{edge / 4}" for edge in range(65)]
    request: dict[str, Any] = documents.statistic(epsilon) | {
        "measures": ["mean_by_bin"],
        "bin": {"column": "wind", "edges": edges},
    }
    job = await attacker.launch(house.body(request))
    attack = Sum(attacker, attacker.spec(job))
    await attack.mask()
    return attack, attack.vectors


def chi_square(data: bytes) -> float:
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(((counts - expected) ** 2 / expected).sum())


async def test_what_one_node_sends_is_uniform_and_so_is_the_difference_of_two_sums(tmp_path: Path) -> None:
    """Fails without the masks, or when two sums over the same data use the same ones. False alarm: 1e-5."""
    async with consortium(tmp_path, count=3) as house:
        attack, first = await vectors_of(house, 1_000)
        _, second = await vectors_of(house, 1_001)
        for member in house.ids:
            assert len(first[member]) == 128 * 16
            difference = words_of(first[member], attack.spec)
            subtract_in_place(difference, words_of(second[member], attack.spec))
            for data in (first[member], second[member], bytes(wire_bytes(difference))):
                assert chi_square(data) < CHI_SQUARE_255_MAX
        plain = bytes(wire_bytes(encode_signed(list(range(128)), 128)))
        assert chi_square(plain) > CHI_SQUARE_255_MAX
