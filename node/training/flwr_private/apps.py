"""Flower apps as files: building a bundle (FAB), unpacking it, loading its components."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import click
from flwr.cli.build import build_fab_from_disk
from flwr.cli.install import install_from_fab
from flwr.common.config import get_fused_config_from_dir, get_project_config
from flwr.supercore.object_ref import load_app
from flwr.supercore.task_identity import TaskIdentity

from node.training.ports import TrainingError


class AppError(TrainingError):
    """A Flower app that cannot be unpacked, configured or loaded."""

    code = "app-invalid"


def build_fab(app_dir: Path) -> bytes:
    """The Flower app in a folder as the bytes of a FAB; the same files give the same bytes.

    Raises:
        AppError: Flower refuses the app's configuration.
    """
    try:
        return build_fab_from_disk(app_dir)
    except (ValueError, OSError, click.ClickException) as error:
        raise AppError("Flower cannot build the app.", where=app_dir.name, mend=str(error)) from error


def unpack(fab: bytes, folder: Path) -> Path:
    """Unpacks a FAB below an empty folder and returns the app's own folder; paths and hashes are checked by Flower.

    Raises:
        AppError: the bytes are not a FAB.
    """
    try:
        return Path(install_from_fab(fab, install_dir=folder, skip_prompt=True))
    except (BadZipFile, ValueError, KeyError, OSError, click.ClickException) as error:
        raise AppError("The bytes are not a Flower app.", where="FAB", mend="Build it anew.") from error


def run_config(app: Path, overrides: Mapping[str, bool | int | str]) -> dict[str, Any]:
    """The app's own configuration with a job's values in place of its defaults.

    Raises:
        AppError: a value for a key that the app does not have.
    """
    try:
        return dict(get_fused_config_from_dir(app, dict(overrides)))
    except (ValueError, KeyError) as error:
        raise AppError(
            "The job sets a value that the app does not have.", where="run_config", mend="See its pyproject.toml."
        ) from error


def load(app: Path, component: str) -> Any:
    """The `clientapp` or `serverapp` object of an unpacked app. Code of the app runs: approve it first."""
    reference = get_project_config(app)["tool"]["flwr"]["app"]["components"][component]
    return load_app(reference, AppError, app)


def unload(app: Path) -> None:
    """Forgets the modules of an app, so that another app's of the same name are not taken for its own."""
    inside = str(app)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(inside + "/"):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry != inside]
    importlib.invalidate_caches()


def identify(run_id: int, node_id: int) -> None:
    """Tells Flower whose messages this process makes: one run per process at a time."""
    TaskIdentity.task_id = 0
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id
