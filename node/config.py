"""A node's folder and its configuration file, `HOME/node.toml`."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from consortium.errors import ConfigError

Role = Literal["coordinator", "member"]
Size = Literal["large", "medium", "small", "neutral"]

ROLES = ("coordinator", "member")
SIZES = ("large", "medium", "small", "neutral")  # neutral: the coordinator
MEMBERS_MIN_LEAST = 3  # with two, each learns the other's value from the sum
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path has 108 bytes with its final NUL (unix(7))
CONFIG_BYTES_MAX = 65_536
NAME_CHARS_MAX = 200
MIB = 1 << 20
DATABASE_SCHEME = "postgresql+psycopg://"


@dataclass(frozen=True)
class NodeHome:
    """Where everything in a node's folder lies; `path` is absolute."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "node.toml"

    @property
    def genesis(self) -> Path:
        """The frame of the genesis entry."""
        return self.path / "genesis.frame"

    @property
    def ledger_key(self) -> Path:
        return self.path / "keys" / "ledger.pem"

    @property
    def next_ledger_key(self) -> Path:
        """A key that is to replace the ledger key; there only until the log has it in force."""
        return self.path / "keys" / "ledger.next.pem"

    @property
    def member(self) -> Path:
        """The member's id in hex, once its first key, which names it, was replaced."""
        return self.path / "keys" / "member"

    @property
    def tls_key(self) -> Path:
        return self.path / "keys" / "tls.pem"

    @property
    def tls_certificate(self) -> Path:
        return self.path / "keys" / "tls.crt"

    @property
    def ca_key(self) -> Path:
        """The coordinator's only."""
        return self.path / "keys" / "ca.pem"

    @property
    def ca_certificate(self) -> Path:
        return self.path / "keys" / "ca.crt"

    @property
    def flower_key(self) -> Path:
        """The SuperNode's key, in OpenSSH format."""
        return self.path / "keys" / "flower"

    @property
    def database(self) -> Path:
        return self.path / "node.db"

    @property
    def contacts(self) -> Path:
        """Contact records: the only personal data, each in a file that can be erased."""
        return self.path / "contacts"

    @property
    def run(self) -> Path:
        """Sockets; only while the node runs."""
        return self.path / "run"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def trainer_socket(self) -> Path:
        return self.run / "trainer.sock"

    @property
    def rounds_socket(self) -> Path:
        return self.run / "rounds.sock"

    @property
    def flower(self) -> Path:
        """Flower's own folder (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def evidence(self) -> Path:
        """Files of evidence; there is no such folder before there is any."""
        return self.path / "evidence"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder of the layout, the home first."""
        return (self.path, self.path / "keys", self.run, self.flower, self.logs)


@dataclass(frozen=True)
class Addresses:
    """`host:port` each: where the coordinator listens, and so where a member connects."""

    members: str
    fleet: str
    enrolment: str = ""  # the coordinator's only


@dataclass(frozen=True)
class Limits:
    """What a node takes from one caller."""

    message_bytes_max: int = 16 * MIB
    child_message_bytes_max: int = 64 * MIB
    streams_per_member_max: int = 8


@dataclass(frozen=True)
class NodeConfig:
    """One node, as its operator configured it.

    Attributes:
        database: `postgresql+psycopg://...`, or "" for the SQLite file in the node's folder.
    """

    home: NodeHome
    role: Role
    consortium: str
    legal_name: str
    sector: str
    size: Size
    addresses: Addresses
    members_min: int = MEMBERS_MIN_LEAST
    limits: Limits = field(default_factory=Limits)
    database: str = ""


