"""A coordinator that does as it pleases: it holds the seat, drives sums by hand and lies where a test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from consortium.encoding import Json, canonical, digest_of
from consortium.jobs import read_request
from consortium.ledger.entry import Draft
from consortium.privacy.plan import Plan
from consortium.privacy.secure_sum import Aggregator, SumSpec, minimum_threshold
from consortium.privacy.statistics import StatisticsRequest
from node.coordinator.sum_run import words_of
from node.services.api import Explained, Reasons, SumFailed, SumOpen, SumStep, ToMember
from tests.simulator.consortium import Consortium, until

Answer = SumStep | SumFailed


class Attacker:
    """Sends members whatever it likes and collects what they answer."""

    def __init__(self, house: Consortium) -> None:
        self.house = house
        self.answers: dict[bytes, asyncio.Queue[Answer]] = {member: asyncio.Queue() for member in house.ids}
        house.coordinator.hub.listen(self)

    def attended(self, member: bytes) -> None: ...

    def lost(self, member: bytes) -> None: ...

    def heard(self, member: bytes, message: Explained | Reasons | SumStep | SumFailed) -> None:
        if isinstance(message, SumStep | SumFailed):
            self.answers[member].put_nowait(message)

    async def launch(self, body: Json) -> bytes:
        """A job on the ledger, decided by everybody, that no `Jobs` sees through."""
        said = await self.house.coordinator.author.say(Draft("job", f"job/{digest_of(body)}", body))
        job = self.house.job(said.leaf)
        await until(lambda: job.decided() == set(job.datasets))
        return said.leaf

    async def abort(self, job: bytes) -> None:
        await self.house.coordinator.author.say(
            Draft("abort", f"abort/{job.hex()}", {"job": job.hex(), "reason": "attack"})
        )

    def spec(self, job: bytes, **changes: Any) -> SumSpec:
        """The sum that the ledger justifies, but for the changes."""
        found = self.house.job(job)
        request = read_request(found.body)
        roster = tuple(sorted(found.datasets))
        threshold = minimum_threshold(len(roster))
        honest = SumSpec(
            consortium=self.house.state.genesis,
            job=job,
            round=0,
            roster=roster,
            request=bytes.fromhex(digest_of(found.body)),
            input_model=bytes(32),
            length=Plan.of(request, threshold).length if isinstance(request, StatisticsRequest) else 4,
            word_bits=128,
            threshold=threshold,
        )
        return replace(honest, **changes)

    async def ask(self, messages: Mapping[bytes, ToMember]) -> dict[bytes, Answer]:
        """Sends each member its message and waits for one answer of each."""
        for member, message in messages.items():
            self.house.coordinator.hub.send(member, message)
        async with asyncio.timeout(60):
            return {member: await self.answers[member].get() for member in messages}

    async def propose(self, spec: SumSpec, members: Iterable[bytes] | None = None) -> dict[bytes, Answer]:
        """Proposes a sum and returns the answers: an advert, or a failure."""
        opening = SumOpen(canonical(spec.to_json()), self.house.state.size)
        return await self.ask(dict.fromkeys(members or spec.roster, opening))


class Sum:
    """One sum that the attacker drives, step by step; honest but for what a test changes on the way."""

    def __init__(self, attacker: Attacker, spec: SumSpec) -> None:
        self.attacker, self.spec = attacker, spec
        state = attacker.house.state
        self.aggregator = Aggregator(spec, {member: state.members[member].public_key for member in spec.roster})
        self.vectors: dict[bytes, bytes] = {}

    def step(self, phase: Any, frames: Sequence[bytes] = (), survivors: tuple[bytes, ...] = ()) -> SumStep:
        return SumStep(self.spec.job, self.spec.round, phase, tuple(frames), survivors=survivors)

    async def relay(self, step: SumStep, members: Iterable[bytes] | None = None) -> dict[bytes, SumStep]:
        """Sends one step to many; all of them must go on."""
        answers = await self.attacker.ask(dict.fromkeys(members or self.spec.roster, step))
        assert all(isinstance(answer, SumStep) for answer in answers.values()), answers
        return answers  # type: ignore[return-value]  # asserted above

    async def advertise(self) -> list[bytes]:
        answers = await self.attacker.propose(self.spec)
        for answer in answers.values():
            assert isinstance(answer, SumStep), answer
            self.aggregator.add_advert(answer.frames[0])
        return self.aggregator.adverts()

    async def share(self) -> list[bytes]:
        for answer in (await self.relay(self.step("advertise", await self.advertise()))).values():
            self.aggregator.add_shares(answer.frames[0])
        return self.aggregator.shares()

    async def mask(self) -> None:
        """Everything up to the masked vectors of a statistics job."""
        for member, answer in (await self.relay(self.step("share", await self.share()))).items():
            self.aggregator.add_masked(answer.frames[0], words_of(answer.vector, self.spec))
            self.vectors[member] = answer.vector

    async def vote(self, survivors: tuple[bytes, ...]) -> list[bytes]:
        answers = await self.relay(self.step("vote", survivors=survivors), survivors)
        return [answers[member].frames[0] for member in survivors]
