"""Fixtures of the tests of every kind."""

import os

# As `consortium serve` does before gRPC is imported: the tests of refused handshakes read what gRPC then reports.
os.environ["GRPC_VERBOSITY"] = "INFO"

from tests.worlds.stores import place, postgres

__all__ = ["place", "postgres"]