def node_home(path: Path) -> NodeHome:
    """The layout under a folder, which need not exist yet.

    Raises:
        ConfigError: the path is too long for the unix sockets in it.
    """
    home = NodeHome(Path(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow links that may change
    longest = max(len(os.fsencode(socket)) for socket in (home.control_socket, home.trainer_socket, home.rounds_socket))
    if longest > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"The node's folder has too long a path: a unix socket in it would need {longest} bytes, "
            f"the system takes {SOCKET_PATH_BYTES_MAX}.",
            where=str(home.path),
            mend=f"Use a folder whose path is {longest - SOCKET_PATH_BYTES_MAX} bytes shorter.",
        )
    return home


def create_home(path: Path) -> NodeHome:
    """Makes the folders of a node, each 0700; a folder that exists must be ours alone already.

    Raises:
        ConfigError: the path is too long, not a folder, cannot be made, or open to other users.
    """
    home = node_home(path)
    for folder in home.folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                "The node's folder cannot be made.", where=str(folder), mend="Choose a folder that you may write to."
            ) from error
    check_home(home)
    return home


def check_home(home: NodeHome) -> None:
    """Raises ConfigError unless the node's folder exists and only its owner may enter it."""
    if not home.path.is_dir():
        raise ConfigError(
            "There is no node in this folder.", where=str(home.path), mend="Run `consortium found` or `join` first."
        )
    if home.path.stat().st_mode & 0o077:
        raise ConfigError(
            "The node's folder is open to other users of this machine.",
            where=str(home.path),
            mend="Run `chmod 700` on it.",
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        ConfigError: it is neither.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", address)
    if match is None or int(match[3]) > 65_535:
        raise ConfigError("An address is not of the form host:port.", mend='Write it like "consortium.example:7443".')
    return match[1] or match[2], int(match[3])


def write_config(config: NodeConfig) -> None:
    """Writes `HOME/node.toml` (0600) in one step, or replaces it.

    Raises:
        ConfigError: a value that `read_config` would refuse; nothing was written.
    """
    text = _to_toml(config)
    path = config.home.config_file
    _from_text(config.home, text)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_config(home: NodeHome) -> NodeConfig:
    """The configuration of the node in a folder.

    Raises:
        ConfigError: no node there, the folder is open to others, or a key is missing, unknown or wrong; names the
            file, line and key.
    """
    check_home(home)
    path = home.config_file
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            "There is no node in this folder.", where=str(path), mend="Run `consortium found` or `join` first."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "The configuration file cannot be read.", where=str(path), mend="It is a UTF-8 text file of yours."
        ) from error
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError(f"The configuration file is larger than {CONFIG_BYTES_MAX} bytes.", where=str(path))
    return _from_text(home, text)


def _from_text(home: NodeHome, text: str) -> NodeConfig:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+", str(error))
        raise ConfigError(
            "The configuration file is not TOML.",
            where=f"{home.config_file}, {place[0] if place else 'end of file'}",
            mend="Mend the syntax there; see toml.io.",
        ) from error
    table = _Table(home.config_file, text, document)
    table.refuse_unknown("", ("role", "consortium", "legal_name", "sector", "size", "members_min", "database"))
    role = cast("Role", table.choice("role", ROLES))
    coordinator = role == "coordinator"
    table.refuse_unknown("addresses.", ("members", "fleet", *(["enrolment"] if coordinator else [])))
    limits = ("message_bytes_max", "child_message_bytes_max", "streams_per_member_max")
    table.refuse_unknown("limits.", limits)
    return NodeConfig(
        home=home,
        role=role,
        consortium=table.name("consortium"),
        legal_name=table.name("legal_name"),
        sector=table.name("sector"),
        size=cast("Size", table.choice("size", SIZES)),
        members_min=table.integer("members_min", MEMBERS_MIN_LEAST, 1_000),
        addresses=Addresses(
            members=table.address("addresses.members"),
            fleet=table.address("addresses.fleet"),
            enrolment=table.address("addresses.enrolment") if coordinator else "",
        ),
        limits=Limits(
            message_bytes_max=table.integer("limits.message_bytes_max", MIB, 1024 * MIB),
            child_message_bytes_max=table.integer("limits.child_message_bytes_max", MIB, 1024 * MIB),
            streams_per_member_max=table.integer("limits.streams_per_member_max", 2, 1_000),
        ),
        database=table.database("database"),
    )


