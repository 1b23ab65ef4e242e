"""Wall time and peak memory of each step of the demonstration."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from consortium.errors import ConsortiumError
from node.demo.run import run_demo


def main() -> int:
    """Runs the demonstration once; the last line of stdout is the bench's JSON object under --json."""
    parser = argparse.ArgumentParser(prog="bench demo")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=None, help="folder with the wind farm's data")
    options = parser.parse_args()
    try:
        steps = run_demo(options.data, None)["steps"]
    except ConsortiumError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    figures = {}
    for step in steps:
        figures[f"step{step['number']}_wall_s"] = round(step["wall_s"], 2)
        figures[f"step{step['number']}_peak_rss_mib"] = round(step["peak_mb"], 1)
    figures["total_wall_s"] = round(sum(step["wall_s"] for step in steps), 2)
    if options.json:
        sys.stdout.write(json.dumps({"bench": "demo", "figures": figures}) + "\n")
    else:
        sys.stdout.writelines(f"{name:24} {value:10.2f}\n" for name, value in figures.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
