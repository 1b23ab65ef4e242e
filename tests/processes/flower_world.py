"""What the Flower tests stand on: a fake of the nodes behind the children, certificates, keys, an app with canaries.

Run as a program it is the children's entry point, with the parent's fakes behind a socket.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import ipaddress
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from consortium.errors import ConsortiumError
from node.training.ports import Begin, Outcome, Plan, RoundSum, Words

ROOT = Path(__file__).parents[2]
NAME = "tests.processes.flower_world"


class FakeError(ConsortiumError):
    code = "fake-refused"


def all_members(_seed: bytes, _round: int, members: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(members)


class Remote:
    """Either port over a multiprocessing connection: a call is a tuple, an answer a value or an error."""

    def __init__(self, address: str, who: str) -> None:
        self._connection = Client(address, family="AF_UNIX")
        self._connection.send(who)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self._connection.send((name, arguments, named))
            good, value = self._connection.recv()
            if not good:
                raise FakeError("The fake refuses.")
            return value

        return call


@dataclass
class World:
    """The members' and the coordinator's nodes: fixed masks that cancel, so that a sum is a sum of masked vectors."""

    members: Sequence[bytes]
    plan: Plan
    table: bytes
    permitted: bytes
    begun: list[tuple[bytes, int, bool]] = field(default_factory=list)
    opened: list[tuple[int, int, bytes]] = field(default_factory=list)
    sums: dict[int, dict[bytes, Words]] = field(default_factory=dict)
    plain: dict[tuple[bytes, int], Words] = field(default_factory=dict)
    outcome: Outcome | None = None
    survivors_min: int = 2
    changed: threading.Condition = field(default_factory=threading.Condition)

    def begin(
        self, member: bytes, job: bytes, round_number: int, digest: bytes, model: bytes, *, needs_data: bool
    ) -> Begin:
        self._note(lambda: self.begun.append((member, round_number, needs_data)))
        if digest != self.permitted:
            return Begin(False, "app-not-approved")
        return Begin(True, data=self.table if needs_data else None, plan=self.plan)

    def mask(self, member: bytes, job: bytes, round_number: int, model: bytes, vector: Words) -> Words:
        self.plain[member, round_number] = vector
        assert (round_number, model) in [(number, digest) for number, _, digest in self.opened]
        return vector + self._mask(member, round_number, len(vector))

    def open(self, job: bytes, round_number: int, roster: Sequence[bytes], model: bytes, length: int) -> None:
        self._note(lambda: self.opened.append((round_number, length, model)))

    def sum(self, job: bytes, round_number: int, masked: Mapping[bytes, Words]) -> RoundSum:
        self._note(lambda: self.sums.update({round_number: dict(masked)}))
        if len(masked) < self.survivors_min:
            raise FakeError("Too few.")
        parts = [value - self._mask(member, round_number, len(value)) for member, value in masked.items()]
        return RoundSum(np.sum(parts, axis=0, dtype=np.uint32), tuple(sorted(masked)))

    def finish(self, job: bytes, outcome: Outcome) -> None:
        self.outcome = outcome

    def _note(self, change: Any) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def _mask(self, member: bytes, round_number: int, length: int) -> Words:
        seed = int.from_bytes(hashlib.sha256(member + bytes([round_number])).digest()[:8], "big")
        return np.random.default_rng(seed).integers(0, 2**32, length, dtype=np.uint32)


class Switchboard:
    """Serves a world to its children."""

    def __init__(self, world: World, address: Path) -> None:
        self._world = world
        self.address = str(address)
        self._listener = Listener(self.address, family="AF_UNIX")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection[Any, Any]) -> None:
        try:
            who = connection.recv()
            while True:
                name, arguments, named = connection.recv()
                if who != "coordinator":
                    arguments = (bytes.fromhex(who), *arguments)
                try:
                    connection.send((True, getattr(self._world, name)(*arguments, **named)))
                except ConsortiumError:
                    connection.send((False, None))
        except (EOFError, ConnectionError):
            connection.close()


def command(role: str, switchboard: Switchboard, who: str) -> list[str]:
    """What runs this module as a child, with the code of this checkout and no other."""
    start = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module({NAME!r}, run_name='__main__')"
    return [sys.executable, "-c", start, role, switchboard.address, who]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for 127.0.0.1 and its key, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "superlink")])
    today = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "tls.pem", folder / "tls.key"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(_private_pem(key))
    return cert_file, key_file


def flower_key(path: Path) -> bytes:
    """Writes a fresh P-384 key and returns its public half in DER."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(_private_pem(key))
    path.chmod(0o600)
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _private_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def turbine_table(rows: int, seed: int) -> bytes:
    """An Arrow IPC stream of a plausible power curve with missing values."""
    import pyarrow as pa

    random = np.random.default_rng(seed)
    wind = random.uniform(0, 20, rows)
    power = 2000 / (1 + np.exp(-(wind - 9))) + random.normal(0, 20, rows)
    power[::50] = np.nan
    columns = {"P_avg": power, "Ws_avg": wind}
    columns |= {name: random.normal(0, 1, rows) for name in ("Ba_avg", "Va_avg", "Ot_avg")}
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


if __name__ == "__main__":
    role, address, who = sys.argv[1:]
    if role == "superlink":
        from node.training import superlink_child

        superlink_child.main()
    elif role == "serverapp":
        from node.training import serverapp_child

        serverapp_child.main(lambda: Remote(address, who), all_members)
    else:
        from node.training import supernode_child

        supernode_child.main(lambda: Remote(address, who))
