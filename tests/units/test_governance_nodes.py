"""What governing does to running nodes: rotated keys, suspended members, refused rosters, contact records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consortium.audit import Export, audit_export
from consortium.encoding import Json, sha256
from consortium.errors import ConfigError, EncodingError, EntryError, NotFoundError, RequestError, SecureSumError
from consortium.ledger.contact import write_record
from consortium.ledger.entry import Draft
from node.app import keys
from node.app.governing import GovernanceDesk
from node.app.keys import load_keyring, new_key, rotate_key
from node.coordinator.enrolment import Enrolment
from node.coordinator.governing import STOPPED, Governing
from node.coordinator.witnesses import Witnesses
from node.export import read_export, write_export
from node.identity import load_ledger_key
from node.services.api import Hello
from node.services.author import Author
from node.services.member_sum import check_proposal
from node.store.contacts import FileContacts
from tests.simulator import MemberSeat, Noiseless, consortium
from tests.simulator.consortium import Consortium, until
from tests.worlds import World, documents
from tests.worlds.governing import carry, suspension


def desk(seat: MemberSeat) -> GovernanceDesk:
    return GovernanceDesk(seat.id, seat.core.mirror, author(seat))


def author(seat: MemberSeat) -> Author:
    return Author(seat.core.signer, seat.core.mirror, seat.link.append)


async def rotated(seat: MemberSeat) -> Json:
    return await rotate_key(seat.home, seat.core.mirror, author(seat), seat.core.signer)


async def carried(house: Consortium, change: Json, voters: tuple[int, ...]) -> Json:
    """A member proposes, others vote; the proposal as it then stands."""
    proposal = await desk(house.members[voters[0]]).propose(change, 0)
    for position in voters:
        await house.members[position].core.mirror.wait_for_size(proposal["index"] + 1)
        proposal = await desk(house.members[position]).vote(proposal["proposal"][:12], "for")
    return proposal


@asynccontextmanager
async def governing(house: Consortium) -> AsyncIterator[None]:
    """The coordinator carries out what is voted."""
    seat = house.coordinator
    witnesses = Witnesses(seat.core.mirror, seat.core.ledger, seat.core.signer)
    work = asyncio.create_task(Governing(seat.core.mirror, seat.author, seat.hub, witnesses, seat.jobs).run())
    yield
    assert not work.done()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def audited(house: Consortium) -> Any:
    core = house.coordinator.core
    assert core.mirror.acknowledged is not None
    transcripts = {}
    for job in core.mirror.state.jobs.values():
        for record in job.sums.values():
            digest = record.body["transcript_sha256"]
            transcripts[digest] = await core.transcripts.get(bytes.fromhex(digest))
    frames = await house.ledger()
    return audit_export(Export(core.mirror.acknowledged.note, frames, transcripts), frames[0])


async def ask_four(house: Consortium, epsilon_milli: int) -> Json:
    """A job that needs four members whom each steward knows."""
    said = await house.coordinator.jobs.submit(house.body(documents.statistic(epsilon_milli), members_min=4))
    return await house.coordinator.last(said.leaf)


async def test_a_node_rotates_its_key_and_sums_go_on_under_its_old_name(tmp_path: Path) -> None:
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat = house.members[1]
        first = await house.ask()
        old = load_ledger_key(seat.home.ledger_key)
        document = await rotated(seat)
        fresh = load_ledger_key(seat.home.ledger_key)
        assert fresh.public_key != old.public_key
        assert fresh.public_key.hex() == document["public_key"]
        assert not seat.home.next_ledger_key.exists()
        assert seat.home.ledger_key.stat().st_mode & 0o777 == 0o600
        second = await house.ask(500)
        assert sorted(second["result"]["survivors"]) == [one.hex() for one in house.ids]
        await seat.restart()
        await house.everybody()
        third = await house.ask(400)
        assert [each["state"] for each in (first, second, third)] == ["done"] * 3
        assert third["result"]["out"] == {}
        report = await audited(house)
        assert (report.findings, report.figures["sums_recomputed"]) == ((), 3)


async def test_a_rotation_that_was_interrupted_before_the_files_were_exchanged_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consortium(tmp_path) as house:
        seat = house.members[1]
        with monkeypatch.context() as patched:
            patched.setattr(keys, "_take_over", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                await rotated(seat)
        assert seat.home.next_ledger_key.exists()
        fresh = load_ledger_key(seat.home.next_ledger_key).public_key
        await seat.restart()
        await house.everybody()
        assert not seat.home.next_ledger_key.exists()
        assert load_ledger_key(seat.home.ledger_key).public_key == fresh
        assert (await house.ask())["state"] == "done"


async def test_a_rotation_that_was_refused_changes_nothing_and_is_taken_up_again(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house:
        seat = house.members[1]
        seat.link.cut(down=True)
        task = asyncio.create_task(rotated(seat))
        await until(seat.home.next_ledger_key.exists)
        before = load_ledger_key(seat.home.next_ledger_key).public_key
        assert seat.core.signer.public_key == seat.key.public_key  # the log does not have it: the old key signs
        seat.link.mend()
        await task
        assert seat.core.signer.public_key == before


async def test_a_node_with_none_of_the_keys_that_the_ledger_holds_signs_nothing(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house:
        seat = house.members[1]
        kept = seat.home.ledger_key.read_bytes()
        await rotated(seat)
        seat.home.ledger_key.write_bytes(kept)  # an old backup
        ring = load_keyring(seat.home, seat.core.mirror)
        with pytest.raises(ConfigError, match="another key"):
            ring.sign(b"anything")


async def test_a_lost_key_is_made_anew_offline_and_voted_in(tmp_path: Path) -> None:
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat = house.members[3]
        await seat.stop()
        seat.home.member.write_text(seat.id.hex())
        seat.home.member.chmod(0o600)
        seat.home.ledger_key.unlink()
        made = new_key(seat.home.path)
        assert made["member"] == seat.id.hex()
        change = {"type": "rotate", **{name: made[name] for name in ("member", "public_key", "proof")}}
        proposal = await carried(house, change, (0, 1, 2))
        assert proposal["outcome"] == "effective"
        await seat.start()
        await house.everybody()
        await until(lambda: seat.core.mirror.size == house.state.size)
        assert seat.core.signer.public_key.hex() == made["public_key"]
        # The others' stewards accepted the lost key; whoever the members voted in does not count as known to them.
        assert (await ask_four(house, 400))["state"] == "failed"
        for other in house.members[:3]:
            await other.core.members.accept(seat.core.signer.key_id)
        assert (await ask_four(house, 500))["state"] == "done"
        await seat.restart()  # it has the log now: the file takes the old one's place
        assert load_ledger_key(seat.home.ledger_key).public_key.hex() == made["public_key"]


async def test_a_suspension_stops_the_jobs_of_the_member_and_ends_its_stream(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house, governing(house):
        await house.members[0].core.switch.pause()  # keeps the job from ending
        said = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        job = house.job(said.leaf)
        await until(lambda: len(job.decided()) == 3)
        streams = len(house.members[3].sent(Hello))
        proposal = await carried(house, {"type": "suspend", "member": house.ids[3].hex()}, (0, 1, 2))
        assert proposal["outcome"] == "effective"
        assert (await house.coordinator.last(said.leaf))["reason"] == STOPPED
        assert job.abort is not None
        assert job.abort.body["reason"] == STOPPED
        await until(lambda: len(house.members[3].sent(Hello)) > streams)  # it lost its stream, and tries again
        with pytest.raises(RequestError):
            await house.coordinator.jobs.submit(house.body(documents.statistic(500)))
        with pytest.raises(EntryError, match="suspended"):
            await author(house.members[3]).say(Draft("approval", "more", {"digest": "0" * 64}))


def test_a_sum_with_a_member_that_is_not_of_record_is_refused_by_every_node() -> None:
    world = World().found().join().offer().approve()
    job = world.launch("statistic", documents.statistic())
    world.decide(job)
    spec = world.statistic_sum(job).spec
    check_proposal(world.ledger.state, world.job(job), spec, world.ids[0])
    carry(world, suspension(world, 3))
    with pytest.raises(SecureSumError, match="suspended"):
        check_proposal(world.ledger.state, world.job(job), spec, world.ids[0])
    check_proposal(
        world.ledger.state, world.job(job), replace(spec, roster=tuple(world.ids[:3]), threshold=3), world.ids[0]
    )


async def test_the_desk_names_members_by_fingerprint_and_shows_who_voted_what(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house:
        from consortium.keys import fingerprint

        first = desk(house.members[0])
        proposal = await first.propose({"type": "remove", "member": fingerprint(house.ids[3])}, 7)
        assert proposal["change"] == {"type": "remove", "member": house.ids[3].hex()}
        await first.vote(proposal["proposal"], "against")
        listed = first.list()["proposals"][0]
        choices = {vote["member"]: vote["choice"] for vote in listed["votes"]}
        assert choices == {house.ids[0].hex(): "against", house.ids[1].hex(): None, house.ids[2].hex(): None}
        assert (listed["outcome"], listed["for"], listed["against"], listed["needed"]) == ("rejected", 0, 1, 3)
        with pytest.raises(NotFoundError):
            await first.vote(proposal["proposal"][:7], "for")
        with pytest.raises(NotFoundError):
            await first.propose({"type": "remove", "member": fingerprint(house.ids[3])[:20]}, 0)


# Contact records


RECORD = write_record(bytes(range(16)), "Ada Lovelace", "ada@example.org")


async def test_a_contact_record_is_private_and_erased_for_good(tmp_path: Path) -> None:
    contacts = FileContacts(tmp_path / "contacts")
    digest = await contacts.put(RECORD)
    assert digest == sha256(RECORD)
    assert await contacts.put(RECORD) == digest
    (path,) = (tmp_path / "contacts").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert await contacts.get(digest) == RECORD
    held = path.open("rb")
    assert await contacts.erase(digest)
    with held:
        assert held.read() == bytes(len(RECORD))  # overwritten, not only unlinked
    assert list((tmp_path / "contacts").iterdir()) == []
    assert await contacts.get(digest) is None
    assert not await contacts.erase(digest)


@pytest.mark.parametrize(("name", "mail"), [("", "a@b"), ("a\nb", "a@b"), ("x" * 201, "a@b"), ("a", "")])
def test_what_is_no_contact_is_refused(name: str, mail: str) -> None:
    with pytest.raises(EncodingError):
        write_record(bytes(16), name, mail)


def contact_world() -> World:
    world = World().found()
    for position in range(4):
        body = documents.enrolment(world.members[position], f"Operator {position}", "small")
        if position == 0:
            body["contact_sha256"] = sha256(RECORD).hex()
        leaf = world.ledger.add(world.members[position], "enrolment", body).leaf
        world.ledger.add(world.coordinator, "admission", {"member": world.ids[position].hex(), "enrolment": leaf.hex()})
    return world


@pytest.mark.parametrize(
    ("disclosed", "said", "codes"),
    [
        ({sha256(RECORD).hex(): RECORD}, "disclosed", []),
        ({}, "erased", []),
        ({sha256(RECORD).hex(): RECORD + b"!"}, "disclosed", ["bad-contact"]),
    ],
)
def test_the_audit_says_what_was_erased_and_never_what_was_in_it(
    tmp_path: Path, disclosed: dict[str, bytes], said: str, codes: list[str]
) -> None:
    world = contact_world()
    write_export(tmp_path / "export", replace(world.export(), contacts=disclosed))
    report = audit_export(read_export(tmp_path / "export"), world.ledger.frames[0])
    assert [found.code for found in report.findings] == codes
    assert [each["contact"] for each in report.figures["contacts"]] == [said]
    assert "Ada" not in str(report)
    assert b"Ada" not in b"".join(world.ledger.frames)


@pytest.mark.parametrize("contact", [b"", RECORD + b"!", b"other"])
async def test_an_enrolment_with_another_contact_than_it_names_uses_no_invitation_up(
    tmp_path: Path, contact: bytes
) -> None:
    world = World().found()
    body = documents.enrolment(world.members[0], "Operator", "small") | {"contact_sha256": sha256(RECORD).hex()}
    entry = world.ledger.sign(world.members[0], "enrolment", body)

    class Mirror:
        state = world.ledger.state

    contacts = FileContacts(tmp_path / "contacts")
    nothing: Any = None
    mirror: Any = Mirror()
    enrolment = Enrolment(
        mirror, nothing, nothing, nothing, contacts, genesis=b"", ca_certificate=b"", certify=lambda *_: b""
    )
    with pytest.raises(EncodingError, match="not the one"):
        await enrolment.redeem(b"secret", entry.frame.data, b"", contact)
    assert not (tmp_path / "contacts").exists()
