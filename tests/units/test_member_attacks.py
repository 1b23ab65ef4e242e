"""A hostile coordinator against honest members: each of its moves is refused, by the check that is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consortium.encoding import parse
from consortium.keys import SigningKey, open_frame, sign_frame
from consortium.privacy.accounting import rho_micro_for
from consortium.privacy.secure_sum import minimum_threshold
from node.services.api import SumClosed, SumFailed, SumStep
from tests.simulator import POLICY, Attacker, Consortium, consortium
from tests.simulator.attacker import Answer, Sum
from tests.simulator.consortium import until
from tests.worlds import documents

RHO = rho_micro_for(1_000, documents.DELTA)


def failed(answer: Answer, code: str = "secure-sum-refused") -> bool:
    return isinstance(answer, SumFailed) and answer.code == code


async def masked_sum(house: Consortium, **changes: Any) -> Sum:
    """A sum whose vectors are all in."""
    attacker = Attacker(house)
    job = await attacker.launch(house.body(documents.statistic()))
    attack = Sum(attacker, attacker.spec(job, **changes))
    await attack.mask()
    return attack


async def test_a_member_votes_for_one_survivor_set_in_a_round(tmp_path: Path) -> None:
    """Fails without `_replies` and the step check of `Participant.vote`: a second vote would unmask one vector."""
    async with consortium(tmp_path) as house:
        attack = await masked_sum(house)
        everybody, three = house.ids, house.ids[:3]
        first = await attack.relay(attack.step("vote", survivors=everybody), three)
        second = await attack.attacker.ask(dict.fromkeys(three, attack.step("vote", survivors=three)))
        assert all(failed(answer) or answer == first[member] for member, answer in second.items())


async def test_a_restarted_member_votes_no_more_in_its_rounds(tmp_path: Path) -> None:
    """Fails when a round is taken up again after a restart."""
    async with consortium(tmp_path) as house:
        attack = await masked_sum(house)
        seat = house.members[0]
        await attack.vote(house.ids)
        await seat.restart()
        await house.everybody()
        answers = await attack.attacker.ask({seat.id: attack.step("vote", survivors=house.ids[:3])})
        assert failed(answers[seat.id])


async def test_no_id_is_both_alive_and_dead(tmp_path: Path) -> None:
    """Fails without the comparison of votes in `check_votes`: the last member would reveal for another set."""
    async with consortium(tmp_path) as house:
        attack = await masked_sum(house)
        three = house.ids[:3]
        votes = await attack.vote(three)
        await attack.relay(attack.step("vote", survivors=house.ids), house.ids[3:])
        answers = await attack.attacker.ask({house.ids[3]: attack.step("reveal", votes)})
        assert failed(answers[house.ids[3]])
        mixed = await attack.attacker.ask({three[0]: attack.step("reveal", [*votes[:2], votes[0]])})
        assert failed(mixed[three[0]])


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_round_is_not_served_twice(tmp_path: Path, restarted: bool) -> None:
    """Fails without `RoundJournal.open_round`: a second vector over the same data, and a second spend."""
    async with consortium(tmp_path) as house:
        attack = await masked_sum(house, round=1)
        closing = SumClosed(attack.spec.job, 1, "aborted")
        for seat in house.members:
            house.coordinator.hub.send(seat.id, closing)
        if restarted:
            for seat in house.members:
                await seat.restart()
            await house.everybody()
        for number in (1, 0):
            again = await attack.attacker.propose(attack.attacker.spec(attack.spec.job, round=number))
            assert all(failed(answer) for answer in again.values())
        assert [await seat.spent() for seat in house.members] == [RHO] * 4


async def test_a_second_proposal_for_an_open_round_is_refused(tmp_path: Path) -> None:
    """Fails without the look at what runs in `MemberService._guard_sum`, and the journal behind it."""
    async with consortium(tmp_path) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic()))
        await attacker.propose(attacker.spec(job))
        other = attacker.spec(job, roster=house.ids[:3], threshold=3, length=attacker.spec(job).length)
        assert all(failed(answer) for answer in (await attacker.propose(other)).values())


WRONG: dict[str, dict[str, Any]] = {
    "another consortium": {"consortium": bytes([1]) * 32},
    "another request": {"request": bytes([2]) * 32},
    "a swapped model": {"input_model": bytes([3]) * 32},
    "another length": {"length": 3},
    "another word": {"word_bits": 32},
    "a round beyond the last": {"round": 3},
}


async def test_a_proposal_that_is_not_the_ledgers_is_refused(tmp_path: Path) -> None:
    """Fails without the line of `check_proposal` that compares this part."""
    async with consortium(tmp_path, count=3) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic()))
        for what, change in WRONG.items():
            answers = await attacker.propose(attacker.spec(job, **change))
            assert all(failed(answer) for answer in answers.values()), what
        assert all(isinstance(answer, SumStep) for answer in (await attacker.propose(attacker.spec(job))).values())
        assert all(seat.rows.reads == 0 for seat in house.members)  # type: ignore[attr-defined]


async def test_a_roster_with_somebody_who_has_not_permitted_the_job_is_refused(tmp_path: Path) -> None:
    """Fails without the comparison of roster and permits in `check_proposal`."""
    strict = POLICY.replace('["benchmark", "forecast"]', '["forecast"]')
    async with consortium(tmp_path, policies={0: strict}) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic()))
        answers = await attacker.propose(attacker.spec(job))
        assert all(failed(answer) for answer in answers.values())


async def test_a_roster_below_the_jobs_minimum_is_refused(tmp_path: Path) -> None:
    """Fails without the comparison with `members_min` of the job, in `check_proposal` and again in `LocalRules`."""
    async with consortium(tmp_path) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic(), members_min=4))
        answers = await attacker.propose(attacker.spec(job, roster=house.ids[:3], threshold=3))
        assert all(failed(answer) for answer in answers.values())


async def test_a_step_of_a_job_that_the_node_refused_is_refused(tmp_path: Path) -> None:
    """Fails when a step could open a sum: nothing is read, spent or sent for a job that was refused."""
    strict = POLICY.replace('["benchmark", "forecast"]', '["forecast"]')
    async with consortium(tmp_path, policies={0: strict}) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic()))
        seat, attack = house.members[0], Sum(attacker, attacker.spec(job))
        proposed = await attacker.propose(attack.spec, [seat.id])
        assert failed(proposed[seat.id])
        for step in ("advertise", "share", "mask", "vote", "reveal"):
            answers = await attacker.ask({seat.id: attack.step(step, [b"frame"], house.ids)})
            assert failed(answers[seat.id]), step
        assert await seat.spent() == 0
        assert seat.rows.reads == 0  # type: ignore[attr-defined]
        assert seat.sent(SumStep) == []


async def test_an_unsigned_or_foreign_advert_is_refused(tmp_path: Path) -> None:
    """Fails without signatures on adverts: the coordinator could put its own mask keys in their place."""
    async with consortium(tmp_path, count=3) as house:
        attacker = Attacker(house)
        for number, forge in enumerate(FORGERIES):
            job = await attacker.launch(house.body(documents.statistic(100 + number)))
            attack = Sum(attacker, attacker.spec(job))
            adverts = await attack.advertise()
            forged = attack.step("advertise", [*adverts[:2], *forge(adverts, house.coordinator.core.signer)])
            answers = await attacker.ask(dict.fromkeys(house.ids[:2], forged))
            assert all(failed(answer) for answer in answers.values()), number


FORGERIES: list[Callable[[list[bytes], SigningKey], list[bytes]]] = [
    lambda adverts, own: [b"no frame at all"],
    lambda adverts, own: [signed_by(SigningKey(bytes([9]) * 32), adverts[2])],
    lambda adverts, own: [signed_by(own, adverts[2])],
    lambda adverts, own: [with_key_of(adverts[2], adverts[1])],
    lambda adverts, own: [],
    lambda adverts, own: [adverts[1]],
]


def with_key_of(advert: bytes, other: bytes) -> bytes:
    """The advert with a mask key in it that its signer has not signed."""
    mine, theirs = (parse(open_frame(data).payload)["mask_key"].encode() for data in (advert, other))
    return advert.replace(mine, theirs[::-1])


def signed_by(key: SigningKey, advert: bytes) -> bytes:
    frame = open_frame(advert)
    return sign_frame(key, frame.payload_type, frame.payload).data


async def test_an_honest_node_takes_no_part_among_members_it_never_accepted(tmp_path: Path) -> None:
    """Fails without `LocalRules` at the proposal: the other three could be one party."""
    async with consortium(tmp_path) as house:
        victim = house.ids[0]
    accepts = {0: frozenset(house.ids[:3])}
    async with consortium(tmp_path / "again", accepts=accepts) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.statistic()))
        roster = (victim, *house.ids[2:])
        answers = await attacker.propose(attacker.spec(job, roster=roster, threshold=minimum_threshold(3)))
        assert failed(answers[victim])
        assert isinstance(answers[house.ids[2]], SumStep)


async def test_a_job_among_too_few_accepted_members_is_refused_at_once(tmp_path: Path) -> None:
    async with consortium(tmp_path, accepts={0: frozenset()}) as house:
        document = await house.ask()
        job = house.job(bytes.fromhex(document["job"]))
        assert job.decisions[house.ids[0], "run"].clauses == ("guard-members",)
        assert house.ids[0].hex() not in document["result"]["roster"]


async def test_a_survivor_set_below_the_nodes_own_minimum_gets_no_vote(tmp_path: Path) -> None:
    """Fails without `LocalRules` at the vote: the sum of three would be unmasked against this node's own rule."""
    async with consortium(tmp_path) as house:
        seat = house.members[0]
        seat.members_min = 4
        await seat.restart()
        await house.everybody()
        attack = await masked_sum(house)
        answers = await attack.attacker.ask(dict.fromkeys(house.ids[:3], attack.step("vote", survivors=house.ids[:3])))
        assert failed(answers[seat.id])
        assert isinstance(answers[house.ids[1]], SumStep)


