"""The Cedar policy engine (cedarpy): checks a steward's text, and decides by it and by the guard policies.

Cedar skips a clause that fails to evaluate, so a forbid that errs would not forbid. Hence every call passes the schema,
and anything but Allow without a single error is a refusal.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import cedarpy

from consortium.encoding import Json, canonical, sha256
from consortium.errors import PolicyError, RequestError
from consortium.policy.decision import (
    EVALUATION_ERROR,
    NO_PERMIT,
    RESERVED_CLAUSES,
    Clause,
    Decision,
    PolicySet,
    policy_digest,
    schema_digest,
)
from consortium.policy.request import PRIVACY_MODES, RELEASE, AuthorisationRequest, DatasetAttributes
from node.authorisation import text as cedar_text

GUARD_PREFIX: Final = "guard-"
COMPILED_MAX: Final = 64
_CLAUSE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_ANNOTATIONS = frozenset({"id", "reason", "obligation"})
_ANNOTATION_CHARACTERS_MAX = 300
_PRIVACY_CHOICES = (*((mode,) for mode in PRIVACY_MODES), PRIVACY_MODES, PRIVACY_MODES[::-1])
_PERMIT_FORM = (
    'Write: @id("permit") @reason("...") permit (principal is Consortium::Member, action in '
    '[Consortium::Action::"statistic", Consortium::Action::"release"], resource) '
    'when { ["dp"].contains(context.privacy) };'
)
_NO_PERMIT = Clause(NO_PERMIT, "No permit of the sharing policy covers this kind of job under this privacy mode.")
_EVALUATION_ERROR = Clause(EVALUATION_ERROR, "A clause or the request could not be evaluated, so it is refused.")


@dataclass(frozen=True)
class _Compiled:
    """A checked policy set with Cedar's parsed handles, keyed by clause id: all clauses, and the permit alone."""

    policies: PolicySet
    handle: cedarpy.PolicySet
    permit_handle: cedarpy.PolicySet


