"""The one thing that a node needs of a policy language."""

from __future__ import annotations

from typing import Protocol

from consortium.policy.decision import Decision, PolicySet
from consortium.policy.request import AuthorisationRequest, DatasetAttributes


class PolicyEngine(Protocol):
    """Checks policies once and decides requests by them; the same inputs give the same decision everywhere."""

    def check(self, policy_text: str) -> PolicySet:
        """The policy set of a steward's text.

        Raises:
            PolicyError: the text is not a valid sharing policy; `where` has its line and column.
            LimitError: the text is longer than the engine reads.
        """
        ...

    def decide(self, policies: PolicySet, request: AuthorisationRequest, dataset: DatasetAttributes) -> Decision:
        """Permits only what a policy permits and no clause forbids; any error is a refusal.

        Raises:
            PolicyError: `policies` did not come from `check` with the same guard and schema.
            RequestError: `dataset` is not the one that the request names.
        """
        ...
