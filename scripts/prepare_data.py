"""Fetches the wind-farm data, splits it between the four operators, and prints what each file holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from consortium.errors import ConsortiumError
from node.demo.wind_farm import ATTRIBUTION, prepare

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that already has the openoa wheel, its zip or its CSV")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache", help="where the tables are kept")
    arguments = parser.parse_args()
    try:
        files = prepare(arguments.cache, arguments.data)
    except ConsortiumError as error:
        print(error, file=sys.stderr)
        return 1
    print(ATTRIBUTION)
    for name, file in files.items():
        print(
            f"{name:9} {file.rows:7} rows, {file.missing:4} without readings, {file.impossible:3} at -273.2 degrees,"
            f" {file.repeated:3} repeated times  {file.path}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
