"""Every error that a caller can see.

A `ConsortiumError` is a refusal: its text says what is wrong, where, and how to mend it, and never carries a
value out of anybody's data. Anything else that is raised is a bug of ours (`AssertionError`) or a fault of the
machine; those reach a remote caller only as INTERNAL.
"""

from __future__ import annotations

from typing import ClassVar


class ConsortiumError(Exception):
    """A refusal with a reason that its sender sees.

    Attributes:
        code: stable name of the kind of refusal, what remote callers branch on.
        what: one sentence, what is wrong.
        where: the place (file, line and column, field, clause, entry index); never a value.
        mend: what to do next.
    """

    code: ClassVar[str] = "refused"

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(what, where, mend)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        advice = f" {self.mend}" if self.mend else ""
        return f"{self.what}{place}{advice}"


class EncodingError(ConsortiumError):
    """Bytes that are not canonical JSON, or a value that canonical JSON cannot carry."""

    code = "malformed"


class LimitError(ConsortiumError):
    """An input larger than the stated limit."""

    code = "too-large"


class SignatureError(ConsortiumError):
    """A signature, key or frame that does not verify."""

    code = "bad-signature"


class ProofError(ConsortiumError):
    """A Merkle proof that does not prove what it should."""

    code = "bad-proof"


class CheckpointError(ConsortiumError):
    """A checkpoint (signed note) that does not parse or verify."""

    code = "bad-checkpoint"


class ForkError(ConsortiumError):
    """Two views of the log that cannot both be true."""

    code = "fork"


class StaleError(ConsortiumError):
    """A request that rests on another size of the log than the one here (C2SP tlog-witness, 409)."""

    code = "stale"


class EntryError(ConsortiumError):
    """A ledger entry that the rules refuse."""

    code = "bad-entry"


class InvitationError(ConsortiumError):
    """An invitation that is expired, used, or for another consortium."""

    code = "bad-invitation"


class PolicyError(ConsortiumError):
    """A sharing policy that is not valid against the schema."""

    code = "bad-policy"


class RequestError(ConsortiumError):
    """A job request that is not well formed or asks for what is not in the catalogue."""

    code = "bad-request"


class DatasetError(ConsortiumError):
    """A dataset that cannot be read as it was described."""

    code = "bad-dataset"


class BudgetError(ConsortiumError):
    """A spend that the privacy budget does not cover."""

    code = "budget-exceeded"


class SecureSumError(ConsortiumError):
    """A message of the secure sum that breaks the protocol, or a sum that cannot be finished.

    Attributes:
        blamed: key ids of the members whose own signature shows that they are at fault; empty when nobody is proven.
    """

    code = "secure-sum-refused"

    def __init__(self, what: str, *, where: str = "", mend: str = "", blamed: tuple[bytes, ...] = ()) -> None:
        super().__init__(what, where=where, mend=mend)
        self.blamed = blamed


class ContributionError(ConsortiumError):
    """Rounds from which contribution scores cannot be computed."""

    code = "not-scorable"


class SettlementError(ConsortiumError):
    """An incentive schedule, a score or a posting that breaks the charter."""

    code = "bad-settlement"


class PolicyRefusedError(ConsortiumError):
    """A job that a node's policy does not permit."""

    code = "refused-by-policy"


class NotAuthorisedError(ConsortiumError):
    """A caller that may not make this call."""

    code = "not-authorised"


class NotFoundError(ConsortiumError):
    """A thing that does not exist here."""

    code = "not-found"


class PausedError(ConsortiumError):
    """The node is paused by its steward."""

    code = "paused"


class UnavailableError(ConsortiumError):
    """A peer that is not reachable or did not make progress in time."""

    code = "unavailable"


class ConfigError(ConsortiumError):
    """A node folder, configuration file or command line that cannot be used."""

    code = "bad-config"
