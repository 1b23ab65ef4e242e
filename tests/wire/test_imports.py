"""The process that speaks gRPC holds no Flower, no database of data and no learning library."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import importlib, json, pkgutil, sys
import node.rpc
for module in pkgutil.iter_modules(node.rpc.__path__):
    importlib.import_module(f"node.rpc.{module.name}")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_module_of_rpc_imports_what_does_not_belong_in_its_process():
    loaded = json.loads(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout)
    assert "grpc" in loaded
    assert not {"flwr", "duckdb", "sklearn", "pandas", "pyarrow", "sqlmodel", "opendp"} & set(loaded)
