"""Who may join, offer and approve, and how the members change who they are and what they agreed on."""

from consortium.governance.keys import possession, rotate
from consortium.governance.membership import (
    COMMITTEE_SIZES,
    MEMBERS_MIN_FLOOR,
    admit,
    approve,
    catalogue,
    check_committee,
    enrol,
    offer,
    seat_committee,
)
from consortium.governance.voting import cast, check_handover, hand_over, propose, take_effect, votes_needed

__all__ = [
    "COMMITTEE_SIZES",
    "MEMBERS_MIN_FLOOR",
    "admit",
    "approve",
    "cast",
    "catalogue",
    "check_committee",
    "check_handover",
    "enrol",
    "hand_over",
    "offer",
    "possession",
    "propose",
    "rotate",
    "seat_committee",
    "take_effect",
    "votes_needed",
]
