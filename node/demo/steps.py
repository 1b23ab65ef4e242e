"""The eight steps of the demonstration; each leaves what it learned in the run's record."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.demo import baselines, questions, wind_farm
from node.demo.processes import DemoError, NodeProcess, Nodes, audit, command, until_ready
from node.rpc.client import ControlClient

if TYPE_CHECKING:
    from consortium.encoding import Json
    from node.demo.screen import Screen
    from node.demo.wind_farm import Holding, TableFile

SEAT = "coordinator"
FOLLOW_SECONDS_MAX = 30.0
MEMBERS = len(wind_farm.OPERATORS)
SAVER = wind_farm.OPERATORS[0].name  # the member that keeps a checkpoint
COLLUDER = wind_farm.OPERATORS[1].name


@dataclass
class Run:
    """One run: its folders, nodes and clients, and what the steps found out."""

    out: Path
    homes: Path
    data: dict[str, TableFile]
    nodes: Nodes
    clients: AsyncExitStack
    screen: Screen
    client: dict[str, ControlClient] = field(default_factory=dict)
    member: dict[str, str] = field(default_factory=dict)  # operator -> member id, hex
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def coordinator(self) -> ControlClient:
        return self.client[SEAT]

    def roster(self) -> list[tuple[str, str]]:
        """(member, dataset) of every operator."""
        return [(self.member[item.name], questions.dataset_name(item)) for item in wind_farm.OPERATORS]


async def join_all(run: Run) -> None:
    """Step 1: found, invite, join, and accept each other's fingerprints."""
    run.screen.tell("founding the consortium")
    await command("found", questions.CONSORTIUM, "--legal-name", questions.COORDINATOR, "--sector", questions.SECTOR,
                  "--home", str(run.homes / SEAT))  # fmt: skip
    await _serve(run, SEAT)
    run.screen.tell("inviting and joining four operators")
    await asyncio.gather(*(_join(run, holding) for holding in wind_farm.OPERATORS))
    run.screen.tell("starting four nodes")
    statuses = await asyncio.gather(*(_serve(run, holding.name) for holding in wind_farm.OPERATORS))
    run.member = {h.name: status["member"] for h, status in zip(wind_farm.OPERATORS, statuses, strict=True)}
    told = [status["fingerprint"] for status in statuses]  # each operator reads its own aloud
    run.screen.tell("comparing fingerprints")
    await asyncio.gather(*(_accept(run, holding.name, told) for holding in wind_farm.OPERATORS))
    run.screen.tell("seating the operators as witnesses: three of four must cosign every entry")
    run.record["committee"] = await run.coordinator.seat_committee(list(run.member.values()))
    run.record["members"] = (await run.coordinator.list_members())["members"]
    run.record["status"] = await run.coordinator.status()


async def offer_all(run: Run) -> None:
    """Step 2: every operator offers its own file in place."""
    terms = run.out / "terms"
    terms.mkdir()
    await asyncio.gather(*(_offer(run, holding, terms) for holding in wind_farm.OPERATORS))
    catalogue = await _until(run.coordinator.list_datasets, lambda seen: len(seen["datasets"]) == MEMBERS)
    run.record["datasets"] = catalogue["datasets"]
    run.screen.tell(f"{MEMBERS} datasets are in the catalogue")


async def ask(run: Run) -> None:
    """Step 3: a differentially private statistics job over all four."""
    job = questions.power_curve(run.roster())
    explanation = await run.coordinator.explain_job(job)
    if not explanation["would_run"]:
        raise DemoError("The statistics job would not run.", where=str(explanation["members"]))
    run.record["statistics_job"] = job
    run.record["statistics"] = await _finished(run, job, "done")
    run.record["budgets_after_statistics"] = await _budgets(run)


async def be_refused(run: Run) -> None:
    """Step 4: a column and a purpose that no policy allows."""
    job = questions.not_allowed(run.roster())
    run.record["refused_job"] = job
    run.record["refusal"] = await _finished(run, job, "refused")
    refusing = run.record["refusal"]["refusals"]
    if len(refusing) != MEMBERS:
        raise DemoError(f"{len(refusing)} of {MEMBERS} nodes refused.", where="refusals")
    run.screen.tell(f"{MEMBERS} nodes refused, {sum(len(r['clauses']) for r in refusing)} clauses")


