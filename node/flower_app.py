"""The entry point of Flower's child processes: `python -m node.flower_app supernode|superlink|serverapp`."""

from __future__ import annotations

import sys

from node.app import children


def main(role: str) -> None:
    """Becomes a child of this role until the parent ends it."""
    {"supernode": children.supernode, "superlink": children.superlink, "serverapp": children.serverapp}[role]()


if __name__ == "__main__":
    main(sys.argv[1])
