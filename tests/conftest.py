"""Fixtures of the tests of every kind."""

from tests.worlds.stores import place, postgres

__all__ = ["place", "postgres"]
