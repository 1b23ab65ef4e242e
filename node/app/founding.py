"""Founds a consortium: its genesis, its CA, and the node that holds the coordinator's seat."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from consortium.encoding import Json, sha256
from consortium.errors import ConfigError
from consortium.incentives.schedule import Schedule
from consortium.keys import fingerprint
from consortium.ledger.entry import Draft, Entry, Head, write_entry
from node.config import Addresses, NodeConfig, NodeHome, create_home, write_config
from node.identity import create_ca, create_ledger_key, create_tls_key, server_certificate, write_private

RULE_VERSION = 1
VOTES_BP = 6_667  # of the members of record: more than two thirds


def found(
    home: Path,
    *,
    name: str,
    legal_name: str,
    sectors: list[str],
    host: str,
    ports: tuple[int, int, int],
    members_min: int,
    schedule: Json,
    admission: str = "coordinator",
) -> Json:
    """Makes the keys of the coordinator and signs the genesis; nothing runs yet.

    Args:
        home: a new folder.
        admission: "coordinator" admits by invitation, or the members "vote" on who joins after the founding members.
        ports: for members, invitations and training; 0 for any free one.

    Raises:
        ConfigError: the folder holds a node, or cannot be used.
        SettlementError: the incentive schedule is not valid.
    """
    Schedule.from_json(schedule)
    folder = create_home(home)
    if folder.config_file.exists() or folder.ledger_key.exists():
        raise ConfigError("The folder holds a node already.", where=str(folder.path), mend="Name a new folder.")
    now = datetime.now(UTC)
    signer, tls = create_ledger_key(folder.ledger_key), create_tls_key(folder.tls_key)
    ca = create_ca(folder.ca_key, folder.ca_certificate, name, now)
    write_private(folder.tls_certificate, server_certificate(ca, tls, [host], now))
    charter = {
        "name": name,
        "sectors": sectors,
        "coordinator": {
            "legal_name": legal_name,
            "public_key": signer.public_key.hex(),
            "sector": sectors[0],
            "size": "neutral",
            "tls_key_sha256": tls.spki_sha256.hex(),
        },
        "origin": f"consortium/{signer.key_id.hex()[:16]}",
        "schedule": schedule,
        "rule_version": RULE_VERSION,
        "members_min": members_min,
        "quorum": {"admission": admission, "votes_bp": VOTES_BP},
    }
    genesis = write_entry(
        signer, Draft("genesis", "genesis", charter), consortium=b"", head=Head(0, sha256(b"")), prev=bytes(32), seq=0
    )
    write_private(folder.genesis, genesis.frame.data)
    config = _config(folder, name, legal_name, sectors[0], _addresses(host, ports), members_min)
    write_config(config)
    return _document(genesis, config)


def _config(
    folder: NodeHome, name: str, legal_name: str, sector: str, addresses: Addresses, members_min: int
) -> NodeConfig:
    return NodeConfig(
        home=folder,
        role="coordinator",
        consortium=name,
        legal_name=legal_name,
        sector=sector,
        size="neutral",
        addresses=addresses,
        members_min=members_min,
    )


def _addresses(host: str, ports: tuple[int, int, int]) -> Addresses:
    members, enrolment, fleet = _chosen(ports)
    return Addresses(members=f"{host}:{members}", fleet=f"{host}:{fleet}", enrolment=f"{host}:{enrolment}")


def _chosen(ports: tuple[int, int, int]) -> list[int]:
    """The given ports, with a different free one for each 0."""
    with ExitStack() as stack:
        chosen = []
        for port in ports:
            probe = stack.enter_context(socket.socket())
            probe.bind(("", 0))
            chosen.append(port or int(probe.getsockname()[1]))
        return chosen


def _document(genesis: Entry, config: NodeConfig) -> Json:
    return {
        "consortium": config.consortium,
        "genesis": genesis.leaf.hex(),
        "member": genesis.author.hex(),
        "fingerprint": fingerprint(genesis.author),
        "address": config.addresses.members,
        "enrolment_address": config.addresses.enrolment,
        "fleet_address": config.addresses.fleet,
        "home": str(config.home.path),
    }
