"""The `consortium` command: one module for each group of commands."""

from node.cli.entry import main

__all__ = ["main"]
