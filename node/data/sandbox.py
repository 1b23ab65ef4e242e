"""A DuckDB connection that can read one file and do nothing else to the world.

DuckDB says that executing untrusted SQL is unsafe by design (duckdb.org/security), so no SQL from outside ever reaches
it; this is the second wall, and the child process that holds it is the third.
"""

from __future__ import annotations

import resource
from pathlib import Path

import duckdb

THREADS = 2
MEMORY_LIMIT = "1GB"
ADDRESS_SPACE_BYTES = 8 << 30  # virtual, not resident: DuckDB and Arrow reserve far more than they use
CPU_SECONDS = 600
OPEN_FILES = 64


def open_connection(path: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory database whose only door to the outside is reading `path`; none of this can be undone by SQL."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET allowed_paths = [?]", [str(path)])
    for setting in (
        f"threads = {THREADS}",
        f"memory_limit = '{MEMORY_LIMIT}'",
        "temp_directory = ''",
        "TimeZone = 'UTC'",
        "preserve_insertion_order = true",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def limit_process() -> None:
    """Bounds this process: memory, processor time, open files; no core dump, and no byte written to any file."""
    for kind, limit in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))
