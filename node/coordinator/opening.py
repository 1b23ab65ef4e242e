"""Before a sequencer opens: what its witnesses remember is compared with what it finds, so that it never forks itself.

The head file, which is fsynced before a checkpoint reaches a witness, was compared when the store was opened. Here
n - k + f + 1 witnesses are heard: one honest one among them has cosigned the last acknowledged head.
"""

from __future__ import annotations

from consortium.errors import ForkError, UnavailableError
from consortium.keys import Signer
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.cosignature import hearing
from consortium.ledger.merkle import root_hash
from node.coordinator.witnesses import FRAMES_MAX, Witnesses
from node.log import log, log_refusal
from node.services.api import Position
from node.services.mirror import REPAIR_ADVICE, Mirror


async def open_sequencer(mirror: Mirror, witnesses: Witnesses, signer: Signer) -> None:
    """Hears the witnesses, adopts the longest extension that they prove, and has its head cosigned again.

    Raises:
        ForkError: a witness holds a head that this key signed and that is not in this log: nothing is sequenced.
    """
    while witnesses.committee and not await _hear(mirror, witnesses):
        pass
    await witnesses.begin()
    if mirror.size:
        head = Checkpoint(mirror.origin, mirror.size, mirror.root)
        note = await witnesses.witnessed(sign_checkpoint(head, signer, mirror.origin).encode())
        await mirror.acknowledge(note)
    log("sequencer.open", size=mirror.size)


async def _hear(mirror: Mirror, witnesses: Witnesses) -> bool:
    """Whether the log here holds all that was heard; else it has grown, and may have another committee to hear."""
    log("sequencer.hears", count=len(witnesses.positions()), members=len(witnesses.committee))
    await witnesses.wait_until(lambda: _heard_enough(mirror, witnesses))
    heard = witnesses.positions()
    longest = max(position.size for position in heard.values())
    for member, position in heard.items():
        if position.size <= mirror.size:
            _check(mirror, position)
        elif position.size == longest:
            await _adopt(mirror, witnesses, member, position)
            return False
    return True


def _heard_enough(mirror: Mirror, witnesses: Witnesses) -> bool:
    """Of each committee: while one hands over to the next, both are asked."""
    heard = witnesses.positions().keys()
    return all(
        len(heard & set(committee.members)) >= hearing(len(committee.members))
        for committee in mirror.state.committees_at(mirror.size)
    )


async def _adopt(mirror: Mirror, witnesses: Witnesses, member: bytes, position: Position) -> None:
    """Takes what this node had signed and lost; a witness that does not send what it has a head of must come again.

    Without the entries under a head that its key signed the sequencer never opens: it would sign a fork.
    """
    head = mirror.head_of(position)
    assert head is not None
    try:
        frames = await _lost(mirror, witnesses, member, head)
    except UnavailableError as error:
        log_refusal("sequencer.not-adopted", error, member=member.hex(), size=position.size)
        await witnesses.dismiss(member)
        return
    await mirror.adopt(frames, position.checkpoint)
    log("sequencer.adopted", member=member.hex(), size=position.size, count=len(frames))


async def _lost(mirror: Mirror, witnesses: Witnesses, member: bytes, head: Checkpoint) -> list[bytes]:
    """The entries that lead from what is here to a head that this node signed."""
    frames = await fetch_range(witnesses, member, mirror.size, head.size)
    if mirror.root_with(frames) == head.root:
        return frames
    before = await fetch_range(witnesses, member, 0, mirror.size)
    if root_hash([*before, *frames]) == head.root:
        raise _fork(head)
    raise UnavailableError("The witness sent other entries than those that its head covers.")


async def fetch_range(witnesses: Witnesses, member: bytes, start: int, end: int) -> list[bytes]:
    """Entries that a witness holds, in as many questions as it takes. Raises UnavailableError as `Witnesses.fetch`."""
    frames: list[bytes] = []
    while start + len(frames) < end:
        at = start + len(frames)
        frames += await witnesses.fetch(member, at, min(at + FRAMES_MAX, end))
    return frames


def _check(mirror: Mirror, position: Position) -> None:
    head = mirror.head_of(position)
    if head is not None and not mirror.contains(head):
        raise _fork(head)


def _fork(head: Checkpoint) -> ForkError:
    return ForkError(
        "A witness holds a head that this node's key signed and that is not in its log: nothing is sequenced.",
        where=f"size {head.size}",
        mend=REPAIR_ADVICE,
    )
