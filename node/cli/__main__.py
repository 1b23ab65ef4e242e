"""`python -m node.cli` is `consortium`."""

from node.cli.entry import main

main()
