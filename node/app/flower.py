"""Flower's processes as the services want them: started when a training job needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from consortium.errors import UnavailableError
from consortium.jobs import TrainingRequest
from consortium.state import Job
from node.config import NodeConfig, split_address
from node.services.member import training_plan
from node.training.ports import Plan
from node.training.supervisor import FLOWER_APP, SuperLinkProcess, SuperNodeProcess

ONLINE_PATIENCE_S = 90.0
ONLINE_POLL_S = 0.25


class MemberFlower:
    """A member's SuperNode: up while a training job is."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._process: SuperNodeProcess | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        async with self._lock:
            if self._process is None:
                home = self._config.home
                self._process = SuperNodeProcess(
                    home.flower,
                    self._config.addresses.fleet,
                    home.ca_certificate,
                    home.flower_key,
                    command=(*FLOWER_APP, "supernode", str(home.trainer_socket)),
                )
                self._process.start()

    async def forget(self, job: bytes) -> None:
        if self._process is not None:
            await self._process.forget(job)

    async def stop(self) -> None:
        async with self._lock:
            process, self._process = self._process, None
            if process is not None:
                await process.stop()


class CoordinatorFlower:
    """The coordinator's SuperLink: up from the first training job on."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._process: SuperLinkProcess | None = None
        self._lock = asyncio.Lock()

    async def run(self, job: Job, request: TrainingRequest, fab: bytes, members: Mapping[bytes, bytes]) -> str:
        """Runs an app to its end, once all members' SuperNodes are there.

        Raises:
            UnavailableError: the SuperLink or a SuperNode does not come up.
            TrainingError: Flower refuses the app.
        """
        link = await self._started()
        keys = list(members.values())
        await link.register(keys)
        await self._all_online(link, keys)
        plan = Plan.from_dict(training_plan(request, len(job.datasets)))
        await link.start_run(job.id, fab, plan, members, bytes.fromhex(request.seed))
        return await link.wait_run(job.id)

    async def abort(self, job: bytes) -> None:
        if self._process is not None:
            await self._process.stop_run(job)

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    async def _started(self) -> SuperLinkProcess:
        async with self._lock:
            if self._process is None:
                home = self._config.home
                host, port = split_address(self._config.addresses.fleet)
                process = SuperLinkProcess(
                    home.flower,
                    host,
                    port,
                    home.tls_certificate,
                    home.tls_key,
                    serverapp_command=(*FLOWER_APP, "serverapp", str(home.rounds_socket)),
                )
                await process.start()
                self._process = process
            return self._process

    async def _all_online(self, link: SuperLinkProcess, keys: list[bytes]) -> None:
        try:
            async with asyncio.timeout(ONLINE_PATIENCE_S):
                while await link.online(keys) < frozenset(keys):  # noqa: ASYNC110 another process knows it
                    await asyncio.sleep(ONLINE_POLL_S)  # the SuperLink tells only when asked
        except TimeoutError as error:
            raise UnavailableError(
                "Not every member's SuperNode connected in time.",
                where=self._config.addresses.fleet,
                mend="Check that members reach the coordinator's training address; see flower.log there.",
            ) from error
