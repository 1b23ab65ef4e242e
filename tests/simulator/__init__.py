"""A whole consortium in one process: the real services over real stores, joined without a network."""

from tests.simulator.attacker import Attacker
from tests.simulator.consortium import Consortium, consortium
from tests.simulator.link import Link
from tests.simulator.rows import POLICY, Noiseless, SimulatedRows
from tests.simulator.seats import CoordinatorSeat, MemberSeat
from tests.simulator.training import SimulatedFlower

__all__ = [
    "POLICY",
    "Attacker",
    "Consortium",
    "CoordinatorSeat",
    "Link",
    "MemberSeat",
    "Noiseless",
    "SimulatedFlower",
    "SimulatedRows",
    "consortium",
]
