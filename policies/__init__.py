"""What the members agreed, as it ships: Cedar schema and guard policies, sharing templates, incentive schedules."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Final

from consortium.encoding import Json, canonical
from consortium.errors import NotFoundError

TEMPLATES: Final = ("large", "medium", "small")
INCENTIVE_SCHEDULES: Final = ("standard",)


def schema() -> str:
    """The Cedar schema text."""
    return _read("schema.cedarschema")


def guard() -> str:
    """The Cedar text of the guard policies."""
    return _read("guard.cedar")


def template(size: str) -> str:
    """The Cedar text of the sharing policy that an enterprise of a size starts from.

    Raises:
        NotFoundError: the size is not large, medium or small.
    """
    if size not in TEMPLATES:
        raise NotFoundError("There is no such sharing template.", mend=f"Choose one of {', '.join(TEMPLATES)}.")
    return _read(f"templates/{size}.cedar")


def incentive_schedule(name: str) -> dict[str, Json]:
    """An incentive schedule document: integers in basis points (of 10,000), so that canonical JSON can carry it.

    Raises:
        NotFoundError: there is no schedule of that name.
    """
    if name not in INCENTIVE_SCHEDULES:
        raise NotFoundError(
            "There is no such incentive schedule.", mend=f"Choose one of {', '.join(INCENTIVE_SCHEDULES)}."
        )
    document: dict[str, Json] = json.loads(_read(f"incentives/{name}.json"))
    canonical(document)
    return document


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
