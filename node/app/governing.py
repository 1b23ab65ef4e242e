"""A member's and the coordinator's desk for governing: proposals, votes, and what became of them."""

from __future__ import annotations

from consortium.encoding import Json, digest_of
from consortium.errors import NotFoundError
from consortium.keys import fingerprint, key_id
from consortium.ledger.entry import Draft
from consortium.state import Member, Proposal, State
from node.services.author import Author
from node.services.mirror import Mirror

PREFIX_MIN = 8  # hex digits of a proposal's id; what it is about is shown before anybody votes


class GovernanceDesk:
    """What the steward of a node may say about how the consortium is governed."""

    def __init__(self, me: bytes, mirror: Mirror, author: Author) -> None:
        self._me = me
        self._mirror = mirror
        self._author = author

    async def propose(self, change: Json, from_index: int) -> Json:
        state = self._mirror.state
        change = _with_ids(state, change)
        before = sum(found.change == change and found.author == self._me for found in state.proposals.values())
        body = {"change": change, "from_index": from_index}
        said = await self._author.say(Draft("proposal", f"proposal/{digest_of(change)[:32]}/{before}", body))
        return proposal_view(state, state.proposals[said.leaf])

    async def vote(self, proposal: str, choice: str) -> Json:
        state = self._mirror.state
        found = _find(state, proposal)
        await self._author.say(Draft("vote", f"vote/{found.id.hex()}", {"proposal": found.id.hex(), "choice": choice}))
        return proposal_view(state, found)

    def list(self) -> Json:
        state = self._mirror.state
        return {"proposals": [proposal_view(state, found) for found in state.proposals.values()]}


def matches(member: Member, text: str) -> bool:
    """Only the whole fingerprint of the key in force, or the whole id: a short prefix is easy to forge."""
    mark = fingerprint(key_id(member.public_key))
    return text.strip().lower() in (mark, mark.replace("-", ""), member.id.hex())


def find_member(state: State, text: str) -> Member:
    """The enrolled party of a fingerprint or id.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    found = [member for member in state.members.values() if matches(member, text)]
    if len(found) != 1:
        raise NotFoundError(
            "No party on the ledger has this fingerprint or id.",
            where=text[:80],
            mend="List them: 'consortium member list'.",
        )
    return found[0]


def proposal_view(state: State, found: Proposal) -> Json:
    """A proposal, and who voted what."""
    votes = [
        {
            "member": member.hex(),
            "legal_name": state.members[member].legal_name,
            "choice": ballot.body["choice"] if ballot else None,
            "index": ballot.index if ballot else None,
        }
        for member, ballot in sorted((member, found.ballots.get(member)) for member in found.electorate)
    ]
    return {
        "proposal": found.id.hex(),
        "index": found.index,
        "author": found.author.hex(),
        "legal_name": state.members[found.author].legal_name,
        "change": found.change,
        "text": _text(state, found.change),
        "from_index": found.from_index,
        "outcome": found.outcome,
        "for": found.count("for"),
        "against": found.count("against"),
        "electorate": len(found.electorate),
        "needed": found.needed,
        "decided": found.decided,
        "effect": found.effect,
        "failure": found.failure,
        "votes": votes,
    }


def _text(state: State, change: dict[str, Json]) -> str:
    """What a change would do, in a sentence's part."""
    if change["type"] == "committee":
        return "witnesses: " + ", ".join(_name(state, member) for member in change["members"])
    if change["type"] == "charter":
        return "charter: " + ", ".join(f"{name} {_short(value)}" for name, value in sorted(change["fields"].items()))
    if change["type"] == "rules":
        return f"rule version {change['version']}"
    key = f" to {fingerprint(key_id(bytes.fromhex(change['public_key'])))}" if change["type"] == "rotate" else ""
    return f"{change['type']} {_name(state, change['member'])}{key}"


def _short(value: Json) -> str:
    """A document, such as an incentive schedule, is named by its hash."""
    return digest_of(value)[:16] if isinstance(value, dict) and len(value) > 2 else str(value)


def _name(state: State, member: str) -> str:
    found = state.members.get(bytes.fromhex(member))
    return found.legal_name if found else member[:16]


def _with_ids(state: State, change: Json) -> Json:
    """The change with members by id, and with the enrolment that an admission is about."""
    named = dict(change)
    if isinstance(change.get("member"), str):
        member = find_member(state, change["member"])
        named["member"] = member.id.hex()
        if change.get("type") == "admit":
            named.setdefault("enrolment", member.enrolment.hex())
    if isinstance(change.get("members"), list):
        named["members"] = sorted(find_member(state, str(text)).id.hex() for text in change["members"])
    return named


def _find(state: State, text: str) -> Proposal:
    wanted = text.strip().lower()
    found = [proposal for proposal in state.proposals.values() if proposal.id.hex().startswith(wanted)]
    if len(found) != 1 or len(wanted) < PREFIX_MIN:
        raise NotFoundError(
            "No proposal, or more than one, has an id that begins so.",
            where=text[:80],
            mend=f"List them with 'consortium governance list', and give at least {PREFIX_MIN} digits.",
        )
    return found[0]
