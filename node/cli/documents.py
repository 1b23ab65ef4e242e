"""Reads the small documents that a user names on the command line."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.errors import ConfigError, LimitError

if TYPE_CHECKING:
    from consortium.encoding import Json

BYTES_MAX = 1 << 20


def read_document(path: Path) -> Json:
    """A JSON document, or a TOML one if the file's name says so; `-` is JSON on stdin.

    Raises:
        ConfigError: the file is missing, unreadable or does not parse.
        LimitError: it has more than 1 MiB.
    """
    data = sys.stdin.buffer.read(BYTES_MAX + 1) if str(path) == "-" else read_bytes(path, BYTES_MAX)
    if len(data) > BYTES_MAX:
        raise LimitError(f"The document has more than {BYTES_MAX} bytes.", where=str(path))
    try:
        text = data.decode("utf-8")
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise ConfigError("The document is not JSON.", where=place, mend="Correct it there.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("The document does not parse.", where=str(path), mend="Use UTF-8 JSON or TOML.") from error


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """The bytes of a file.

    Raises:
        ConfigError: it cannot be read.
        LimitError: it has more than `bytes_max` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(
            "The file cannot be read.", where=str(path), mend="Check its path and your rights."
        ) from error
    if len(data) > bytes_max:
        raise LimitError(f"The file has more than {bytes_max} bytes.", where=str(path))
    return data


def write_new(path: Path, data: bytes) -> None:
    """Writes a new file.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(
            "The file cannot be written.", where=str(path), mend="Name a new file in a folder that you may write."
        ) from error


def write_private(path: Path, data: bytes) -> None:
    """Writes a new file that only its owner can read.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(
            "The file cannot be written.", where=str(path), mend="Name a new file in a folder that you may write."
        ) from error
