"""Proposals, votes, and the index from which on what was voted counts."""

from __future__ import annotations

from dataclasses import replace

from consortium.faults import Fault
from consortium.governance.changes import check_change, concerned, make_change
from consortium.ledger.checkpoint import Checkpoint
from consortium.ledger.entry import Entry
from consortium.state import Proposal, State, recorded

OPEN_MAX = 64  # proposals of one author that are not decided
BASIS_POINTS = 10_000


def votes_needed(electorate: int, votes_bp: int) -> int:
    """How many votes carry a proposal: the charter's share of the electorate, rounded up."""
    return max(1, -(-electorate * votes_bp // BASIS_POINTS))


def propose(state: State, index: int, entry: Entry) -> Fault | None:
    """A member of record, or the coordinator, proposes a change."""
    change = entry.body["change"]
    fault = check_change(state, change)
    if fault is not None:
        return fault
    standing = [proposal for proposal in state.proposals.values() if proposal.outcome in ("open", "accepted")]
    if any(proposal.change == change for proposal in standing):
        return Fault("duplicate", "The same change stands proposed.")
    if sum(proposal.author == entry.author for proposal in standing) >= OPEN_MAX:
        return Fault("too-many", f"Its author has {OPEN_MAX} proposals that are not decided.")
    electorate = state.voters() - concerned(change)
    if not electorate:
        return Fault("nobody-votes", "There is no member of record who could vote on it.")
    state.proposals[entry.leaf] = Proposal(
        id=entry.leaf,
        index=index,
        author=entry.author,
        change=change,
        from_index=entry.body["from_index"],
        electorate=electorate,
        needed=votes_needed(len(electorate), state.charter["quorum"]["votes_bp"]),
    )
    return None


def cast(state: State, index: int, entry: Entry) -> Fault | None:
    """A member of record at the proposal's index votes, once, while the proposal is open."""
    proposal = state.proposals.get(bytes.fromhex(entry.body["proposal"]))
    if proposal is None:
        return Fault("unknown-proposal", "The vote is on no proposal of this ledger.")
    if entry.author not in proposal.electorate:
        return Fault("no-vote", "Its author has no vote on the proposal.")
    if entry.author in proposal.ballots:
        return Fault("duplicate", "The member voted before.")
    if proposal.outcome != "open":
        return Fault("decided", "The proposal is decided.")
    proposal.ballots[entry.author] = recorded(index, entry)
    if proposal.count("for") >= proposal.needed:
        proposal.outcome, proposal.decided = "accepted", index
        proposal.effect = max(proposal.from_index, index + 1)
        state.due.add(proposal.id)
    elif proposal.count("against") > len(proposal.electorate) - proposal.needed:
        proposal.outcome, proposal.decided = "rejected", index
    return None


def take_effect(state: State) -> None:
    """Makes the changes whose index has come: those that count for the entry at `state.size`.

    In the order of their indices, then of their proposals, so that the order of the votes makes no difference. What
    can no longer be made, because something else came before it, fails.
    """
    ready = [state.proposals[due] for due in state.due]
    for proposal in sorted(ready, key=lambda due: (due.effect, due.index)):
        assert proposal.effect is not None
        if proposal.effect > state.size:
            return
        state.due.discard(proposal.id)
        fault = check_change(state, proposal.change)
        if fault is None:
            make_change(state, proposal.change, proposal.effect)
            proposal.outcome = "effective"
        else:
            proposal.outcome, proposal.failure = "failed", fault.text


def check_handover(state: State, entry: Entry) -> Fault | None:
    """Whether the coordinator may end the time in which two committees cosign."""
    if entry.author != state.coordinator:
        return Fault("not-coordinator", "Only the coordinator records that a committee has handed over.")
    if len(state.committees_at(state.size)) < 2:
        return Fault("no-handover", "No committee is handing over.")
    return None


def hand_over(state: State, index: int, checkpoint: Checkpoint) -> Fault | None:
    """Ends the older committee's duty, once both have cosigned a checkpoint of the time in which both must.

    Without it a coordinator could show one continuation of the log to the old witnesses and another to the new ones.
    From the entry after this one on, only the new committee's quorum is asked for.
    """
    *older, newest = state.committees_at(state.size)
    if checkpoint.size < newest.start:
        return Fault("too-early", "The checkpoint is from before the new committee was seated.")
    state.committees = [
        replace(committee, end=index) if committee in older else committee for committee in state.committees
    ]
    return None
