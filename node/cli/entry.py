"""The command line's frame: groups, error rendering, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click
import typer
from click.exceptions import NoArgsIsHelpError

from consortium.errors import ConsortiumError
from node.cli.faults import INTERRUPTED, USAGE, show_fault, show_refusal

app = typer.Typer(
    name="consortium",
    help="A node of a data-collaboration consortium: raw data stays, sums and models travel, a ledger remembers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _group(name: str, text: str, panel: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True)
    app.add_typer(group, name=name, rich_help_panel=panel)
    return group


member_app = _group("member", "Members and their fingerprints.", "Members")
dataset_app = _group("dataset", "Datasets offered in place, and their privacy budgets.", "Data and jobs")
policy_app = _group("policy", "Sharing policies and approved apps.", "Data and jobs")
job_app = _group("job", "Statistics and training jobs.", "Data and jobs")
governance_app = _group("governance", "Proposals and votes of the members.", "Members")
ledger_app = _group("ledger", "The consortium's ledger.", "Ledger")
credits_app = _group("credits", "Contribution scores and credits.", "Ledger")


def main() -> NoReturn:
    """The `consortium` program."""
    sys.exit(run(sys.argv[1:]))


# In the order of the help.
COMMANDS = (
    "node",
    "members",
    "governance",
    "datasets",
    "policies",
    "jobs",
    "ledger",
    "copying",
    "repairing",
    "settlements",
    "audit",
    "demo",
)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit code: 0 done, 1 refused, 2 wrong usage, 130 interrupted."""
    # The commands register themselves; each imports what it needs only when it runs.
    for module in COMMANDS:
        import_module(f"node.cli.{module}")

    as_json = "--json" in arguments
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="consortium", standalone_mode=False)
    except ConsortiumError as error:
        return show_refusal(error, as_json=as_json)
    except NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx else "consortium"
        mend = f"See `{place} --help`."
        return show_fault("usage", error.format_message(), where="", mend=mend, as_json=as_json, exit_code=USAGE)
    except (click.Abort, KeyboardInterrupt):
        return show_fault("interrupted", "Interrupted.", where="", mend="", as_json=as_json, exit_code=INTERRUPTED)
    return code if isinstance(code, int) else 0
