"""Before a sequencer opens: what its witnesses remember is compared with what it finds, so that it never forks itself.

The head file, which is fsynced before a checkpoint reaches a witness, was compared when the store was opened. Here
n - k + f + 1 witnesses are heard: one honest one among them has cosigned the last acknowledged head.
"""

from __future__ import annotations

from consortium.errors import CheckpointError, ForkError
from consortium.keys import Signer
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.cosignature import hearing
from node.coordinator.witnesses import Witnesses
from node.log import log
from node.services.api import Position
from node.services.mirror import BATCH_ENTRIES_MAX, Mirror


async def open_sequencer(mirror: Mirror, witnesses: Witnesses, signer: Signer) -> None:
    """Hears the witnesses, adopts the longest extension that they prove, and has its head cosigned again.

    Raises:
        ForkError: a witness holds a head that this key signed and that is not in this log: nothing is sequenced.
    """
    if witnesses.committee:
        await _hear(mirror, witnesses)
    await witnesses.begin()
    if mirror.size:
        head = Checkpoint(mirror.origin, mirror.size, mirror.root)
        note = await witnesses.witnessed(sign_checkpoint(head, signer, mirror.origin).encode())
        await mirror.acknowledge(note)
    log("sequencer.open", size=mirror.size)


async def _hear(mirror: Mirror, witnesses: Witnesses) -> None:
    needed = hearing(len(witnesses.committee))
    while len(witnesses.positions()) < needed:
        log("sequencer.hears", count=len(witnesses.positions()), members=needed)
        await witnesses.wait_for_change()
    heard = witnesses.positions()
    for member, position in sorted(heard.items(), key=lambda item: item[1].size, reverse=True):
        if position.size > mirror.size:
            await _adopt(mirror, witnesses, member, position)
        if position.size:
            _check(mirror, member, position)


async def _adopt(mirror: Mirror, witnesses: Witnesses, member: bytes, position: Position) -> None:
    frames: list[bytes] = []
    start = mirror.size
    while start + len(frames) < position.size:
        at = start + len(frames)
        frames += await witnesses.fetch(member, at, min(at + BATCH_ENTRIES_MAX, position.size))
    await mirror.adopt(frames, position.checkpoint)
    log("sequencer.adopted", member=member.hex(), size=position.size, count=len(frames))


def _check(mirror: Mirror, member: bytes, position: Position) -> None:
    try:
        checkpoint = mirror.signed_by_log(position.checkpoint)
    except CheckpointError:
        log("witness.bad-position", member=member.hex())  # not signed by this log: says nothing about it
        return
    if checkpoint.size != position.size:
        raise ForkError("A witness states another size than its checkpoint.", where=member.hex())