class CedarEngine:
    """`PolicyEngine` by cedarpy. Safe to share between threads; the texts checked last stay parsed.

    Args:
        schema: Cedar schema text.
        guard: Cedar text of the guard policies, forbids only; their ids begin with "guard-".

    Raises:
        PolicyError: the schema or a guard policy is not valid.
    """

    def __init__(self, schema: str, guard: str) -> None:
        try:
            self._schema = cedarpy.Schema.from_str(schema)
        except ValueError as error:
            raise PolicyError("The policy schema is not valid.", mend=_one_line(str(error))) from error
        self._schema_sha256 = schema_digest(schema)
        self._guard = self._read(guard)
        for clause, policy in self._guard.items():
            if policy["effect"] != "forbid" or not clause.startswith(GUARD_PREFIX):
                raise PolicyError("A guard policy is a forbid whose id begins with 'guard-'.", where=clause)
        self._guard_sha256 = policy_digest(self._guard)
        self._compiled = functools.lru_cache(maxsize=COMPILED_MAX)(self._compile)

    @property
    def engine(self) -> str:
        """Name and version of the engine, as a decision records it."""
        return f"cedarpy {version('cedarpy')}"

    def check(self, policy_text: str) -> PolicySet:
        """See `PolicyEngine.check`: the policies parse, fit the schema, and have the one broad permit at most.

        Raises:
            PolicyError: what is wrong, at which line and column, and how to mend it.
            LimitError: the text is too large.
        """
        return self._compiled(policy_text).policies

    def decide(self, policies: PolicySet, request: AuthorisationRequest, dataset: DatasetAttributes) -> Decision:
        """See `PolicyEngine.decide`. A refusal lists every violated clause.

        Raises:
            PolicyError: `policies` did not come from an engine with this guard and schema.
            RequestError: `dataset` is not the one that the request names.
        """
        compiled = self._compiled(policies.text)
        if compiled.policies != policies:
            raise PolicyError("The policy set was not checked with this guard and schema.", mend="Check it again.")
        if dataset.name != request.dataset:
            raise RequestError("The request names another dataset.", where="dataset", mend="Pass the dataset it names.")
        entities = _entities(request, dataset)
        query = _query(request)
        result = self._ask(query, compiled.handle, entities)
        if result.decision == cedarpy.Decision.Allow and not result.diagnostics.errors:
            ids = set(result.diagnostics.reasons)
        else:
            ids = self._violated(result, self._ask(query, compiled.permit_handle, entities))
        permitted = result.allowed and not ids & RESERVED_CLAUSES
        known = (*policies.clauses, _NO_PERMIT, _EVALUATION_ERROR)
        return Decision(
            outcome="permit" if permitted else "refuse",
            clauses=tuple(clause for clause in known if clause.id in ids),
            engine=self.engine,
            request_sha256=request.sha256,
            policy_sha256=policies.policy_sha256,
            guard_sha256=policies.guard_sha256,
            schema_sha256=policies.schema_sha256,
            entities_sha256=sha256(entities).hex(),
        )

    def _ask(self, query: dict[str, Json], handle: cedarpy.PolicySet, entities: bytes) -> cedarpy.AuthzResult:
        return cedarpy.is_authorized(query, handle, entities.decode(), self._schema)

    @staticmethod
    def _violated(result: cedarpy.AuthzResult, permit: cedarpy.AuthzResult) -> set[str]:
        """The ids of the forbids that fired, and why else nothing is permitted."""
        ids = set(result.diagnostics.reasons) if result.decision == cedarpy.Decision.Deny else set()
        if result.diagnostics.errors or permit.diagnostics.errors:
            ids.add(EVALUATION_ERROR)
        if permit.decision == cedarpy.Decision.Deny or not ids:
            ids.add(NO_PERMIT)
        return ids

    def _compile(self, policy_text: str) -> _Compiled:
        steward = self._read(policy_text)
        permits: dict[str, Json] = {}
        for statement, (clause, policy) in zip(cedar_text.statements(policy_text), steward.items(), strict=True):
            where = cedar_text.place(policy_text, statement.start)
            if clause in self._guard or clause.startswith(GUARD_PREFIX) or clause in RESERVED_CLAUSES:
                raise PolicyError(
                    "The clause has an id that is kept for the guard policies or the engine.",
                    where=where,
                    mend="Choose another @id, one that does not begin with 'guard-'.",
                )
            if policy["effect"] == "permit":
                _check_permit(policy, where, permits)
                permits[clause] = policy
        policies = PolicySet(
            text=policy_text,
            clauses=tuple(_clause(clause, policy) for clause, policy in (self._guard | steward).items()),
            policy_sha256=policy_digest(steward),
            guard_sha256=self._guard_sha256,
            schema_sha256=self._schema_sha256,
        )
        return _Compiled(policies, _handle(self._guard | steward), _handle(permits))

    def _read(self, policy_text: str) -> dict[str, Json]:
        """Policies in Cedar's JSON form by their `@id`, in the order of the text, valid against the schema."""
        by_id: dict[str, Json] = {}
        for statement in cedar_text.statements(policy_text):
            where = cedar_text.place(policy_text, statement.start)
            policy = _parse(policy_text, statement)
            self._validate(policy_text, statement)
            clause = _clause_id(policy, where)
            if clause in by_id:
                raise PolicyError("Two clauses have the same @id.", where=where, mend="Give each clause its own @id.")
            by_id[clause] = policy
        return by_id

    def _validate(self, policy_text: str, statement: cedar_text.Statement) -> None:
        result = cedarpy.validate_policies(statement.source(policy_text), self._schema)
        if result.validation_passed:
            return
        error = result.errors[0]
        message = _one_line(error.error.removeprefix(f"for policy `{error.policy_id}`, "))
        raise PolicyError(
            f"The policy does not fit the schema: {message}.",
            where=cedar_text.place(policy_text, cedar_text.named_offset(statement, message)),
            mend="See the attributes and actions in policies/schema.cedarschema.",
        )


def _parse(policy_text: str, statement: cedar_text.Statement) -> dict[str, Json]:
    """One policy in Cedar's JSON form. Parsed alone, so that an error has a place and no clause can hide another."""
    source, where = statement.source(policy_text), cedar_text.place(policy_text, statement.start)
    message = _parse_error(source)
    if message:
        offset = cedar_text.syntax_error_offset(policy_text, statement, message, _parse_error)
        raise PolicyError(
            f"The text is not Cedar: {_one_line(message)}.",
            where=cedar_text.place(policy_text, offset),
            mend="See policies/README.md for the form of a clause.",
        )
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(source))
        cedarpy.PolicySet.from_json_str(json.dumps(parsed))
    except (RecursionError, ValueError) as error:  # Cedar reads back about 100 levels of its own JSON form
        raise PolicyError("The clause is nested too deep.", where=where, mend="Split it in several.") from error
    if parsed["templates"]:
        raise PolicyError(
            "A sharing policy has no slots.",
            where=where,
            mend="Write 'principal' and 'resource' in place of ?principal and ?resource.",
        )
    (policy,) = parsed["staticPolicies"].values()
    return dict(policy)


