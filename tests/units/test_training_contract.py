"""What each private import of Flower must still be like; a failure names the import to look at after an upgrade."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "node" / "training"
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Flower's own imports

# Every private name and what must be among its parameters (None: it is a value).
CONTRACT: dict[tuple[str, str], set[str] | None] = {
    ("flwr.cli.build", "build_fab_from_disk"): {"app"},
    ("flwr.cli.install", "install_from_fab"): {"fab_file", "install_dir", "skip_prompt"},
    ("flwr.common.config", "get_fused_config_from_dir"): {"project_dir", "override_config"},
    ("flwr.common.config", "get_project_config"): {"project_dir"},
    ("flwr.common.constant", "HEARTBEAT_DEFAULT_INTERVAL"): None,
    ("flwr.common.constant", "NOOP_ACCOUNT_NAME"): None,
    ("flwr.common.constant", "NOOP_FLWR_AID"): None,
    ("flwr.common.serde", "context_from_proto"): {"context_proto"},
    ("flwr.common.serde", "fab_from_proto"): {"fab"},
    ("flwr.common.serde", "run_from_proto"): {"run_proto"},
    ("flwr.proto.control_pb2", "StartRunRequest"): None,
    ("flwr.proto.fab_pb2", "Fab"): None,
    ("flwr.proto.runtime_pb2", "PullTaskInputRequest"): None,
    ("flwr.proto.runtime_pb2", "PushTaskOutputRequest"): None,
    ("flwr.proto.runtime_pb2", "SendTaskHeartbeatRequest"): None,
    ("flwr.supercore.auth.typing", "AccountInfo"): {"flwr_aid", "account_name"},
    ("flwr.supercore.error", "FlowerError"): set(),
    ("flwr.supercore.heartbeat", "HeartbeatSender"): {"heartbeat_fn"},
    ("flwr.supercore.inflatable", "inflatable_object"): None,
    ("flwr.supercore.inflatable", "inflatable_utils"): None,
    ("flwr.supercore.object_ref", "load_app"): {"module_attribute_str", "error_type", "project_dir"},
    ("flwr.supercore.object_store", "ObjectStoreFactory"): set(),
    ("flwr.supercore.object_store.object_store", "NoObjectInStoreError"): set(),
    ("flwr.supercore.task_identity", "TaskIdentity"): None,
    ("flwr.superlink.auth_plugin", "NoOpControlAuthnPlugin"): set(),
    ("flwr.superlink.cli.flower_superlink", "SuperLinkLifespan"): {"config", "state_factory"},
    ("flwr.superlink.config_loader", "SuperLinkLifespanConfig"): {"enable_supernode_auth", "isolation", "database"},
    ("flwr.superlink.grid", "HttpGrid"): {"runtime_api_address", "insecure", "token"},
    ("flwr.superlink.main", "create_app"): {"config", "superlink_lifespan_class"},
    ("flwr.superlink.servicer.control", "control_handlers"): None,
    ("flwr.supernode", "start_client_internal"): None,
    ("flwr.supernode.nodestate", "NodeStateFactory"): {"objectstore_factory"},
}


def private_imports(path: Path) -> set[tuple[str, str]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            found |= {(str(node.module), alias.name) for alias in node.names if node.module not in PUBLIC}
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "flwr"}
    return found


def test_every_private_import_is_in_the_adapter_and_has_a_contract() -> None:
    adapter = {name for path in (TRAINING / "flwr_private").glob("*.py") for name in private_imports(path)}
    assert adapter == set(CONTRACT)
    others = [path for path in (ROOT / "node").rglob("*.py") if path.parent.name != "flwr_private"]
    assert [path for path in others if private_imports(path)] == []


def test_flower_is_the_version_whose_source_was_read() -> None:
    assert version("flwr") == "1.41.0"


@pytest.mark.parametrize(
    ("where", "parameters"), CONTRACT.items(), ids=lambda value: ".".join(sorted(value)) if value else ""
)
def test_a_private_name_exists_with_the_parameters_that_we_pass(
    where: tuple[str, str], parameters: set[str] | None
) -> None:
    module, name = where
    found = getattr(import_module(module), name, None) or import_module(f"{module}.{name}")
    if parameters is not None:
        assert parameters <= set(inspect.signature(found).parameters)


def test_the_supernode_waits_by_the_sleep_of_its_modules_time_for_3_and_half_a_second() -> None:
    from flwr.supernode import start_client_internal as module

    tree = ast.parse(inspect.getsource(module))
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "time"]
    assert {use.attr for use in uses} == {"sleep"}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "time.sleep"]
    assert sorted(ast.unparse(call.args[0]) for call in calls) == ["0.5", "0.5", "3"]
    parameters = inspect.signature(module.start_client_internal).parameters
    assert {"state_factory", "authentication_keys", "isolation", "root_certificates"} <= set(parameters)


def test_pulls_of_objects_back_off_from_a_keyword_default() -> None:
    from flwr.supercore.inflatable import inflatable_utils

    assert "initial_backoff" in (inflatable_utils.pull_objects.__kwdefaults__ or {})


def test_the_node_state_has_the_methods_that_the_mailbox_uses() -> None:
    from node.training.flwr_private.supernode import Mailbox

    mailbox = Mailbox()
    assert mailbox.take() is None
    for name in ("get_run", "get_fab", "get_node_id", "record_message_processing_start", "store_message"):
        assert callable(getattr(mailbox._state, name))


def test_the_fleet_and_runtime_paths_that_are_exposed_exist_in_flower() -> None:
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

    from node.training.superlink_child import FLEET_PATHS, RUNTIME_PATHS

    known = {path for _, path in PROTOBUF_REQUEST_TYPES}
    assert FLEET_PATHS - {"/health"} <= known
    assert known >= RUNTIME_PATHS
    assert "/v1/fleet/register-node" not in FLEET_PATHS
    assert "/v1/runtime/acquire-task" not in RUNTIME_PATHS


def test_a_superlink_registers_a_node_once_and_refuses_what_is_no_ec_key() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from node.training.flwr_private.superlink import SuperLink
    from node.training.ports import TrainingError

    superlink = SuperLink(":flwr-in-memory:")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*form)
    assert superlink.register(key) == superlink.register(key)
    assert superlink.online([key]) == ()
    for bad in (b"no key", ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*form)):
        with pytest.raises(TrainingError):
            superlink.register(bad)
    with pytest.raises(TrainingError):
        superlink.start_run(b"no FAB")


def test_the_parents_side_never_imports_flower() -> None:
    code = (
        "import sys, node.training.supervisor, node.training.ports, node.training.fixed_point\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('flwr', 'duckdb', 'sklearn', 'uvicorn')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
