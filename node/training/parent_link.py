"""A child's private channel to the process that started it: JSON lines on stdin and stdout; end of file ends the child.

Call `adopt` first. It takes the two streams away from everybody else in the process: what Flower or an app prints
goes nowhere, what our own code and Flower log goes to the log file that the parent put on stderr.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from node.training.ports import TrainingError

REQUIRED_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_GRACE_SECONDS = 3.0


class ParentLink:
    """The two ends of the channel, and the configuration that came as its first line."""

    def __init__(self, commands: TextIO, events: TextIO, log_descriptor: int) -> None:
        self.log_descriptor = log_descriptor
        self._commands = commands
        self._events = events
        self._sending = threading.Lock()
        first = commands.readline()
        if not first:
            raise SystemExit(0)  # the parent has gone before it had anything for us
        self.config: dict[str, Any] = json.loads(first)

    def send(self, event: dict[str, Any]) -> None:
        """One event to the parent. A parent that has gone takes no events: end of file ends us anyway."""
        with self._sending:
            try:
                self._events.write(json.dumps(event) + "\n")
                self._events.flush()
            except BrokenPipeError:
                logging.getLogger("node").warning("the parent has gone")

    def commands(self) -> Iterator[dict[str, Any]]:
        """The parent's commands until it closes the channel or dies."""
        for line in self._commands:
            yield json.loads(line)

    def follow(self, handle: Callable[[dict[str, Any]], None]) -> None:
        """Handles commands in a thread; when the channel closes, ends this process, by force after 3 s."""

        def read() -> None:
            for command in self.commands():
                handle(command)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_SECONDS)
            os._exit(1)

        threading.Thread(target=read, name="parent-link", daemon=True).start()


def adopt() -> ParentLink:
    """Takes over stdin, stdout and stderr and reads the configuration.

    Raises:
        TrainingError: the parent did not switch off Flower's telemetry, update check and installations.
    """
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    log = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    sys.stderr = log
    logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for handler in logging.getLogger("flwr").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(log)
    logging.getLogger("flwr").propagate = False
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for name, value in REQUIRED_ENVIRONMENT.items():
        if os.environ.get(name) != value:
            raise TrainingError("Flower would call home.", where=name, mend=f"Start the child with {name}={value}.")
    return ParentLink(commands, events, log.fileno())


@contextmanager
def silence() -> Iterator[None]:
    """Drops what an app prints or logs: it may hold data, and a log is no place for data."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