def _parse_error(source: str) -> str:
    try:
        cedarpy.policies_to_json_str(source)
    except ValueError as error:
        return str(error) or "it does not parse"
    return ""


def _clause_id(policy: Mapping[str, Json], where: str) -> str:
    annotations = policy.get("annotations", {})
    clause = annotations.get("id")
    if not isinstance(clause, str) or _CLAUSE_ID.match(clause) is None:
        raise PolicyError(
            "A clause has no usable @id.",
            where=where,
            mend='Write @id("...") before it: 1 to 64 lower-case letters, digits and hyphens.',
        )
    texts = [annotations[key] for key in annotations if key != "id"]
    if not annotations.get("reason") or not all(
        isinstance(text, str) and len(text) <= _ANNOTATION_CHARACTERS_MAX for text in texts
    ):
        raise PolicyError(
            "A clause has no usable @reason.",
            where=where,
            mend=f'Write @reason("...") before it, at most {_ANNOTATION_CHARACTERS_MAX} characters.',
        )
    if not annotations.keys() <= _ANNOTATIONS:
        raise PolicyError(
            "A clause has an annotation that nothing reads.",
            where=where,
            mend="Use @id, @reason and @obligation only.",
        )
    return clause


def _check_permit(policy: Mapping[str, Json], where: str, earlier: Mapping[str, Json]) -> None:
    if not _is_broad_permit(policy):
        raise PolicyError("A permit is not of the one broad form.", where=where, mend=_PERMIT_FORM)
    if earlier:
        raise PolicyError(
            "There is a second permit.",
            where=where,
            mend="Keep one permit and restrict it by forbids, so that a refusal can name each.",
        )


def _is_broad_permit(policy: Mapping[str, Json]) -> bool:
    """Whether a permit names kinds of job, release among them, and privacy modes, and nothing else."""
    principal, action, conditions = policy["principal"], policy["action"], policy["conditions"]
    if principal != {"op": "is", "entity_type": "Consortium::Member"} or policy["resource"] != {"op": "All"}:
        return False
    if action["op"] != "in" or RELEASE not in {entity["id"] for entity in action.get("entities", [])}:
        return False
    privacy = {".": {"left": {"Var": "context"}, "attr": "privacy"}}
    return any(
        conditions == [{"kind": "when", "body": {"contains": {"left": {"Set": modes}, "right": privacy}}}]
        for modes in ([{"Value": mode} for mode in chosen] for chosen in _PRIVACY_CHOICES)
    )


def _clause(clause: str, policy: Mapping[str, Json]) -> Clause:
    annotations = policy["annotations"]
    return Clause(clause, annotations["reason"], annotations.get("obligation", ""))


def _handle(policies: Mapping[str, Json]) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"templates": {}, "staticPolicies": policies, "templateLinks": []})
    )


def _uid(kind: str, name: str) -> dict[str, Json]:
    return {"type": f"Consortium::{kind}", "id": name}


def _entities(request: AuthorisationRequest, dataset: DatasetAttributes) -> bytes:
    """Canonical JSON of the two entities of a decision."""
    requester = request.requester
    member = {"sector": requester.sector, "size": requester.size}
    offer = {
        "columns": sorted(set(dataset.columns)),
        "sector": dataset.sector,
        "grade": dataset.grade,
        "apps": sorted(set(dataset.apps)),
        "approver": dataset.approver,
        "risk_assessment": dataset.risk_assessment,
    }
    return canonical(
        [
            {"uid": _uid("Member", requester.member), "attrs": member, "parents": []},
            {"uid": _uid("Dataset", dataset.name), "attrs": offer, "parents": []},
        ]
    )


def _query(request: AuthorisationRequest) -> dict[str, Json]:
    context = _terms(request)
    if request.declared is not None:
        context["declared"] = _terms(request.declared)
    return {
        "principal": _uid("Member", request.requester.member),
        "action": _uid("Action", request.action),
        "resource": _uid("Dataset", request.dataset),
        "context": context,
    }


def _terms(request: AuthorisationRequest) -> dict[str, Json]:
    document = request.document()
    instant = datetime.fromtimestamp(request.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document |= {"kind": request.kind, "now": {"__extn": {"fn": "datetime", "arg": instant}}}
    for key in ("action", "dataset", "declared", "requester"):
        del document[key]
    return document


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")[:300]
