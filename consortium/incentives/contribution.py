"""Contribution scores by participation regression: indicative, and computed from sums alone.

Under a secure sum nobody sees one member's update, so nobody can rebuild the models of other coalitions. What is
public is who took part in each round and how the utility of the shared model moved. The rosters (`jobs.round_roster`)
are all members or all but one, and the moves are explained by least squares over the rounds r = 1..R:

    u_r - u_{r-1}  =  c + sum_i m_i * [i took part] + g * (u_{r-1} - mean) + h * (1/r - mean) + noise

The last two terms are the learning curve, which gains much at first and little later whoever takes part; without them
early rounds are credited to whoever was in them. The score of a member is

    phi_i = m_i + c / n

m_i is what a round loses when i alone stays away. c is the gain that no single absence takes away, because members
know the same things; a round of nobody gains nothing, so it belongs to all and is shared equally. This is the
egalitarian non-separable contribution value (Moulin 1985; Driessen & Funaki 1991): on a game whose members' worths add
up it is the Shapley value, and the scores sum to the gain of a full round.

What it is not: a Shapley value in general. Because only single absences are seen, a member that adds nothing cannot
be told from one whose data others have too, and gets that equal share; one that does harm falls below it, and below
zero when the harm is larger than the share. The standard error says which differences mean something.

Everything is integers and exact fractions, so an auditor's machine gets the same bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction

from consortium.encoding import Json
from consortium.errors import ContributionError

METHOD = "participation-regression-v1"
UTILITY_MICRO_MAX = 1_000_000
MEMBERS_MIN = 4
MEMBERS_MAX = 64
ROUNDS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Score:
    """One member's score and its standard error, in micro-units of utility per round."""

    member: str
    score_micro: int
    error_micro: int


@dataclass(frozen=True, slots=True)
class ContributionScores:
    """The scores of one job, by member id in ascending order."""

    method: str
    scores: tuple[Score, ...]

    def to_json(self) -> list[Json]:
        """The `scores` list of a `scores` entry."""
        return [
            {"error_micro": score.error_micro, "member": score.member, "score_micro": score.score_micro}
            for score in self.scores
        ]


def participation_scores(
    members: Sequence[str], rosters: Sequence[AbstractSet[str]], utilities_micro: Sequence[int]
) -> ContributionScores:
    """The score and standard error of each member.

    Args:
        members: ids, in any order.
        rosters: who is in the sum of round r (the survivors, not the invited), for r = 1..R.
        utilities_micro: R + 1 integers in 0..1,000,000: the utility of the initial model and of the model after each
            round, on the same test data.

    Raises:
        ContributionError: input out of range; fewer rounds than the model needs; or rosters that do not tell the
            members apart.
    """
    ordered = _ordered_members(members)
    _check_input(frozenset(ordered), rosters, utilities_micro)
    moves = [after - before for before, after in itertools.pairwise(utilities_micro)]
    curve = _learning_curve(utilities_micro[:-1])
    presence = [[int(member in roster) for roster in rosters] for member in ordered]
    columns = [[1] * len(rosters), *curve, *presence]
    freedom = len(rosters) - len(columns)
    if freedom < 1:
        raise ContributionError(
            f"{len(rosters)} rounds are too few for scores with an error.",
            where="rosters",
            mend=f"Train at least {len(columns) + 1} rounds.",
        )
    inverse = _inverse(_gram(columns))
    targets = [_dot(column, moves) for column in columns]
    coefficients = [_dot(row, targets) for row in inverse]
    fitted = (_dot(coefficients, row) for row in zip(*columns, strict=True))
    variance = sum(((move - fit) ** 2 for move, fit in zip(moves, fitted, strict=True)), Fraction(0)) / freedom
    share = Fraction(1, len(ordered))
    scores = []
    for i, member in enumerate(ordered, 1 + len(curve)):
        score = coefficients[i] + share * coefficients[0]
        spread = inverse[i][i] + 2 * share * inverse[0][i] + share**2 * inverse[0][0]
        scores.append(Score(member, round(score), _root_up(variance * spread)))
    return ContributionScores(METHOD, tuple(scores))


def _learning_curve(before: Sequence[int]) -> list[list[int]]:
    """The terms that do not depend on who takes part, centred; a constant one says nothing and is left out.

    Each is scaled by a constant that keeps it an integer, which changes its coefficient and no other.
    """
    rounds = len(before)
    terms = (list(before), [UTILITY_MICRO_MAX // number for number in range(1, rounds + 1)])
    return [[rounds * value - sum(term) for value in term] for term in terms if len(set(term)) > 1]


def _ordered_members(members: Sequence[str]) -> list[str]:
    ordered = sorted(members)
    if len(set(ordered)) != len(ordered) or not MEMBERS_MIN <= len(ordered) <= MEMBERS_MAX:
        raise ContributionError(
            f"The scores need {MEMBERS_MIN} to {MEMBERS_MAX} different members.",
            where="members",
            mend="A round of fewer than 3 members would show their updates, so one of 4 may sit out and no more.",
        )
    return ordered


def _check_rounds(rounds: int) -> None:
    if not 1 <= rounds <= ROUNDS_MAX:
        raise ContributionError(
            "The number of rounds is out of range.", where="rosters", mend=f"Give 1 to {ROUNDS_MAX} rounds."
        )


def _check_input(members: frozenset[str], rosters: Sequence[AbstractSet[str]], utilities_micro: Sequence[int]) -> None:
    _check_rounds(len(rosters))
    if len(utilities_micro) != len(rosters) + 1:
        raise ContributionError(
            "The utilities do not match the rounds.",
            where="utilities",
            mend="Give the utility of the initial model and of the model after each round.",
        )
    for number, utility in enumerate(utilities_micro):
        if type(utility) is not int or not 0 <= utility <= UTILITY_MICRO_MAX:
            raise ContributionError(
                "A utility is out of range.",
                where=f"utilities[{number}]",
                mend=f"Give an integer from 0 to {UTILITY_MICRO_MAX}.",
            )
    for number, roster in enumerate(rosters):
        if not roster or not roster <= members:
            raise ContributionError(
                "A roster is empty or names somebody else.", where=f"rosters[{number}]", mend="Name members of the job."
            )


def _gram(columns: Sequence[Sequence[int]]) -> list[list[Fraction]]:
    return [[Fraction(sum(a * b for a, b in zip(x, y, strict=True))) for y in columns] for x in columns]


def _dot(left: Iterable[Fraction | int], right: Iterable[Fraction | int]) -> Fraction:
    return sum((Fraction(a) * b for a, b in zip(left, right, strict=True)), Fraction(0))


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss-Jordan on a positive semidefinite matrix: there a zero pivot means that columns of the design depend."""
    size = len(matrix)
    rows = [row + [Fraction(int(i == k)) for k in range(size)] for i, row in enumerate(matrix)]
    for k in range(size):
        if rows[k][k] == 0:
            raise ContributionError(
                "The rosters do not tell the members apart.",
                where="rosters",
                mend="Include rounds with every member, and rounds that each single member sits out.",
            )
        pivot = rows[k][k]
        rows[k] = [value / pivot for value in rows[k]]
        for i in range(size):
            factor = rows[i][k]
            if i != k and factor:
                rows[i] = [value - factor * by for value, by in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]


def _root_up(value: Fraction) -> int:
    """The smallest integer whose square is at least `value`."""
    whole = math.ceil(value)
    root = math.isqrt(whole)
    return root if root * root == whole else root + 1