def _to_toml(config: NodeConfig) -> str:
    addresses, limits = config.addresses, config.limits
    lines = [
        "# A consortium node. Stop the node before you change it.",
        f"role = {_quote(config.role)}",
        f"consortium = {_quote(config.consortium)}",
        f"legal_name = {_quote(config.legal_name)}",
        f"sector = {_quote(config.sector)}",
        f"size = {_quote(config.size)}",
        f"members_min = {config.members_min}",
        *([f"database = {_quote(config.database)}"] if config.database else []),
        "",
        "[addresses]",
        f"members = {_quote(addresses.members)}",
        *([f"enrolment = {_quote(addresses.enrolment)}"] if config.role == "coordinator" else []),
        f"fleet = {_quote(addresses.fleet)}",
        "",
        "[limits]",
        f"message_bytes_max = {limits.message_bytes_max}",
        f"child_message_bytes_max = {limits.child_message_bytes_max}",
        f"streams_per_member_max = {limits.streams_per_member_max}",
    ]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    # A JSON string is a TOML basic string but for U+007F, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True)
class _Table:
    """A parsed TOML document that can say on which line a dotted key stands."""

    path: Path
    text: str
    document: dict[str, Any]

    def refuse_unknown(self, prefix: str, known: tuple[str, ...]) -> None:
        table = self._section(prefix)
        for key, value in table.items():
            if not (key in known or (prefix == "" and isinstance(value, dict) and key in ("addresses", "limits"))):
                self._refuse(prefix + key, "The key is not known here.", f"Known are {', '.join(known)}.")

    def name(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not value.strip() or len(value) > NAME_CHARS_MAX or not value.isprintable():
            self._refuse(
                key, "The value is not a name.", f"Write 1 to {NAME_CHARS_MAX} printable characters in quotes."
            )
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self._get(key)
        if value not in choices:
            self._refuse(key, "The value is not one of the choices.", f"Write one of {', '.join(choices)}.")
        return str(value)

    def integer(self, key: str, least: int, most: int) -> int:
        value = self._get(key)
        if type(value) is not int or not least <= value <= most:
            self._refuse(key, "The value is out of range.", f"Write a whole number from {least} to {most}.")
        return int(value)

    def address(self, key: str) -> str:
        value = self._get(key)
        try:
            split_address(value if isinstance(value, str) else "")
        except ConfigError as error:
            self._refuse(key, error.what, error.mend)
        return str(value)

    def database(self, key: str) -> str:
        """The URL, or "" when the key is not there."""
        value = self.document.get(key, "")
        if key in self.document and not (isinstance(value, str) and value.startswith(DATABASE_SCHEME)):
            self._refuse(
                key,
                "The value is not the URL of a PostgreSQL database.",
                f'Write it like "{DATABASE_SCHEME}user@host:5432/name", or leave the key out for SQLite.',
            )
        return str(value)

    def _section(self, prefix: str) -> dict[str, Any]:
        table = self.document.get(prefix.rstrip("."), {}) if prefix else self.document
        if not isinstance(table, dict):
            self._refuse(prefix.rstrip("."), "The key is not a table.", f"Write [{prefix.rstrip('.')}].")
        return table

    def _get(self, key: str) -> object:
        section, _, last = key.rpartition(".")
        table = self._section(section + "." if section else "")
        if last not in table:
            self._refuse(key, "The key is missing.", "Add it.")
        return table[last]

    def _refuse(self, key: str, what: str, mend: str) -> NoReturn:
        raise ConfigError(what, where=f"{self.path}, line {self._line(key)}, key {key}", mend=mend)

    def _line(self, key: str) -> int:
        """The line of the key; of its table's header, or the last line, when the key does not stand there."""
        section, _, last = key.rpartition(".")
        here, best = "", 0
        lines = self.text.splitlines()
        for number, line in enumerate(lines, start=1):
            header = re.match(r"\s*\[([^\]]+)\]", line)
            here = header[1].strip() if header else here
            best = number if header and here in (section, key) else best
            if here == section and re.match(rf"\s*[\"']?{re.escape(last)}[\"']?\s*=", line):
                return number
        return best or len(lines)
