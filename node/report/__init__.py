"""The report of a run as one self-contained HTML file."""

from node.report.page import render

__all__ = ["render"]
