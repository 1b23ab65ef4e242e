"""The node's log: JSON lines in `HOME/logs/node.log`, for the operator of this machine only.

A line carries an event name and fields from an allow-list whose patterns admit ids, codes, sizes and indices. Values of
data and secrets have no field to stand in. An unexpected exception is logged by its type and the places it passed
through, never by its text, which may quote what it choked on.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from consortium.errors import ConsortiumError

FILE_BYTES_MAX = 10 << 20
FILES_KEPT = 5
TYPES_MAX = 8
PLACES_MAX = 40
WORDS_MAX = 300

_HEX = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{4}(-[0-9a-f]{4}){7}")
_CODE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_METHOD = re.compile(r"/[A-Za-z0-9.]{1,80}/[A-Za-z0-9]{1,40}")
_EVENT = re.compile(r"[a-z][a-z-]*(\.[a-z][a-z-]*){1,3}")
_WORDS = re.compile(r"[^\x00-\x1f]{0,300}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,31}")

TEXT_FIELDS: Mapping[str, re.Pattern[str]] = {
    # who and what, by id
    "member": _HEX,
    "job": _HEX,
    "entry": _HEX,
    "digest": _HEX,
    "spki_sha256": _HEX,
    "fingerprint": _FINGERPRINT,
    # what happened, by code
    "code": _CODE,
    "kind": _CODE,
    "phase": _CODE,
    "state": _CODE,
    "child": _CODE,
    "method": _METHOD,
    "version": _VERSION,
    # a refusal's own words, by log_refusal
    "what": _WORDS,
    "where": _WORDS,
}
NUMBER_FIELDS = frozenset(
    {"index", "round", "size", "count", "bytes", "port", "pid", "exit_code", "elapsed_ms", "attempt", "members"}
)
EXPLANATIONS: Mapping[str, str] = {
    "rpc.not-admitted": "A caller holds a certificate of this consortium's CA, but its key is not that of an admitted "
    "member. If it should be one, its enrolment was not admitted yet, or it uses an old key.",
    "rpc.denied": "A caller asked for a call that this listener does not serve to it.",
    "rpc.failed": "A call ended in a fault of ours; the caller saw only INTERNAL.",
    "tls.certificate-missing": "A caller came without a client certificate; a member gets one by `consortium join`.",
    "tls.certificate-foreign": "A caller showed a certificate that this consortium's CA did not issue, or one that is "
    "not valid now; most likely it belongs to another consortium.",
    "tls.server-refused": "A caller did not accept our certificate; most likely it belongs to another consortium.",
    "tls.malformed": "A caller did not speak TLS.",
}

_LOGGER = logging.getLogger("consortium.node")
_LOGGER.setLevel(logging.INFO)
_LOGGER.propagate = False
_LOGGER.addHandler(logging.NullHandler())


def open_log(folder: Path) -> None:
    """Writes every event from now on to `folder/node.log`, rotating at 10 MiB, five old files kept."""
    close_log()
    handler = RotatingFileHandler(
        folder / "node.log", maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.addHandler(handler)


def close_log() -> None:
    """Ends what `open_log` began."""
    for handler in [handler for handler in _LOGGER.handlers if isinstance(handler, RotatingFileHandler)]:
        _LOGGER.removeHandler(handler)
        handler.close()


def log(event: str, **fields: str | int | None) -> None:
    """Writes one event; ids in hex, everything else as a code or a number. A field of None is left out.

    A field that the allow-list does not know, or whose value does not match it, is our bug (AssertionError).
    """
    assert _EVENT.fullmatch(event), "an event is named like rpc.refused"
    known = {name: value for name, value in fields.items() if value is not None}
    for name, value in known.items():
        _check(name, value)
    _write(event, known)


def log_refusal(event: str, error: ConsortiumError, **fields: str | int | None) -> None:
    """Writes a refusal with its own words, which by the contract of `consortium.errors` hold no value of data."""
    log(event, code=error.code, **fields, what=error.what[:WORDS_MAX], where=error.where[:WORDS_MAX])


def log_exception(event: str, error: BaseException, *, method: str | None = None) -> None:
    """Writes an unexpected exception: the types along its chain of causes, and its stack as file, line, function."""
    assert _EVENT.fullmatch(event), "an event is named like rpc.failed"
    if method is not None:
        _check("method", method)
    types: list[str] = []
    places: list[str] = []
    current: BaseException | None = error
    while current is not None and len(types) < TYPES_MAX:
        types.append(f"{type(current).__module__}.{type(current).__qualname__}")
        places += [
            f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__)
        ]
        current = current.__cause__ or current.__context__
    _write(event, {"types": types, "stack": places[-PLACES_MAX:]} | ({"method": method} if method else {}))


def _check(name: str, value: str | int) -> None:
    if name in NUMBER_FIELDS:
        assert type(value) is int, f"log field {name} is a whole number"
    else:
        assert name in TEXT_FIELDS, f"log field {name} is not on the allow-list"
        assert isinstance(value, str), f"log field {name} is a text"
        assert TEXT_FIELDS[name].fullmatch(value), f"log field {name} does not match its pattern"


def _write(event: str, fields: Mapping[str, object]) -> None:
    line: dict[str, object] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    if event in EXPLANATIONS:
        line["explanation"] = EXPLANATIONS[event]
    _LOGGER.info("%s", json.dumps(line, ensure_ascii=False))