async def test_unfinished_rounds_of_a_requester_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without the cap, and when an abort counts as the end of a round: aborts would burn the budget."""
    monkeypatch.setattr("node.services.member_sum.UNFINISHED_MAX", 2)
    async with consortium(tmp_path, count=3) as house:
        attacker = Attacker(house)
        for number in range(3):
            job = await attacker.launch(house.body(documents.statistic(100 + number)))
            attack = Sum(attacker, attacker.spec(job))
            shares = await attack.share()
            answers = await attacker.ask(dict.fromkeys(house.ids, attack.step("share", shares)))
            if number == 2:
                assert all(failed(answer, "budget-exceeded") for answer in answers.values())
                break
            assert all(isinstance(answer, SumStep) for answer in answers.values())
            for seat in house.members:
                house.coordinator.hub.send(seat.id, SumClosed(job, 0, "aborted"))
            await attacker.abort(job)
            await house.everybody()
        accounts = house.members[0].core.accounts
        assert await accounts.unfinished(house.state.coordinator) == 2
        assert len(await accounts.entries("turbine")) == 2


async def test_a_round_that_ends_with_an_answer_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when answered jobs count for ever against their requester."""
    monkeypatch.setattr("node.services.member_sum.UNFINISHED_MAX", 1)
    async with consortium(tmp_path) as house:
        for epsilon in (500, 501, 502):
            assert (await house.ask(epsilon))["state"] == "done"
            await house.everybody()
            for seat in house.members:
                await until(lambda seat=seat: seat.core.mirror.size == house.state.size)  # type: ignore[misc]
        for seat in house.members:
            entries = await seat.core.accounts.entries("turbine")
            assert len(entries) == 3
            assert await seat.core.accounts.unfinished(house.state.coordinator) == 0


async def test_a_malformed_message_harms_nobody(tmp_path: Path) -> None:
    from node.services.api import Explain, SumOpen

    async with consortium(tmp_path) as house:
        for seat in house.members:
            house.coordinator.hub.send(seat.id, SumOpen(b"\xff{", 1))
            house.coordinator.hub.send(seat.id, SumOpen(b"{}", 1))
            house.coordinator.hub.send(seat.id, Explain(7, b"[]", 1))
            house.coordinator.hub.send(seat.id, SumClosed(bytes(32), 9, ""))
        assert (await house.ask())["state"] == "done"
