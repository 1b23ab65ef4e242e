"""Settlement: an amount in escrow becomes pay, to the last minor unit, in double entry that sums to zero.

With fee and floor pool from the schedule, the owner group g of a set of members is paid

    pay_g = floor_pool / |E|  (when phi_g > threshold)  +  rest * phi_g * q_g * b_g / sum over groups

where phi_g is the sum of its members' scores (nothing when that is not positive), q_g the mean of their certified
quality weighted by positive scores, b_g the size boost of its *largest* member, and E the groups above the threshold.
If boosts would move more than the schedule's cap of the rest, they are scaled down together to the cap.

The group of one beneficial owner is the unit, because floors and boosts would otherwise reward shell companies: pay is
linear in scores, so a group that splits its members into more members, with the same scores in total, gets exactly the
same (the amounts are rounded per group first, then inside it by positive score and quality).

Money that nobody earned (a floor pool with no group above the threshold, everything when no score is positive) goes
back to the account that funded the escrow; the platform fee, for the run, is kept. Credits are integers in minor units;
entitlements are exact fractions, rounded by largest remainder, ties by id. Idempotence per job is the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from consortium.encoding import Json
from consortium.errors import SettlementError
from consortium.incentives.contribution import ContributionScores
from consortium.incentives.schedule import BP, SIZES, Schedule

AMOUNT_MAX = 10**18
PLATFORM_ACCOUNT = "fee:platform"

Size = Literal["large", "medium", "small"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a settlement needs to know of a member: verified size and owner group, certified quality factor."""

    size: Size
    owner_group: str
    quality_bp: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A change of one account, in minor units; what leaves an account is negative."""

    account: str
    amount: int

    def to_json(self) -> Json:
        """One item of the `postings` of a `settlement` entry: the amount is a decimal string."""
        return {"account": self.account, "amount": str(self.amount)}


def escrow_account(job: str) -> str:
    """The account that holds the amount until the settlement."""
    return f"escrow:{job}"


def source_account(job: str) -> str:
    """The account that funded the escrow, and that gets back what nobody earned."""
    return f"source:{job}"


def member_account(member: str) -> str:
    """The account of a member."""
    return f"member:{member}"


def settle(
    schedule: Schedule, job: str, amount: int, scores: ContributionScores, members: Mapping[str, Standing]
) -> tuple[Posting, ...]:
    """The postings of a job, in a fixed order: escrow, platform, members by id, source; accounts with 0 are left out.

    Args:
        schedule: the charter's.
        job: id that names the escrow.
        amount: what the escrow holds, 1 to 10**18 minor units.
        scores: one per member of the job.
        members: the standing of exactly these members.

    Raises:
        SettlementError: amount or quality out of range, an unknown size, or scores and members that do not match.
    """
    _check(schedule, amount, scores, members)
    fee = amount * schedule.platform_fee_bp // BP
    phi = {score.member: score.score_micro for score in scores.scores}
    groups: dict[str, list[str]] = {}
    for member in sorted(members):
        groups.setdefault(members[member].owner_group, []).append(member)
    due = _group_dues(schedule, amount - fee, phi, groups, members)
    unearned = amount - fee - sum(due.values(), Fraction(0))
    # The source is one more claimant, so that the parts sum to the whole; "" comes before every group in a tie.
    paid = _largest_remainder({"": unearned, **due}, amount - fee)
    pay: dict[str, int] = {}
    for group, total in paid.items():
        if group and total:
            weights = {i: Fraction(max(phi[i], 0) * members[i].quality_bp) for i in groups[group]}
            whole = sum(weights.values(), Fraction(0))
            pay |= _largest_remainder({i: total * weight / whole for i, weight in weights.items()}, total)
    postings = (
        Posting(escrow_account(job), -amount),
        Posting(PLATFORM_ACCOUNT, fee),
        *(Posting(member_account(member), pay[member]) for member in sorted(pay)),
        Posting(source_account(job), paid[""]),
    )
    return tuple(posting for posting in postings if posting.amount)


def check_postings(postings: Iterable[Posting]) -> None:
    """Holds postings to double entry: one account pays, each account once, no payout of zero or less, sum zero.

    Raises:
        SettlementError: they do not.
    """
    listed = tuple(postings)
    if len({posting.account for posting in listed}) != len(listed):
        raise SettlementError("An account is posted twice.", where="postings", mend="Add its amounts up.")
    payers = [number for number, posting in enumerate(listed) if posting.amount <= 0]
    if len(payers) != 1 or not listed[payers[0]].account.startswith("escrow:"):
        raise SettlementError(
            "A settlement takes from one escrow and gives every other account more than nothing.",
            where=f"postings{payers}",
            mend="Leave out accounts that get nothing; take from nobody but the escrow.",
        )
    if sum(posting.amount for posting in listed) != 0:
        raise SettlementError(
            "The postings do not sum to zero.", where="postings", mend="Recompute them with the charter's schedule."
        )


def _check(schedule: Schedule, amount: int, scores: ContributionScores, members: Mapping[str, Standing]) -> None:
    if type(amount) is not int or not 1 <= amount <= AMOUNT_MAX:
        raise SettlementError(
            "The amount is out of range.", where="amount", mend=f"Give 1 to {AMOUNT_MAX} minor units."
        )
    scored = [score.member for score in scores.scores]
    if len(set(scored)) != len(scored) or set(scored) != members.keys() or not scored:
        raise SettlementError(
            "Scores and members do not match.", where="scores", mend="Give each member of the job exactly one score."
        )
    for member in sorted(members):
        standing = members[member]
        if not schedule.quality_bp_min <= standing.quality_bp <= schedule.quality_bp_max:
            raise SettlementError(
                "A quality factor is outside the schedule's range.",
                where=f"members.{member}.quality_bp",
                mend=f"Give {schedule.quality_bp_min} to {schedule.quality_bp_max}.",
            )
        if standing.size not in SIZES or not standing.owner_group:
            raise SettlementError(
                "A member's size or owner group is not known.",
                where=f"members.{member}",
                mend=f"Give a size ({', '.join(SIZES)}) and the verified owner group.",
            )


def _group_dues(
    schedule: Schedule,
    pool: int,
    phi: Mapping[str, int],
    groups: Mapping[str, Sequence[str]],
    members: Mapping[str, Standing],
) -> dict[str, Fraction]:
    """What each owner group with a positive score is entitled to; sums to the pool or less."""
    weights: dict[str, Fraction] = {}
    boosts: dict[str, Fraction] = {}
    floored: list[str] = []
    for group, ids in groups.items():
        net = sum(phi[i] for i in ids)
        if net <= 0:
            continue
        positive = [i for i in ids if phi[i] > 0]
        quality = Fraction(sum(phi[i] * members[i].quality_bp for i in positive), sum(phi[i] for i in positive))
        weights[group] = net * quality
        largest = min(SIZES.index(members[i].size) for i in ids)
        boosts[group] = weights[group] * (schedule.size_boost_bp[SIZES[largest]] - BP) / BP
        if net > schedule.contribution_threshold_micro:
            floored.append(group)
    if not weights:
        return {}
    floor_pool = Fraction(pool * schedule.floor_pool_bp, BP)
    rest = pool - floor_pool
    plain, extra = sum(weights.values(), Fraction(0)), sum(boosts.values(), Fraction(0))
    moved = rest * min(Fraction(schedule.boost_pool_cap_bp, BP), extra / (plain + extra))
    due = {
        group: (rest - moved) * weights[group] / plain + (moved * boosts[group] / extra if extra else Fraction(0))
        for group in weights
    }
    for group in floored:
        due[group] += floor_pool / len(floored)
    return due


def _largest_remainder(due: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Integers that sum to `total`, each its share rounded down or up; the largest fractions go up, ties by id.

    Requires the shares to be non-negative and to sum to `total`.
    """
    parts = {name: share.numerator // share.denominator for name, share in due.items()}
    order = sorted(due, key=lambda name: (parts[name] - due[name], name))
    for name in order[: total - sum(parts.values())]:
        parts[name] += 1
    return parts
