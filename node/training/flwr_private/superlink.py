"""Flower's SuperLink inside this process: its ASGI application and its state, without its Control API."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from zipfile import BadZipFile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab as FabProto
from flwr.supercore.auth.typing import AccountInfo
from flwr.supercore.error import FlowerError
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.servicer.control import control_handlers

from node.training.ports import TrainingError

_TRANSPORT = "grpc-rere"


class SuperLink:
    """The SuperLink's application and the few things that its owner does with it.

    Attributes:
        application: the ASGI application with every API of Flower; expose it through a path filter only.
    """

    def __init__(self, database: str) -> None:
        self.application: Any = create_app(_configuration(database), SuperLinkLifespan)
        self._state = self.application.state.linkstate_factory.state()
        self._account = AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

    def register(self, public_key: bytes) -> int:
        """Admits a SuperNode by its EC public key (DER SubjectPublicKeyInfo); returns its node id. Idempotent."""
        pem = _pem(public_key)
        known = self._state.get_node_id_by_public_key(pem)
        if known is not None:
            return int(known)
        return int(
            self._state.create_node(
                owner_aid=self._account.flwr_aid,
                owner_name=self._account.account_name,
                public_key=pem,
                heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL,
            )
        )

    def online(self, public_keys: Sequence[bytes]) -> tuple[bytes, ...]:
        """Those of the keys whose SuperNodes are connected."""
        by_id = {self._state.get_node_id_by_public_key(_pem(key)): key for key in public_keys}
        nodes = self._state.get_node_info(node_ids=[node for node in by_id if node is not None])
        return tuple(by_id[node.node_id] for node in nodes if node.status == "online")

    def start_run(self, fab: bytes) -> tuple[int, str]:
        """Creates a run of an app and claims its ServerApp task; returns the run's id and the task's token.

        Raises:
            TrainingError: Flower refuses the app.
        """
        request = StartRunRequest(fab=FabProto(content=fab), federation="")
        try:
            run_id = control_handlers.start_run(request, self._account, self._state, _TRANSPORT).run_id
        except (FlowerError, BadZipFile, ValueError, KeyError, TypeError) as error:
            raise TrainingError("Flower refuses the app.", where="FAB", mend="Build it anew.") from error
        run = self._state.get_run_info(run_ids=[run_id])[0]
        token = self._state.claim_task(run.primary_task_id)
        assert token is not None, "nobody else claims tasks here"
        return run_id, token

    def stop_run(self, run_id: int) -> None:
        """Ends a run and deletes its messages; a run that has ended already stays as it is."""
        self._state.stop_run(run_id)


def _configuration(database: str) -> SuperLinkLifespanConfig:
    return SuperLinkLifespanConfig(
        control_address="127.0.0.1:0",
        health_server_address=None,
        host="127.0.0.1",
        port=0,
        insecure=False,
        certificates=None,
        superexec_auth_secret=secrets.token_bytes(32),
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=_TRANSPORT,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=database,
        isolation="process",
        runtime_dependency_install=False,
    )


def _pem(public_key: bytes) -> bytes:
    """Flower's spelling of a node's key: PEM of the SubjectPublicKeyInfo."""
    try:
        key = serialization.load_der_public_key(public_key)
    except ValueError as error:
        raise TrainingError("A SuperNode's key is not a public key.", where="flower_key", mend="Enrol anew.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TrainingError("A SuperNode's key is not an EC key.", where="flower_key", mend="Enrol anew.")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
