"""Checks a node's folder and its way to the coordinator, and names the fault."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consortium.encoding import Json
from consortium.errors import ConsortiumError, ForkError, UnavailableError
from consortium.ledger.entry import read_entry
from node.config import NodeConfig, node_home, read_config, split_address
from node.identity import load_flower_key, load_ledger_key, load_tls_key
from node.rpc.channels import ClientTls, probe
from node.rpc.client import ControlClient

CONNECT_S = 5.0
ALARM_ADVICE = (
    "Verify the file with `consortium audit --evidence` and give it to the other members; once they have settled it,"
    " move it out of the folder and start the node again."
)


@dataclass(frozen=True)
class Check:
    """One check: its name, and what is wrong if something is."""

    check: str
    error: ConsortiumError | None

    def to_json(self) -> Json:
        """{check, ok, text, mend}."""
        return {
            "check": self.check,
            "ok": self.error is None,
            "text": "" if self.error is None else f"{self.error.what} {self.error.where}".strip(),
            "mend": "" if self.error is None else self.error.mend,
        }


async def doctor(home: Path) -> Json:
    """{checks: [{check, ok, text, mend}]}: configuration, keys, genesis, address, certificate, running node."""
    folder = node_home(home)
    configured = _tried("configuration", lambda: read_config(folder))
    checks = [configured]
    if configured.error is None:
        config = read_config(folder)
        checks += [
            _tried("ledger key", lambda: load_ledger_key(folder.ledger_key)),
            _tried("TLS key", lambda: load_tls_key(folder.tls_key)),
            _tried("genesis", lambda: read_entry(folder.genesis.read_bytes())),
        ]
        if config.role == "member":
            checks.append(_tried("Flower key", lambda: load_flower_key(folder.flower_key)))
            checks += await asyncio.to_thread(_way_to_coordinator, config)
        checks.append(await _running(home))
    return {"checks": [check.to_json() for check in checks]}


def _tried(name: str, look: Callable[[], object]) -> Check:
    try:
        look()
    except ConsortiumError as error:
        return Check(name, error)
    except OSError:
        return Check(name, ConsortiumError("A file is missing or cannot be read.", mend="Restore the node's folder."))
    return Check(name, None)


def _way_to_coordinator(config: NodeConfig) -> list[Check]:
    host, port = split_address(config.addresses.members)
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError:
        unreachable = ConsortiumError(
            "The coordinator's address cannot be reached.",
            where=config.addresses.members,
            mend="Check that its node runs, the name, and that the firewall lets this machine connect outward.",
        )
        return [Check("way to the coordinator", unreachable)]
    home = config.home
    tls = ClientTls(home.tls_key, home.tls_certificate, home.ca_certificate)
    return [Check("way to the coordinator", None), Check("certificate", probe(config.addresses.members, tls))]


async def _running(home: Path) -> Check:
    try:
        async with ControlClient(home) as client:
            status = await client.status()
    except ConsortiumError as error:
        return Check("running node", error)
    alarm = status["alarm"]
    if alarm is not None:
        return Check("running node", ForkError(alarm["text"], where=alarm["evidence"], mend=ALARM_ADVICE))
    alone = UnavailableError(
        "The node runs, but is not connected to the coordinator.", mend="If that lasts, look into its log."
    )
    return Check("running node", None if status["connected"] else alone)
