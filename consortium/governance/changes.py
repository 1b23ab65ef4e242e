"""The changes that members vote on: when each may be made, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from consortium.encoding import Json
from consortium.faults import Fault
from consortium.governance.keys import check_new_key, replace_key
from consortium.governance.membership import MEMBERS_MIN_FLOOR, check_committee
from consortium.ledger.cosignature import quorum
from consortium.state import Committee, State

RULE_VERSIONS = frozenset({1})

Body = Mapping[str, Json]


@dataclass(frozen=True)
class Change:
    """One type of change.

    Attributes:
        check: why it cannot be made now, if so; asked when it is proposed, and again when its index has come.
        make: makes it for entries at an index and later.
        concerns_member: the member that it names has no vote on it.
    """

    check: Callable[[State, Body], Fault | None]
    make: Callable[[State, Body, int], None]
    concerns_member: bool = False


def check_change(state: State, change: Body) -> Fault | None:
    """Why a change cannot be made now, if so."""
    return CHANGES[change["type"]].check(state, change)


def make_change(state: State, change: Body, index: int) -> None:
    """Makes a change that was checked, for entries at `index` and later."""
    CHANGES[change["type"]].make(state, change, index)


def concerned(change: Body) -> frozenset[bytes]:
    """The member that has no vote on a change, if there is one."""
    return frozenset({_id(change)}) if CHANGES[change["type"]].concerns_member else frozenset()


def _id(change: Body) -> bytes:
    return bytes.fromhex(change["member"])


def _check_admission(state: State, change: Body) -> Fault | None:
    member = state.members.get(_id(change))
    if member is None or member.enrolment.hex() != change["enrolment"]:
        return Fault("no-enrolment", "The change names no enrolment on the ledger.")
    if member.admitted is not None:
        return Fault("already-admitted", "The member was admitted before.")
    return None


def _admit(state: State, change: Body, index: int) -> None:
    state.members[_id(change)] = replace(state.members[_id(change)], admitted=index)


def _check_suspension(state: State, change: Body) -> Fault | None:
    member = state.members.get(_id(change))
    if member is None or not member.active:
        return Fault("no-member", "The change names no member of record.")
    return _check_leave(state, member.id)


def _suspend(state: State, change: Body, index: int) -> None:
    state.members[_id(change)] = replace(state.members[_id(change)], suspended=index)


def _check_reinstatement(state: State, change: Body) -> Fault | None:
    member = state.members.get(_id(change))
    if member is None or member.suspended is None or member.removed is not None:
        return Fault("no-member", "The change names no suspended member.")
    return None


def _reinstate(state: State, change: Body, _index: int) -> None:
    state.members[_id(change)] = replace(state.members[_id(change)], suspended=None)


def _check_removal(state: State, change: Body) -> Fault | None:
    member = state.members.get(_id(change))
    if member is None or member.admitted is None or member.removed is not None:
        return Fault("no-member", "The change names no member.")
    return _check_leave(state, member.id)


def _remove(state: State, change: Body, index: int) -> None:
    state.members[_id(change)] = replace(state.members[_id(change)], removed=index)


def _check_leave(state: State, member: bytes) -> Fault | None:
    """Nobody leaves whose going would stop the log: its witnesses must still make a quorum."""
    if member == state.coordinator:
        return Fault("coordinator", "The coordinator's seat is not voted out.")
    for committee in state.committees_at(state.size):
        remaining = [witness for witness in committee.members if witness != member and state.admitted(witness)]
        if member in committee.members and len(remaining) < quorum(len(committee.members)):
            return Fault(
                "witness-quorum", "The witnesses that remain would make no quorum: change the committee first."
            )
    return None


def _check_new_key(state: State, change: Body) -> Fault | None:
    member = state.members.get(_id(change))
    if member is None or member.admitted is None or member.removed is not None:
        return Fault("no-member", "The change names no member.")
    if member.id in state.committee:
        # Its memory of what it cosigned may be lost with the key, and a witness that forgets can sign a fork.
        return Fault("seated-witness", "A witness that lost its key first leaves the committee.")
    return check_new_key(state, member, bytes.fromhex(change["public_key"]), bytes.fromhex(change["proof"]))


def _replace_key(state: State, change: Body, index: int) -> None:
    member = state.members[_id(change)]
    replace_key(state, member, bytes.fromhex(change["public_key"]), index, vouched=False)


def _check_committee(state: State, change: Body) -> Fault | None:
    seated = state.committees_at(state.size)
    if not seated:
        return Fault("no-committee", "The coordinator seats the first committee.")
    if len(seated) > 1:
        return Fault("handing-over", "One committee is handing over to another; let it finish.")
    members = tuple(map(bytes.fromhex, change["members"]))
    if members == seated[0].members:
        return Fault("unchanged", "These are the witnesses already.")
    return check_committee(state, members)


def _seat(state: State, change: Body, index: int) -> None:
    state.committees.append(Committee(index, tuple(map(bytes.fromhex, change["members"]))))


def _check_charter(state: State, change: Body) -> Fault | None:
    fields = change["fields"]
    if fields.get("members_min", MEMBERS_MIN_FLOOR) < MEMBERS_MIN_FLOOR:
        return Fault("bad-charter", f"The charter's minimum of participants is at least {MEMBERS_MIN_FLOOR}.")
    if all(state.charter[name] == value for name, value in fields.items()):
        return Fault("unchanged", "The charter says so already.")
    return None


def _amend(state: State, change: Body, _index: int) -> None:
    state.charter = {**state.charter, **change["fields"]}


def _check_rules(state: State, change: Body) -> Fault | None:
    if change["version"] not in RULE_VERSIONS:
        return Fault("unknown-rules", "This program does not know these rules: update it before they are voted.")
    if change["version"] == state.charter["rule_version"]:
        return Fault("unchanged", "These rules are in force.")
    return None


def _activate(state: State, change: Body, _index: int) -> None:
    state.charter = {**state.charter, "rule_version": change["version"]}


CHANGES: Mapping[str, Change] = {
    "admit": Change(_check_admission, _admit),
    "suspend": Change(_check_suspension, _suspend, concerns_member=True),
    "reinstate": Change(_check_reinstatement, _reinstate, concerns_member=True),
    "remove": Change(_check_removal, _remove, concerns_member=True),
    "rotate": Change(_check_new_key, _replace_key, concerns_member=True),
    "committee": Change(_check_committee, _seat),
    "charter": Change(_check_charter, _amend),
    "rules": Change(_check_rules, _activate),
}
