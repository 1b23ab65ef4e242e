"""The incentive schedule that the charter carries: every number a settlement depends on.

Shares are in basis points (10,000 = the whole, or a factor of 1.0); scores are in micro-units of utility.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from consortium.encoding import Json
from consortium.errors import SettlementError

BP = 10_000
VERSION = 1
SIZES = ("large", "medium", "small")
PLATFORM_FEE_BP_MAX = 500
BOOST_BP_MAX = 20_000
THRESHOLD_MICRO_MAX = 1_000_000

_KEYS = frozenset(
    {
        "boost_pool_cap_bp",
        "contribution_threshold_micro",
        "floor_pool_bp",
        "platform_fee_bp",
        "quality_bp",
        "size_boost_bp",
        "version",
    }
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One version of the rules of pay.

    Attributes:
        platform_fee_bp: share of the amount that the platform keeps.
        floor_pool_bp: share of what is left after the fee, split equally between the owner groups above the threshold.
        size_boost_bp: factor on the pay of an owner group, by the size of its largest member.
        quality_bp_min: lowest certified quality factor.
        quality_bp_max: highest certified quality factor.
        boost_pool_cap_bp: largest share of the performance pay that boosts may move.
        contribution_threshold_micro: an owner group gets a floor only when its score is above this.
    """

    platform_fee_bp: int
    floor_pool_bp: int
    size_boost_bp: Mapping[str, int]
    quality_bp_min: int
    quality_bp_max: int
    boost_pool_cap_bp: int
    contribution_threshold_micro: int

    @classmethod
    def from_json(cls, document: Json) -> Schedule:
        """The schedule that a document says; every key is needed and no other is allowed.

        Raises:
            SettlementError: a key that is missing, unknown, of the wrong type or outside its range.
        """
        fields = _object(document, _KEYS, "schedule")
        _integer(fields["version"], "schedule.version", VERSION, VERSION)
        boosts = _object(fields["size_boost_bp"], frozenset(SIZES), "schedule.size_boost_bp")
        floor = BP
        for size in SIZES:
            floor = _integer(boosts[size], f"schedule.size_boost_bp.{size}", floor, BOOST_BP_MAX)
        quality = _object(fields["quality_bp"], frozenset({"max", "min"}), "schedule.quality_bp")
        highest = _integer(quality["max"], "schedule.quality_bp.max", 1, BP)
        return cls(
            platform_fee_bp=_integer(fields["platform_fee_bp"], "schedule.platform_fee_bp", 0, PLATFORM_FEE_BP_MAX),
            floor_pool_bp=_integer(fields["floor_pool_bp"], "schedule.floor_pool_bp", 0, BP),
            size_boost_bp=MappingProxyType({size: boosts[size] for size in SIZES}),
            quality_bp_min=_integer(quality["min"], "schedule.quality_bp.min", 1, highest),
            quality_bp_max=highest,
            boost_pool_cap_bp=_integer(fields["boost_pool_cap_bp"], "schedule.boost_pool_cap_bp", 0, BP),
            contribution_threshold_micro=_integer(
                fields["contribution_threshold_micro"],
                "schedule.contribution_threshold_micro",
                0,
                THRESHOLD_MICRO_MAX,
            ),
        )

    def to_json(self) -> Json:
        """The document that `from_json` reads; its canonical JSON is what a settlement entry hashes."""
        return {
            "boost_pool_cap_bp": self.boost_pool_cap_bp,
            "contribution_threshold_micro": self.contribution_threshold_micro,
            "floor_pool_bp": self.floor_pool_bp,
            "platform_fee_bp": self.platform_fee_bp,
            "quality_bp": {"max": self.quality_bp_max, "min": self.quality_bp_min},
            "size_boost_bp": dict(self.size_boost_bp),
            "version": VERSION,
        }


def _object(value: Json, keys: frozenset[str], where: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise SettlementError("The schedule lacks an object here.", where=where, mend="See policies/incentives.")
    if value.keys() != keys:
        raise SettlementError(
            "The schedule has a missing or an unknown key.",
            where=where,
            mend=f"Give exactly these keys: {', '.join(sorted(keys))}.",
        )
    return value


def _integer(value: Json, where: str, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise SettlementError(
            "The schedule has a number outside its range.",
            where=where,
            mend=f"Give an integer from {lowest} to {highest} (a larger size never gets a larger boost).",
        )
    return value
