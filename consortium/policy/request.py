"""What a policy engine is asked: one member's request for one dataset, every number an integer, nothing read inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from consortium.encoding import Json, digest_of
from consortium.errors import RequestError

RUN_ACTIONS: Final = ("statistic", "fl_train", "evaluate")
RELEASE: Final = "release"
PRIVACY_MODES: Final = ("dp", "exact_training")
SIZES: Final = ("large", "medium", "small", "neutral")

INTEGER_MAX: Final = (1 << 53) - 1
SECONDS_MAX: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that an RFC 3339 date can name
NAME_CHARACTERS_MAX: Final = 128
NAMES_MAX: Final = 256
_HEX_256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Requester:
    """The member that asks: its key id (64 hex digits), sector and size (large, medium, small; neutral: no enterprise).

    Raises:
        RequestError: a field is not of that form.
    """

    member: str
    sector: str
    size: str

    def __post_init__(self) -> None:
        _check_digest("member", self.member)
        _check_name("sector", self.sector)
        if self.size not in SIZES:
            raise _refusal("size", "It is large, medium, small or neutral.")


@dataclass(frozen=True)
class DatasetAttributes:
    """What a policy may know of a dataset: its offer, never its rows.

    Attributes:
        name: the dataset's name at its node.
        columns: the offered columns.
        sector: the sector of the data.
        grade: core, important or general (GB/T 43697-2024); any other grade is refused by a guard policy.
        apps: SHA-256 hex digests of the apps that this node's steward approved.
        approver: who answers for sharing data of grade important; "" if nobody was named.
        risk_assessment: SHA-256 hex of the risk assessment of data of grade important; "" if there is none.

    Raises:
        RequestError: a field is not of that form.
    """

    name: str
    columns: tuple[str, ...]
    sector: str
    grade: str
    apps: tuple[str, ...] = ()
    approver: str = ""
    risk_assessment: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "sector", "grade"):
            _check_name(field, getattr(self, field))
        _check_names("columns", self.columns)
        _check_names("apps", self.apps)
        for digest in self.apps:
            _check_digest("apps", digest)
        if self.approver != "":
            _check_name("approver", self.approver)
        if self.risk_assessment != "":
            _check_digest("risk_assessment", self.risk_assessment)


@dataclass(frozen=True)
class AuthorisationRequest:
    """One question to a policy. Asked twice a job: before it runs, and before the masked vector leaves (`release`).

    Attributes:
        requester: who asks.
        action: statistic, fl_train or evaluate on declared values; release on the actual ones.
        dataset: the dataset's name.
        purpose: the declared purpose.
        columns: columns to read; at release those really read.
        measures: what is computed of them, for example "mean".
        privacy: "dp", or "exact_training" (no noise; spends an unbounded amount).
        epsilon_milli: epsilon of the whole job in thousandths; 0 in exact training.
        rho_micro: zCDP rho in millionths that this run costs this dataset; at release, the amount really reserved.
        rho_micro_left: what the account holds before the reservation; at release, after it.
        members: members of the roster whose fingerprint this node's steward accepted.
        members_min: the least number of vectors that a sum may have.
        cohort: the least number of local rows that the job asks for; at release, the rows really used.
        secure_aggregation: only a masked vector leaves the node.
        app: SHA-256 hex of the app that would run; "" for a statistic.
        now: seconds since 1970-01-01T00:00:00Z by this node's clock, recorded with the request.
        declared: at release, the request that was permitted to run; None otherwise.

    Raises:
        RequestError: a field has a wrong type or range, or `declared` is missing, superfluous or of another job.
    """

    requester: Requester
    action: str
    dataset: str
    purpose: str
    columns: tuple[str, ...]
    measures: tuple[str, ...]
    privacy: str
    epsilon_milli: int
    rho_micro: int
    rho_micro_left: int
    members: int
    members_min: int
    cohort: int
    secure_aggregation: bool
    app: str
    now: int
    declared: AuthorisationRequest | None = None

    def __post_init__(self) -> None:
        _check_name("dataset", self.dataset)
        _check_name("purpose", self.purpose)
        _check_names("columns", self.columns)
        _check_names("measures", self.measures)
        for field in ("epsilon_milli", "rho_micro", "rho_micro_left", "members", "members_min", "cohort"):
            _check_integer(field, getattr(self, field), INTEGER_MAX)
        _check_integer("now", self.now, SECONDS_MAX)
        if self.app != "":
            _check_digest("app", self.app)
        if type(self.secure_aggregation) is not bool:
            raise _refusal("secure_aggregation", "It is true or false.")
        if self.privacy not in PRIVACY_MODES:
            raise _refusal("privacy", "It is dp or exact_training.")
        if self.privacy == "exact_training" and (self.epsilon_milli or self.rho_micro):
            raise _refusal(
                "privacy", "Exact training has no epsilon and no rho: send 0, and record the spend unbounded."
            )
        self._check_declared()

    @property
    def kind(self) -> str:
        """The kind of job: the action that runs, also at its release."""
        return self.action if self.declared is None else self.declared.action

    def document(self) -> dict[str, Json]:
        """The recorded form, for canonical JSON; columns and measures are sets, so sorted and without repeats."""
        return {
            "action": self.action,
            "app": self.app,
            "cohort": self.cohort,
            "columns": sorted(set(self.columns)),
            "dataset": self.dataset,
            "declared": None if self.declared is None else self.declared.document(),
            "epsilon_milli": self.epsilon_milli,
            "measures": sorted(set(self.measures)),
            "members": self.members,
            "members_min": self.members_min,
            "now": self.now,
            "privacy": self.privacy,
            "purpose": self.purpose,
            "requester": {
                "member": self.requester.member,
                "sector": self.requester.sector,
                "size": self.requester.size,
            },
            "rho_micro": self.rho_micro,
            "rho_micro_left": self.rho_micro_left,
            "secure_aggregation": self.secure_aggregation,
        }

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of `document()`, in hex."""
        return digest_of(self.document())

    def _check_declared(self) -> None:
        if self.action == RELEASE:
            if self.declared is None or self.declared.action == RELEASE:
                raise _refusal("declared", "A release carries the request that was permitted to run.")
            if (self.declared.requester, self.declared.dataset) != (self.requester, self.dataset):
                raise _refusal("declared", "A release is of the requester and dataset that were permitted to run.")
        elif self.action not in RUN_ACTIONS:
            raise _refusal("action", "It is statistic, fl_train, evaluate or release.")
        elif self.declared is not None:
            raise _refusal("declared", "Only a release carries an earlier request.")


def _refusal(field: str, mend: str) -> RequestError:
    return RequestError("The authorisation request is not well formed.", where=field, mend=mend)


def _check_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX or not value.isprintable():
        raise _refusal(field, f"It is printable text of 1 to {NAME_CHARACTERS_MAX} characters.")


def _check_names(field: str, values: object) -> None:
    if not isinstance(values, tuple) or len(values) > NAMES_MAX:
        raise _refusal(field, f"It is a tuple of at most {NAMES_MAX} names.")
    for value in values:
        _check_name(field, value)


def _check_integer(field: str, value: object, maximum: int) -> None:
    if type(value) is not int or not 0 <= value <= maximum:
        raise _refusal(field, f"It is an integer from 0 to {maximum}.")


def _check_digest(field: str, value: object) -> None:
    if not isinstance(value, str) or _HEX_256.match(value) is None:
        raise _refusal(field, "It is 64 lower-case hex digits.")
