"""Builds the power app's bundle: `python -m node.demo.bundle FILE`, a process of its own because that needs Flower."""

from __future__ import annotations

import sys
from pathlib import Path

from node.demo.baselines import app_folder
from node.training.flwr_private.apps import build_fab

if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(build_fab(app_folder()))
