"""The credits of a verified log as a beancount journal, which a bookkeeper's own tools can check.

A settlement is a transaction, and after it every account that it touched is asserted from the running sum; the last
assertions are those of the folded state, so that two computations must agree. A log knows no clock: dates only count
settlements, from 2000-01-01 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from consortium.errors import LimitError
from consortium.state import Job, State

COMMODITY = "CREDIT"
_FIRST = date(2000, 1, 1)
SETTLEMENTS_MAX = (date.max - _FIRST).days - 2
_ROOTS = {"member": "Liabilities:Members", "escrow": "Assets:Escrow", "source": "Assets:Source", "fee": "Income:Fee"}


def journal(state: State, root: bytes) -> Iterator[str]:
    """The lines of the journal; amounts are in minor units.

    Args:
        root: of the tree that the state is folded from.

    Raises:
        LimitError: more settlements than there are dates.
    """
    settled = [job for job in state.jobs.values() if job.settlement is not None]
    settled.sort(key=lambda job: 0 if job.settlement is None else job.settlement.index)
    if len(settled) > SETTLEMENTS_MAX:
        raise LimitError("There are more settlements than a journal has dates.", where="journal")
    yield f"; Credits in minor units of {_text(state.charter['name'])}"
    yield f"; after {state.size} entries, tree root {root.hex()}."
    yield 'option "title" ' + _quoted(state.charter["name"])
    yield f'option "operating_currency" "{COMMODITY}"'
    yield ""
    yield f"{_FIRST} commodity {COMMODITY}"
    for account in sorted(state.balances):
        yield f"{_FIRST} open {account_name(account)} {COMMODITY}"
    sums: dict[str, int] = {}
    for day, job in enumerate(settled, start=1):
        yield from _transaction(_FIRST + timedelta(day), job, sums)
    last = _FIRST + timedelta(len(settled) + 2)
    yield ""
    for account, balance in sorted(state.balances.items()):
        yield f"{last} balance {account_name(account)} {balance} {COMMODITY}"


def account_name(account: str) -> str:
    """The name of a ledger's account in the journal: its kind's root, then its id."""
    kind, _, name = account.partition(":")
    return f"{_ROOTS[kind]}:X{name.replace(':', '-')}"


def _transaction(day: date, job: Job, sums: dict[str, int]) -> Iterator[str]:
    assert job.settlement is not None
    yield ""
    yield f'{day} * "Settlement" "Job {job.id.hex()}"'
    yield f"  index: {job.settlement.index}"
    postings = job.settlement.body["postings"]
    for posting in postings:
        sums[posting["account"]] = sums.get(posting["account"], 0) + int(posting["amount"])
        yield f"  {account_name(posting['account'])}  {posting['amount']} {COMMODITY}"
    for posting in postings:
        account = posting["account"]
        yield f"{day + timedelta(1)} balance {account_name(account)} {sums[account]} {COMMODITY}"


def _quoted(text: str) -> str:
    return '"' + _text(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
