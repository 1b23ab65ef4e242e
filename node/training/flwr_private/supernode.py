"""Flower's SuperNode in this process, and its inbox and outbox for our executor in place of its own ClientApp runner.

With `isolation="process"` the SuperNode leaves messages for an executor to come and fetch. Ours is a thread of the
same process that takes them from the SuperNode's in-memory state: no socket is opened for it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.supercore.inflatable import inflatable_object as inflatable
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.object_store.object_store import NoObjectInStoreError
from flwr.supernode import start_client_internal as supernode_module
from flwr.supernode.nodestate import NodeStateFactory

from node.training.flwr_private.pulls import quicken_object_pulls
from node.training.ports import TrainingError

_PULL_SECONDS = 3
_BUSY_PAUSE = 0.05
_IDLE_PAUSE = 1.0
_BUSY_FOR = 20.0
_REPLY_PAUSE = 0.02
_OBJECT_PAUSE = 0.01
_OBJECTS_DEADLINE = 60.0
_log = logging.getLogger("node.training.mailbox")


@dataclass(frozen=True)
class Delivery:
    """One message for the app, with the FAB that Flower says it belongs to."""

    message: Message
    fab: bytes
    run_id: int
    node_id: int


class Mailbox:
    """The messages that a SuperNode has fetched, and the replies that it shall send."""

    def __init__(self) -> None:
        self.factory = NodeStateFactory(ObjectStoreFactory())
        self._state = self.factory.state()
        self._store = self._state.object_store
        self.touched = 0.0

    def take(self) -> Delivery | None:
        """The next message, complete with its arrays, or None; one whose arrays do not arrive in 60 s is dropped."""
        waiting = self._state.get_messages_legacy(is_reply=False, limit=1)
        if not waiting:
            return None
        self.touched = time.monotonic()
        stub: Message = waiting[0]
        contents = self._contents(stub.metadata.message_id)
        run = self._state.get_run(stub.metadata.run_id)
        fab = self._state.get_fab(run.fab_hash) if run else None
        if contents is None or fab is None:
            return None
        message = inflatable_utils.inflate_object_from_contents(stub.metadata.message_id, contents)
        assert isinstance(message, Message)
        message.metadata.__dict__["_message_id"] = stub.metadata.message_id
        self._state.record_message_processing_start(stub.metadata.message_id)
        self._store.delete(stub.metadata.message_id)
        return Delivery(message, fab.content, stub.metadata.run_id, self._state.get_node_id())

    def answer(self, reply: Message) -> None:
        """Hands a reply to the SuperNode: first all its objects, then the message that makes it look for them."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with inflatable.no_object_id_recompute():
            self._store.preregister(reply.metadata.run_id, inflatable.get_object_tree(reply))
            for object_id, content in inflatable.get_all_nested_objects(reply).items():
                self._store.put(object_id, content.deflate())
            self._state.record_message_processing_end(reply.metadata.reply_to_message_id)
            self._state.store_message(reply)
        self.touched = time.monotonic()

    def _contents(self, message_id: str) -> dict[str, bytes] | None:
        """The objects of a message; None when Flower has dropped it meanwhile."""
        deadline = time.monotonic() + _OBJECTS_DEADLINE
        while time.monotonic() < deadline:
            try:
                tree = self._store.get_object_tree(message_id)
            except NoObjectInStoreError:
                return None
            identifiers = [node.object_id for node in inflatable.iterate_object_tree(tree)]
            contents = {key: content for key in identifiers if (content := self._store.get(key))}
            if len(contents) == len(set(identifiers)):
                return contents
            time.sleep(_OBJECT_PAUSE)
        _log.warning("the arrays of a message did not arrive")
        return None


def serve(mailbox: Mailbox, address: str, ca_file: Path, key_file: Path) -> None:
    """Runs Flower's SuperNode in this, the main, thread until a signal or a lost connection ends it."""
    key = load_key(key_file)
    _quicken(mailbox)
    supernode_module.start_client_internal(
        state_factory=mailbox.factory,
        server_address=address,
        node_config={},
        root_certificates=ca_file.read_bytes(),
        insecure=False,
        authentication_keys=(key, key.public_key()),
        isolation="process",
        runtime_dependency_install=False,
    )


def load_key(key_file: Path) -> ec.EllipticCurvePrivateKey:
    """The SuperNode's EC private key, in OpenSSH format (as Flower's own tools write it) or PKCS#8 PEM."""
    data = key_file.read_bytes()
    is_ssh = data.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    key = load(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrainingError("The Flower key is not an EC key.", where=key_file.name, mend="Generate a P-384 key.")
    return key


def _quicken(mailbox: Mailbox) -> None:
    """Shortens Flower's hard-coded waits: 3 s between pulls, 0.5 s for a reply, 1 s for an object."""

    def pause(seconds: float) -> None:
        if seconds < _PULL_SECONDS:
            time.sleep(_REPLY_PAUSE)
        else:
            busy = time.monotonic() - mailbox.touched < _BUSY_FOR
            time.sleep(_BUSY_PAUSE if busy else _IDLE_PAUSE)

    setattr(supernode_module, "time", SimpleNamespace(sleep=pause))  # noqa: B010 mypy: a module takes no value
    quicken_object_pulls()
