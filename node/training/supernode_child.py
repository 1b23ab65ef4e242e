"""The process of a member's Flower SuperNode and of the apps that it runs. It opens no port and holds no ledger key."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow.lib import array

from node.training.executor import Executor
from node.training.flwr_private import supernode
from node.training.parent_link import adopt
from node.training.ports import Trainer

_TAKE_PAUSE = 0.02
_SOFTWARE_ERROR = 70
_log = logging.getLogger("node.training.supernode")


def main(connect_trainer: Callable[[], Trainer]) -> None:
    """Runs until the parent closes the channel, a signal comes, or the SuperLink refuses or loses us."""
    link = adopt()
    config = link.config
    mailbox = supernode.Mailbox()
    executor = Executor(connect_trainer(), Path(config["home"]))

    def command(value: dict[str, Any]) -> None:
        if value["do"] == "forget":
            executor.forget(bytes.fromhex(value["job"]))

    link.follow(command)
    threading.Thread(target=_execute, args=(mailbox, executor), name="executor", daemon=True).start()
    link.send({"event": "ready"})
    supernode.serve(mailbox, config["superlink"], Path(config["ca_file"]), Path(config["key_file"]))


def _execute(mailbox: supernode.Mailbox, executor: Executor) -> None:
    """Answers messages for ever. A bug of ours ends the process; the parent starts a fresh one."""
    array([0.0]).to_numpy()  # pyarrow imports pandas at its first conversion, 1 s: now, not in the first round
    try:
        while True:
            delivery = mailbox.take()
            if delivery is None:
                time.sleep(_TAKE_PAUSE)
            else:
                mailbox.answer(executor.handle(delivery))
    except BaseException:  # noqa: BLE001 the process ends
        _log.exception("the executor failed")
        os._exit(_SOFTWARE_ERROR)
