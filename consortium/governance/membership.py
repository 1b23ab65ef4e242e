"""Who may join, offer and approve: the rules for membership, catalogue and apps."""

from __future__ import annotations

from dataclasses import replace

from consortium.errors import ConsortiumError, SignatureError
from consortium.faults import Fault
from consortium.keys import check_public_key, key_id
from consortium.ledger.entry import Entry
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.state import Committee, Dataset, HeldKey, Member, State, recorded

MEMBERS_MIN_FLOOR = 3
COMMITTEE_SIZES = (3, 4, 7, 10)


def enrol(state: State, index: int, entry: Entry) -> Fault | None:
    """A party names itself and its keys; its own signature proves that it holds the ledger key."""
    body = entry.body
    public_key = bytes.fromhex(body["public_key"])
    if key_id(public_key) != entry.author:
        return Fault("wrong-author", "An enrolment is signed by the key that it enrols.")
    if entry.author in state.members:
        return Fault("already-enrolled", "The party is enrolled; what it was admitted with does not change.")
    try:
        check_public_key(public_key)
    except SignatureError as error:
        return Fault("weak-key", error.what)
    tls_key = bytes.fromhex(body["tls_key_sha256"])
    if any(member.tls_key_sha256 == tls_key for member in state.members.values()):
        return Fault("key-in-use", "The TLS key already belongs to a member.")
    state.members[entry.author] = Member(
        id=entry.author,
        keys=(HeldKey(index, public_key, vouched=True),),
        legal_name=body["legal_name"],
        sector=body["sector"],
        size=body["size"],
        owner_group=body["owner_group"],
        tls_key_sha256=tls_key,
        flower_key=bytes.fromhex(body["flower_key"]),
        enrolment=entry.leaf,
        admitted=None,
        contact_sha256=body.get("contact_sha256", ""),
    )
    state.identities[entry.author] = entry.author
    return None


def admit(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator admits an enrolled party, where the charter leaves it to the coordinator.

    Where it leaves it to the members' vote, the coordinator admits the founding members: as many as a job needs.
    """
    if entry.author != state.coordinator:
        return Fault("not-coordinator", "Only the coordinator admits members.")
    if state.charter["quorum"]["admission"] == "vote" and len(state.voters()) >= state.charter["members_min"]:
        return Fault("not-voted", "The charter leaves admission to the members' vote: propose it.")
    member = state.members.get(bytes.fromhex(entry.body["member"]))
    if member is None or member.enrolment.hex() != entry.body["enrolment"]:
        return Fault("no-enrolment", "The admission names no enrolment on the ledger.")
    if member.admitted is not None:
        return Fault("already-admitted", "The member was admitted before.")
    state.members[member.id] = replace(member, admitted=index)
    return None


def offer(state: State, index: int, entry: Entry) -> Fault | None:
    """A member offers a dataset, or offers it anew with another policy; a lineage's budget never grows."""
    body = entry.body
    if entry.author == state.coordinator:
        return Fault("not-a-data-owner", "The coordinator's seat offers no data.")
    try:
        descriptor = DatasetDescriptor.from_json(body["descriptor"])
    except ConsortiumError as error:
        return Fault("bad-descriptor", str(error))
    if (descriptor.dataset, descriptor.lineage) != (body["dataset"], body["lineage"]):
        return Fault("bad-descriptor", "The descriptor names another dataset or lineage than the offer.")
    previous = state.datasets.get((entry.author, body["dataset"]))
    if previous is not None and previous.lineage != body["lineage"]:
        return Fault("lineage-changed", "A dataset keeps its lineage, so that it inherits what was spent.")
    account, cap = (entry.author, body["lineage"]), body["budget"]["rho_micro"]
    state.caps[account] = min(cap, state.caps.get(account, cap))
    state.datasets[entry.author, body["dataset"]] = Dataset(
        member=entry.author,
        name=body["dataset"],
        lineage=body["lineage"],
        descriptor=body["descriptor"],
        policy_sha256=body["policy_sha256"],
        schema_sha256=body["schema_sha256"],
        guard_sha256=body["guard_sha256"],
        cap_rho_micro=state.caps[account] if previous else cap,
        delta=body["budget"]["delta"],
        index=index,
    )
    return None


def seat_committee(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator seats the first committee of witnesses; from then on its changes are voted."""
    if entry.author != state.coordinator:
        return Fault("not-coordinator", "Only the coordinator seats the first committee.")
    if state.committees:
        return Fault("committee-seated", "A committee is seated; its changes are voted.")
    members = tuple(bytes.fromhex(member) for member in entry.body["members"])
    fault = check_committee(state, members)
    if fault is None:
        state.committees.append(Committee(index + 1, members))
    return fault


def check_committee(state: State, members: tuple[bytes, ...]) -> Fault | None:
    """A committee has 3, 4, 7 or 10 admitted members; one of 3 tolerates no liar."""
    if list(members) != sorted(set(members)) or len(members) not in COMMITTEE_SIZES:
        return Fault("bad-committee", "A committee names 3, 4, 7 or 10 members once each, sorted by id.")
    if any(not state.admitted(member) or member == state.coordinator for member in members):
        return Fault("bad-committee", "A witness is an admitted member, and not the coordinator.")
    return None


def catalogue(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator puts an app, by the SHA-256 of its bytes, into the catalogue."""
    if entry.author != state.coordinator:
        return Fault("not-coordinator", "Only the coordinator catalogues apps.")
    if entry.body["digest"] in state.apps:
        return Fault("duplicate", "The app is in the catalogue already.")
    state.apps[entry.body["digest"]] = recorded(index, entry)
    return None


def approve(state: State, index: int, entry: Entry) -> Fault | None:
    """A member's steward approves an app of the catalogue for its own node."""
    digest = entry.body["digest"]
    if digest not in state.apps:
        return Fault("unknown-app", "The approval names no app of the catalogue.")
    if (entry.author, digest) in state.approvals:
        return Fault("duplicate", "The member approved the app before.")
    state.approvals[entry.author, digest] = index
    return None
