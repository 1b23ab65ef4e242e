"""Ways out of the data worker's database, each of which must be shut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from node.data.sandbox import open_connection

stolen = pd.DataFrame({"secret": [1]})

ESCAPES = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('{folder}/other.csv')",
    "SELECT * FROM read_csv('{folder}/*.csv')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_csv('https://example.org/a.csv')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/data.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET allowed_paths = ['/etc/passwd']",
    "SET allowed_directories = ['/']",
    "SET memory_limit = '100GB'",
    "SET temp_directory = '{folder}'",
    "PRAGMA threads = 64",
    "RESET memory_limit",
    "SELECT * FROM stolen",
    "SELECT getenv('PATH')",
]


@pytest.mark.parametrize("statement", ESCAPES)
def test_the_connection_reaches_nothing_but_its_file(tmp_path: Path, statement: str) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a\n1\n")
    (tmp_path / "other.csv").write_text("a\n2\n")
    assert not stolen.empty
    with open_connection(data) as connection:
        assert connection.execute(f"SELECT * FROM read_csv('{data}')").fetchall() == [(1,)]
        with pytest.raises(duckdb.Error):
            connection.execute(statement.replace("{folder}", str(tmp_path))).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "other.csv"]
    assert data.read_text() == "a\n1\n"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_the_limited_process_can_write_no_byte_to_a_file_and_dump_no_core(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from node.data.sandbox import limit_process; limit_process(); "
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0); "
        "file = open(sys.argv[1], 'wb', buffering=0); file.write(b'x')"
    )
    result = run(program, str(tmp_path / "out"))
    assert "File too large" in result.stderr
    assert (tmp_path / "out").read_bytes() == b""


def test_the_limited_process_cannot_take_all_memory() -> None:
    result = run("from node.data.sandbox import limit_process; limit_process(); bytearray(1 << 40)")
    assert "MemoryError" in result.stderr


def test_the_node_itself_imports_neither_duckdb_nor_arrow() -> None:
    result = run("import sys, node.data.datasets; print({'duckdb', 'pyarrow', 'opendp', 'pandas'} & set(sys.modules))")
    assert result.stdout == "set()\n"
