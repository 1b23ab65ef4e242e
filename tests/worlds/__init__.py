"""Consortia in memory: real keys, entries, secure sums, scores and settlements, without any node."""

from tests.worlds import documents
from tests.worlds.governing import governed_world
from tests.worlds.ledger import Ledger, snapshot
from tests.worlds.sums import SumRecord, run_sum
from tests.worlds.world import World, honest_world

__all__ = ["Ledger", "SumRecord", "World", "documents", "governed_world", "honest_world", "run_sum", "snapshot"]