async def train(run: Run, bundle: Awaitable[bytes]) -> None:
    """Step 5: approve the app, train through Flower, and compare with models made outside the nodes."""
    run.screen.tell("building, cataloguing and approving the app")
    digest = (await run.coordinator.catalogue_app(questions.APP_NAME, await bundle))["digest"]
    operators = [run.client[holding.name] for holding in wind_farm.OPERATORS]
    for client in operators:
        await _approve(client, digest)
    job = questions.training(run.roster(), digest)
    run.record["training_job"] = job
    await _until(partial(run.coordinator.explain_job, job), lambda seen: bool(seen["would_run"]))
    run.record["training"] = await _finished(run, job, "done")
    run.screen.tell("comparing with models trained outside the nodes")
    run.record["comparison"] = await asyncio.to_thread(compare, run)


def compare(run: Run) -> Json:
    """Errors on the held-out half year of every round's model, and of models trained alone and pooled."""
    request = run.record["training_job"]["request"]
    model = baselines.PowerModel.load(request["run_config"], request["rounds"])
    held_out = baselines.read_table(run.data[wind_farm.HELD_OUT].path)
    own = {holding.name: baselines.read_table(run.data[holding.name].path) for holding in wind_farm.OPERATORS}
    shared = baselines.models_of(run.record["training"]["result"])
    return {
        "rounds": [model.mae_kw(one, held_out) for one in shared],
        "alone": {name: model.mae_kw(model.trained(table), held_out) for name, table in own.items()},
        "pooled": model.mae_kw(model.trained(baselines.pooled(list(own.values()))), held_out),
        "target_scale_kw": model.config.target_scale,
    }


async def earn(run: Run) -> None:
    """Step 6: scores, and a settlement under the charter's schedule."""
    job = run.record["training"]["job"]
    run.record["settlement"] = await run.coordinator.settle(job, questions.AMOUNT)
    run.record["credits"] = await run.coordinator.show_credits()
    run.record["budgets"] = await _budgets(run)


async def be_audited(run: Run) -> None:
    """Step 7: an offline audit of the export, and of seven forgeries of it."""
    from node.demo.forged import forge_all  # noqa: PLC0415 -- needs the coordinator's key, so only here

    size = (await run.coordinator.status())["ledger"]["size"]
    saver = run.client[SAVER]
    await _until(saver.status, lambda seen: seen["ledger"]["size"] >= size)
    saved, export = run.out / "saved.checkpoint", run.out / "export"
    await saver.save_checkpoint(saved)
    run.record["export"] = await run.coordinator.export_ledger(export)
    run.record["entries"] = await _entries(run.coordinator)
    genesis = run.out / "genesis.frame"
    shutil.copy(run.homes / SAVER / "genesis.frame", genesis)  # the member's own copy, not the coordinator's
    run.screen.tell("auditing the export in a clean process")
    run.record["audit"] = await audit(export, genesis, saved)
    if not run.record["audit"]["ok"]:
        raise DemoError("The audit of the sound export has findings.", where=str(run.record["audit"]["findings"][:3]))
    forged = await asyncio.to_thread(forge_all, export, run.homes / SEAT, run.homes / COLLUDER, run.out / "forged")
    run.record["forgeries"] = []
    for forgery, folder in forged:
        run.screen.tell(f"auditing a forgery: {forgery.name}")
        report = await audit(folder, genesis, saved if forgery.needs_saved else None)
        codes = {finding["code"] for finding in report["findings"]}
        named = forgery.expected in codes
        run.record["forgeries"].append(
            {
                "name": forgery.name,
                "how": forgery.how,
                "expected": forgery.expected,
                "named": named,
                "findings": _first(report["findings"], forgery.expected),
            }
        )
        if not named:
            raise DemoError(f"The audit did not name the forgery '{forgery.name}'.", where=str(sorted(codes)))


def _first(findings: list[Json], code: str) -> list[Json]:
    """The findings, those of one code in front."""
    return sorted(findings, key=lambda finding: bool(finding["code"] != code))


