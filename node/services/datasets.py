"""A registered dataset, opened: where its file is and what it holds."""

from __future__ import annotations

from pathlib import Path

from consortium.encoding import parse
from consortium.privacy.descriptor import DatasetDescriptor
from node.ports import StoredDataset


def opened(stored: StoredDataset) -> tuple[Path, DatasetDescriptor]:
    """The path and descriptor of a registered dataset."""
    return Path(stored.path), DatasetDescriptor.from_json(parse(stored.descriptor_json.encode()))
