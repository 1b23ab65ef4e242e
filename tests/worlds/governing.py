"""How a consortium in memory governs itself: proposals, votes, rotated keys, committees that hand over."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

from consortium.encoding import Json, sha256
from consortium.governance import possession
from consortium.keys import SigningKey
from consortium.ledger.entry import Entry
from consortium.state import Proposal
from tests.worlds.world import World

Change = dict[str, Json]


def fresh_key(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()))


def proof_of(world: World, member: bytes, key: SigningKey) -> dict[str, str]:
    """The fields of a rotation to `key`."""
    proof = key.sign(possession(world.ledger.state.genesis, member, key.public_key))
    return {"public_key": key.public_key.hex(), "proof": proof.hex()}


def propose(world: World, change: Change, from_index: int = 0) -> Proposal:
    """The coordinator's proposal, which has no vote yet."""
    entry = world.ledger.add(world.coordinator, "proposal", {"change": change, "from_index": from_index})
    return world.ledger.state.proposals[entry.leaf]


def ballot(proposal: Proposal, choice: str = "for") -> dict[str, str]:
    return {"proposal": proposal.id.hex(), "choice": choice}


def vote(world: World, proposal: Proposal, positions: Sequence[int], choice: str = "for") -> None:
    for position in positions:
        world.ledger.add(world.members[position], "vote", ballot(proposal, choice))


def carry(world: World, change: Change, from_index: int = 0) -> Proposal:
    """A proposal that as many members vote for as it needs."""
    proposal = propose(world, change, from_index)
    voters = [position for position, identity in enumerate(world.ids) if identity in proposal.electorate]
    vote(world, proposal, voters[: proposal.needed])
    return proposal


def rotate(world: World, position: int, key: SigningKey | None = None) -> Entry:
    """A member replaces its key, and signs with the new one from now on."""
    key = key or fresh_key(f"rotated {position} at {world.ledger.state.size}")
    entry = world.ledger.add(world.members[position], "rotation", proof_of(world, world.ids[position], key))
    world.members[position] = key
    return entry


def hand_over(world: World) -> Entry:
    return world.ledger.add(world.coordinator, "handover", {"checkpoint": world.note().decode()})


def suspension(world: World, position: int) -> Change:
    return {"type": "suspend", "member": world.ids[position].hex()}


def committee(world: World, positions: Sequence[int]) -> Change:
    return {"type": "committee", "members": sorted(world.ids[position].hex() for position in positions)}


@functools.cache
def _built() -> World:
    world = World().found().join().seat().offer().approve()
    rotate(world, 0)
    carry(world, {"type": "charter", "fields": {"name": "Wind and sun"}})
    carry(world, committee(world, (0, 1, 2)))
    hand_over(world)
    carry(world, suspension(world, 3))
    carry(world, {"type": "reinstate", "member": world.ids[3].hex()})
    world.ask()
    return world


def governed_world() -> World:
    """A consortium that rotated a key, amended its charter, changed its committee, and asked after all that."""
    return copy.deepcopy(_built())