async def build_bundle(out: Path) -> bytes:
    """The power app's bundle, built by a process that may import Flower."""
    target = out / "power.fab"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "node.demo.bundle",
        str(target),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise DemoError("The app's bundle could not be built.", where=errors.decode(errors="replace")[-300:])
    return target.read_bytes()


async def _join(run: Run, holding: Holding) -> None:
    legal_name = questions.LEGAL_NAMES[holding.name]
    invitation = run.out / f"{holding.name}.invitation"
    await command("invite", legal_name, "--out", str(invitation), "--home", str(run.homes / SEAT))
    await command("join", str(invitation), "--legal-name", legal_name, "--sector", questions.SECTOR, "--size",
                  str(holding.size), "--owner-group", legal_name, "--home", str(run.homes / holding.name))  # fmt: skip


async def _serve(run: Run, name: str) -> Json:
    node: NodeProcess = run.nodes.start(name, run.homes / name)
    status = await until_ready(node)
    run.client[name] = await run.clients.enter_async_context(ControlClient(node.home))
    return status


async def _accept(run: Run, name: str, told: Sequence[str]) -> None:
    client = run.client[name]

    def complete(seen: Json) -> bool:
        admitted = {member["fingerprint"] for member in seen["members"] if member["since"] is not None}
        return set(told) <= admitted

    members = (await _until(client.list_members, complete))["members"]
    for member in members:
        if member["fingerprint"] in told and member["member"] != run.member[name]:
            await client.accept_member(member["fingerprint"])


async def _offer(run: Run, holding: Holding, terms: Path) -> None:
    descriptor, policy = questions.write_terms(holding, terms)
    offered = await run.client[holding.name].offer_dataset(
        run.data[holding.name].path.absolute(), descriptor, policy, questions.BUDGET_RHO_MICRO, questions.DELTA
    )
    run.screen.tell(f"{questions.LEGAL_NAMES[holding.name]} offers {offered['dataset']}")


async def _finished(run: Run, job: Json, state: str) -> Json:
    """Submits a job and follows it; the last progress document, which must have the given state."""
    submitted = await run.coordinator.submit_job(job)
    last: Json = None
    stream: AsyncIterator[Json] = run.coordinator.watch_job(submitted["job"])
    async for last in stream:
        count = f" {last['done']}/{last['of']}" if last.get("of") else ""
        run.screen.tell(f"{last['state']}{count} {last['text']}".strip())
    if last is None or last["state"] != state:
        ended = (
            "without a word" if last is None else f"as '{last['state']}': {last.get('reason') or last.get('refusals')}"
        )
        raise DemoError(f"The job ended {ended}; '{state}' was expected.", where=f"job {submitted['job'][:16]}")
    return last


async def _budgets(run: Run) -> dict[str, Json]:
    return {holding.name: await run.client[holding.name].show_budget() for holding in wind_farm.OPERATORS}


async def _entries(client: ControlClient) -> list[Json]:
    entries: list[Json] = []
    while True:
        page = await client.list_entries(len(entries), 500)
        entries += page["entries"]
        if len(entries) >= page["size"] or not page["entries"]:
            return entries


async def _until(question: Callable[[], Awaitable[Json]], enough: Callable[[Json], bool]) -> Json:
    """Asks again until the answer is enough: nodes follow the ledger, so they see an entry a little later."""
    deadline = asyncio.get_running_loop().time() + FOLLOW_SECONDS_MAX
    answer = await question()
    while not enough(answer):
        if asyncio.get_running_loop().time() > deadline:
            raise DemoError(f"The nodes did not agree in {FOLLOW_SECONDS_MAX:.0f} s.", where=str(answer)[:300])
        await asyncio.sleep(0.1)
        answer = await question()
    return answer


async def _approve(client: ControlClient, digest: str) -> None:
    """Approves an app as soon as the node has followed the ledger far enough to know of it."""
    from consortium.errors import EntryError, NotFoundError  # noqa: PLC0415

    deadline = asyncio.get_running_loop().time() + FOLLOW_SECONDS_MAX
    while True:
        try:
            await client.approve_app(digest)
        except (EntryError, NotFoundError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return
