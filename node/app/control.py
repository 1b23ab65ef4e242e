"""A node's local control: the ControlService of both roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from consortium.audit import Export
from consortium.encoding import Json, canonical
from consortium.errors import ConfigError, NotFoundError, UnavailableError
from consortium.keys import fingerprint, key_id
from consortium.ledger.entry import Draft
from consortium.policy.engine import PolicyEngine
from node.app import views
from node.app.governing import GovernanceDesk, find_member
from node.app.keys import rotate_key
from node.app.seat import Seat
from node.config import NodeConfig
from node.data.datasets import DuckDbDatasets
from node.data.descriptor_file import read_descriptor
from node.export import write_checkpoint, write_export
from node.ports import Accounts, Contacts, Datasets, LedgerStore, Members, Transcripts
from node.services.author import Author
from node.services.keyring import KeyRing
from node.services.mirror import Mirror
from node.services.switch import Switch

POLICY_BYTES_MAX = 65_536


class NodeControl:
    """What the steward or coordinator of this machine may ask of the node."""

    def __init__(
        self,
        config: NodeConfig,
        version: str,
        *,
        keys: KeyRing,
        contacts: Contacts,
        mirror: Mirror,
        author: Author,
        switch: Switch,
        engine: PolicyEngine,
        rows: DuckDbDatasets,
        ledger: LedgerStore,
        datasets: Datasets,
        accounts: Accounts,
        members: Members,
        transcripts: Transcripts,
        connected: Callable[[], bool],
        alarm: Callable[[], Json],
        seat: Seat | None,
    ) -> None:
        self._config = config
        self._version = version
        self._keys = keys
        self._me = keys.member
        self._contacts = contacts
        self._desk = GovernanceDesk(keys.member, mirror, author)
        self._mirror = mirror
        self._author = author
        self._switch = switch
        self._engine = engine
        self._rows = rows
        self._ledger = ledger
        self._datasets = datasets
        self._accounts = accounts
        self._members = members
        self._transcripts = transcripts
        self._connected = connected
        self._alarm = alarm
        self._seat = seat

    async def status(self) -> Json:
        state, head = self._mirror.state, self._mirror.head
        jobs = [views.job_state(job) for job in state.jobs.values()]
        return {
            "consortium": self._config.consortium,
            "genesis": state.genesis.hex(),
            "legal_name": self._config.legal_name,
            "member": self._me.hex(),
            "fingerprint": fingerprint(self._keys.key_id),
            "role": self._config.role,
            "version": self._version,
            "paused": self._switch.paused,
            "connected": self._connected(),
            "alarm": self._alarm(),
            "ledger": {"size": head.size, "root": head.root.hex()},
            "members": sum(member.active for member in state.members.values()),
            "jobs": {word: jobs.count(word) for word in ("open", "done", "refused", "aborted")},
            "attending": sorted(member.hex() for member in self._seat.attending) if self._seat else None,
        }

    async def pause(self) -> Json:
        await self._switch.pause()
        return {"paused": True}

    async def resume(self) -> Json:
        await self._switch.resume()
        return {"paused": False}

    async def invite(self, legal_name: str, valid_hours: int) -> Json:
        return await self._the_seat().invite(legal_name, valid_hours)

    async def list_members(self) -> Json:
        state = self._mirror.state
        accepted = state.trusted(await self._members.accepted()) | {self._me}
        attending = self._seat.attending if self._seat else None
        return {"members": [views.member(state, found, accepted, attending) for found in state.members.values()]}

    async def accept_member(self, fingerprint: str) -> Json:
        found = find_member(self._mirror.state, fingerprint)
        if found.admitted is None:
            raise NotFoundError(
                "No admitted member has this fingerprint.",
                where=fingerprint[:80],
                mend="Compare it with the member over a trusted path; list them with 'consortium member list'.",
            )
        await self._members.accept(key_id(found.public_key))
        return views.member(self._mirror.state, found, {found.id}, None)

    async def offer_dataset(self, path: Path, descriptor: Path, policy: Path, rho_micro: int, delta: str) -> Json:
        self._refuse_seat()
        described = read_descriptor(descriptor)
        text = _read_policy(policy)
        checked = self._engine.check(text)
        inspection = await self._rows.inspect(path, described)
        described = replace(described, row_count_band=inspection.row_count_band)
        body = {
            "dataset": described.dataset,
            "lineage": described.lineage,
            "descriptor": described.to_json(),
            "policy_sha256": checked.policy_sha256,
            "schema_sha256": checked.schema_sha256,
            "guard_sha256": checked.guard_sha256,
            "budget": {"rho_micro": rho_micro, "delta": delta},
        }
        # On the ledger first: a job can only ask for what is offered, and an offer without a file here is refused.
        said = await self._author.say(Draft("dataset", f"dataset/{self._mirror.size}/{described.dataset}", body))
        await self._datasets.put(described.dataset, str(path), canonical(described.to_json()).decode(), text)
        return {
            "dataset": described.dataset,
            "lineage": described.lineage,
            "index": said.index,
            "row_count_band": described.row_count_band,
            "policy_sha256": checked.policy_sha256,
            "columns": [column.name for column in described.columns],
            "problems": inspection.to_json(),
        }

    async def list_datasets(self) -> Json:
        state = self._mirror.state
        return {"datasets": [views.dataset(state, found, self._me) for found in state.datasets.values()]}

    async def show_budget(self) -> Json:
        state = self._mirror.state
        own = {found.lineage: found for found in state.datasets.values() if found.member == self._me}
        return {
            "accounts": [
                views.account(state, found, await self._accounts.spent(lineage), await self._accounts.entries(lineage))
                for lineage, found in sorted(own.items())
            ]
        }

    async def close_rounds(self) -> Json:
        state = self._mirror.state
        own = {found.lineage for found in state.datasets.values() if found.member == self._me}
        spends = [spend for lineage in sorted(own) for spend in await self._accounts.entries(lineage)]
        open_rounds = [spend for spend in spends if not spend.finished and state.jobs[spend.job].ended()]
        for spend in open_rounds:
            await self._accounts.mark_finished(spend.job, spend.round)
        return {"closed": len(open_rounds)}

    async def check_policy(self, policy: Path) -> Json:
        checked = self._engine.check(_read_policy(policy))
        return {
            "policy_sha256": checked.policy_sha256,
            "clauses": [{"id": clause.id, "reason": clause.reason} for clause in checked.clauses],
        }

    async def seat_committee(self, members: Sequence[str]) -> Json:
        return await self._the_seat().seat_committee(members)

    async def catalogue_app(self, name: str, fab: bytes) -> Json:
        return await self._the_seat().catalogue_app(name, fab)

    async def approve_app(self, digest: str) -> Json:
        self._refuse_seat()
        said = await self._author.say(Draft("approval", f"approval/{digest}", {"digest": digest}))
        return {"digest": digest, "index": said.index}

    async def explain_job(self, job: Json) -> Json:
        return await self._the_seat().explain_job(job)

    async def submit_job(self, job: Json) -> Json:
        return await self._the_seat().submit_job(job)

    async def watch_job(self, job: str) -> AsyncIterator[Json]:
        async for document in self._the_seat().jobs.watch(job):
            yield document

    async def abort_job(self, job: str) -> Json:
        return await self._the_seat().abort_job(job)

    async def list_jobs(self) -> Json:
        state_of = self._seat.jobs.state_of if self._seat else views.job_state
        return {"jobs": [views.job(job, state_of(job)) for job in self._mirror.state.jobs.values()]}

    async def export_ledger(self, folder: Path) -> Json:
        acknowledged = self._mirror.acknowledged
        if acknowledged is None:
            raise UnavailableError("This node has no copy of the log yet.", mend="Wait until it is connected.")
        frames = await self._ledger.entries(0, acknowledged.checkpoint.size)
        sums = [record for job in self._mirror.state.jobs.values() for record in job.sums.values()]
        named = {record.body["transcript_sha256"] for record in sums}
        transcripts = (
            {} if self._seat is None else {name: await self._transcripts.get(bytes.fromhex(name)) for name in named}
        )
        export = Export(acknowledged.note, frames, transcripts, contacts=await self._disclosed())
        await asyncio.to_thread(write_export, folder, export)
        return {
            "folder": str(folder),
            "size": acknowledged.checkpoint.size,
            "root": acknowledged.checkpoint.root.hex(),
            "transcripts": len(transcripts),
            "transcripts_elsewhere": len(named) - len(transcripts),
        }

    async def _disclosed(self) -> dict[str, bytes]:
        """The contact records that are here, by SHA-256 in hex."""
        named = [member.contact_sha256 for member in self._mirror.state.members.values() if member.contact_sha256]
        records = {digest: await self._contacts.get(bytes.fromhex(digest)) for digest in named}
        return {digest: record for digest, record in records.items() if record is not None}

    async def save_checkpoint(self, path: Path) -> Json:
        acknowledged = self._mirror.acknowledged
        if acknowledged is None:
            raise UnavailableError("This node has no copy of the log yet.", mend="Wait until it is connected.")
        write_checkpoint(path, acknowledged.note)
        checkpoint = acknowledged.checkpoint
        return {"path": str(path), "size": checkpoint.size, "root": checkpoint.root.hex()}

    async def list_entries(self, start: int, limit: int) -> Json:
        size = self._mirror.acknowledged_size
        steps = await self._mirror.steps(min(start, size), min(start + limit, size))
        return {"size": size, "entries": [views.entry(self._mirror.state, step) for step in steps]}

    async def show_credits(self) -> Json:
        return views.credits_of(self._mirror.state)

    async def settle(self, job: str, amount: str) -> Json:
        return await self._the_seat().settle(job, amount)

    async def propose(self, change: Json, from_index: int) -> Json:
        return await self._desk.propose(change, from_index)

    async def vote(self, proposal: str, choice: str) -> Json:
        self._refuse_seat("The coordinator's seat is neutral and has no vote.")
        return await self._desk.vote(proposal, choice)

    async def list_proposals(self) -> Json:
        return self._desk.list()

    async def rotate_key(self) -> Json:
        self._refuse_seat("The coordinator's key is the log's own and is not rotated.")
        return await rotate_key(self._config.home, self._mirror, self._author, self._keys)

    async def erase(self, member: str) -> Json:
        found = find_member(self._mirror.state, member)
        if not found.contact_sha256:
            raise NotFoundError("The member's enrolment names no contact record.", where=found.id.hex())
        erased = await self._contacts.erase(bytes.fromhex(found.contact_sha256))
        return {
            "member": found.id.hex(),
            "legal_name": found.legal_name,
            "contact_sha256": found.contact_sha256,
            "erased": erased,
        }

    def _the_seat(self) -> Seat:
        if self._seat is None:
            raise ConfigError(
                "This node does not hold the coordinator's seat.", mend="Ask the coordinator to do it on its node."
            )
        return self._seat

    def _refuse_seat(self, why: str = "The coordinator's seat holds no data.") -> None:
        if self._seat is not None:
            raise ConfigError(why, mend="Do it on a member's node.")


def _read_policy(path: Path) -> str:
    try:
        data = path.read_bytes()
        if len(data) > POLICY_BYTES_MAX:
            raise ConfigError("The policy file is too large.", where=str(path), mend="Write at most 64 KiB.")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "The policy file cannot be read.", where=str(path), mend="Give a UTF-8 text file that exists."
        ) from error
