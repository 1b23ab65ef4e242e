"""Governing from the command line: a voted admission, a rotated key, a suspension, and personal data that is erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.demo.processes import Nodes
from tests.processes.cli_world import SEAT, Consortium, consortium, good, ready, until

FOUNDERS = ("alpha", "beta", "gamma")
MAIL = "ada@alpha.example"


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("g")
    good("found", "Commons", "--legal-name", "Office", "--sector", "energy", "--voted-admission", home=folder / SEAT)
    (folder / "logs").mkdir()
    with Nodes(folder / "logs") as nodes:
        world = Consortium(folder, nodes, {})
        ready(nodes.start(SEAT, world.home(SEAT)))
        for name in FOUNDERS:
            world.member[name] = join(world, name, *(("--contact", "Ada Lovelace", MAIL) if name == "alpha" else ()))
            ready(nodes.start(name, world.home(name)))
        yield world


def join(world: Consortium, name: str, *more: str) -> str:
    """Invites and enrols a party; its id."""
    good("invite", name, "--out", world.invitation(name), home=world.home(SEAT))
    words = ("--legal-name", name, "--sector", "energy", "--size", "small", "--owner-group", name, *more)
    return str(good("join", world.invitation(name), *words, home=world.home(name))["member"])


def standing(world: Consortium) -> dict[str, str]:
    with world.client(SEAT) as office:
        return dict(office.members()[["legal_name", "standing"]].itertuples(index=False))


def vote(world: Consortium, proposal: str, names: tuple[str, ...]) -> str:
    """The outcome after these members voted for a proposal."""
    outcome = ""
    for name in names:
        with world.client(name) as node:
            until(lambda: proposal in {entry["leaf"] for entry in node.entries().to_dict("records")})
        outcome = good("governance", "vote", proposal, "for", home=world.home(name))["outcome"]
    return outcome


def audit(world: Consortium, folder: Path) -> tuple[list[dict[str, str]], str]:
    """The contact records that an audit of the coordinator's export reports, and all files of the export."""
    good("ledger", "export", folder, home=world.home(SEAT))
    report = good("audit", folder, "--genesis", world.home(SEAT) / "genesis.frame")
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return report["figures"]["contacts"], files.decode("latin-1")


def test_who_joins_after_the_founders_is_voted_and_served_only_then(governed: Consortium) -> None:
    member = join(governed, "delta")
    assert standing(governed)["delta"] == "enrolled"
    (proposal,) = good("governance", "list", home=governed.home("alpha"))["proposals"]
    assert (proposal["change"]["type"], proposal["change"]["member"]) == ("admit", member)
    assert vote(governed, proposal["proposal"], FOUNDERS) == "effective"
    assert standing(governed)["delta"] == "member"
    ready(governed.nodes.start("delta", governed.home("delta")))


def test_a_member_rotates_its_key_and_goes_on_under_its_name(governed: Consortium) -> None:
    home = governed.home("beta")
    before = (home / "keys" / "ledger.pem").read_bytes()
    rotated = good("member", "rotate-key", home=home)
    assert rotated["member"] == governed.member["beta"]
    key = home / "keys" / "ledger.pem"
    assert key.read_bytes() != before
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (home / "keys" / "ledger.next.pem").exists()
    status = good("status", home=home)
    assert (status["member"], status["fingerprint"]) == (rotated["member"], rotated["fingerprint"])
    fault = consortium("member", "rotate-key", home=governed.home(SEAT)).fault
    assert fault["code"] == "bad-config"


def test_a_suspended_member_is_shut_out_and_comes_back(governed: Consortium) -> None:
    with governed.client(SEAT) as office:
        gamma = office.members().set_index("legal_name").loc["gamma", "fingerprint"]
    proposal = good("governance", "propose", "suspend", gamma, home=governed.home("beta"))  # with its new key
    voters = tuple(name for name in ("alpha", "beta", "delta") if standing(governed).get(name) == "member")
    assert vote(governed, proposal["proposal"], voters) == "effective"
    assert standing(governed)["gamma"] == "suspended"
    until(lambda: not good("status", home=governed.home("gamma"))["connected"])
    back = good("governance", "propose", "reinstate", gamma, home=governed.home(SEAT))
    assert vote(governed, back["proposal"], voters) == "effective"
    until(lambda: good("status", home=governed.home("gamma"))["connected"])
    fault = consortium("governance", "vote", back["proposal"], "for", home=governed.home(SEAT)).fault
    assert fault["code"] == "bad-config"


def test_erased_personal_data_is_gone_and_the_audit_passes_and_says_so(governed: Consortium, tmp_path: Path) -> None:
    contacts, files = audit(governed, tmp_path / "before")
    assert [each["contact"] for each in contacts] == ["disclosed"]
    assert MAIL in files
    for place in (SEAT, "alpha"):
        assert good("erase", governed.member["alpha"], home=governed.home(place))["erased"]
    contacts, files = audit(governed, tmp_path / "after")
    assert [each["contact"] for each in contacts] == ["erased"]
    assert MAIL not in files
    kept = b"".join(
        path.read_bytes() for path in governed.folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert MAIL.encode() not in kept
