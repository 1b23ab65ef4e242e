"""What a job is, and the rules for its life: decided, spent for, summed, answered or aborted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.encoding import Json, sha256
from consortium.errors import ConsortiumError, RequestError
from consortium.faults import Fault
from consortium.ledger import bodies
from consortium.ledger.entry import Entry
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.secure_sum import minimum_threshold
from consortium.privacy.statistics import StatisticsRequest
from consortium.state import UNBOUNDED, Decision, Job, Spend, State, recorded

ROUNDS_MAX = 29  # training rounds; with the evaluation at the end a run has at most 30 messages a node
EXAMPLES_MAX = 10_000_000
MODEL_WORDS_MAX = 4_000_000
_ROSTER_CONTEXT = b"consortium/round-roster/v1"
_NOT_CATALOGUED = "catalogue of apps"
STATISTIC_ROUNDS_MAX = 3  # a sum that lost too many is tried again with fresh noise, paid for again


@dataclass(frozen=True)
class TrainingRequest:
    """Federated training of an approved app.

    Attributes:
        app: SHA-256 of the FAB, hex.
        columns: what the app reads, features and target.
        rounds: training rounds; one more message evaluates all round models.
        examples_max: public bound on one member's rows; weights are examples / examples_max.
        train_metrics: names of the metrics of a training message, which travel as masked coordinates.
        evaluate_metrics: names of the utilities of the initial and each round's model, in [0, 1], likewise.
        seed: hex, decides the rosters and the app's initial model.
        run_config: handed to the app as it is.
    """

    app: str
    purpose: str
    columns: tuple[str, ...]
    rounds: int
    examples_max: int
    train_metrics: tuple[str, ...]
    evaluate_metrics: tuple[str, ...]
    seed: str
    run_config: dict[str, Json]

    @classmethod
    def from_json(cls, value: Json) -> TrainingRequest:
        """Reads a request.

        Raises:
            RequestError: a field is missing, surplus, or of a wrong type or size.
        """
        for key, check in _TRAINING_FIELDS.items():
            if not isinstance(value, dict) or key not in value or not check(value[key]):
                raise RequestError(
                    "A field of the training request is missing or wrong.",
                    where=f"request.{key}",
                    mend="See the README, 'Ask for training'.",
                )
        surplus = sorted(set(value) - set(_TRAINING_FIELDS))
        if surplus:
            raise RequestError(
                "The training request has a field that is not known.", where=f"request.{surplus[0][:40]}"
            )
        return cls(
            app=value["app"],
            purpose=value["purpose"],
            columns=tuple(value["columns"]),
            rounds=value["rounds"],
            examples_max=value["examples_max"],
            train_metrics=tuple(value["train_metrics"]),
            evaluate_metrics=tuple(value["evaluate_metrics"]),
            seed=value["seed"],
            run_config=value["run_config"],
        )


_TRAINING_FIELDS: dict[str, bodies.Check] = {
    "release": bodies.one_of("exact_training"),
    "app": bodies.digest,
    "purpose": bodies.name,
    "columns": lambda value: (
        isinstance(value, list)
        and 1 <= len(value) <= 64
        and len(set(map(str, value))) == len(value)
        and all(bodies.text(item) for item in value)
    ),
    "rounds": lambda value: bodies.count(value) and 1 <= value <= ROUNDS_MAX,
    "examples_max": lambda value: bodies.count(value) and 1 <= value <= EXAMPLES_MAX,
    "train_metrics": bodies.list_of(bodies.name),
    "evaluate_metrics": bodies.list_of(bodies.name),
    "seed": bodies.digest,
    "run_config": lambda value: (
        isinstance(value, dict)
        and len(value) <= 64
        and all(isinstance(item, str | int | bool) for item in value.values())
    ),
}


Request = StatisticsRequest | TrainingRequest


def read_request(body: Json) -> Request:
    """The typed request in the body of a job.

    Raises:
        RequestError: the request is not well formed.
    """
    if body["kind"] == "training":
        return TrainingRequest.from_json(body["request"])
    return StatisticsRequest.from_json(body["request"])


def check_job(state: State, body: Json) -> Request:
    """Checks a job's body, and the body against the catalogue.

    Raises:
        RequestError, EntryError: what is wrong, where, and how to mend it.
    """
    bodies.check_body("job", body)
    return _check_catalogued(state, body)


def _check_catalogued(state: State, body: Json) -> Request:
    members = [item["member"] for item in body["datasets"]]
    if members != sorted(set(members)):
        raise RequestError("A job names each member once, sorted by id.", where="datasets")
    floor = state.charter["members_min"]
    if not floor <= body["members_min"] <= len(members):
        raise RequestError(
            f"The job's minimum of participants is not between the charter's {floor} and its {len(members)} datasets.",
            where="members_min",
            mend="Name more datasets, or a minimum in that range.",
        )
    request = read_request(body)
    for item in body["datasets"]:
        dataset = state.datasets.get((bytes.fromhex(item["member"]), item["dataset"]))
        if dataset is None or not state.admitted(dataset.member):
            raise RequestError(
                f"No dataset '{item['dataset']}' of that member is in the catalogue.",
                where="datasets",
                mend="List the catalogue with 'consortium dataset list'.",
            )
        _check_columns(request, dataset.described)
    if isinstance(request, TrainingRequest) and request.app not in state.apps:
        raise RequestError(
            "The app is not in the catalogue, so nobody can have approved it.",
            where=_NOT_CATALOGUED,
            mend="Catalogue it first: 'consortium policy catalogue-app'.",
        )
    return request


def round_roster(seed: bytes, round_number: int, members: Sequence[bytes]) -> tuple[bytes, ...]:
    """The roster of a training round (from 1), sorted: all members, or all but one where that leaves at least three.

    The first round, which gains most, has everybody. Then cycles of n + 1 rounds hold the full roster and each
    all-but-one roster once, in an order that SHA-256 of the public seed decides: nobody chooses who sits out when, and
    after a cycle every member has been absent once. Scores need n + 4 rounds.
    """
    assert round_number >= 1
    roster = tuple(sorted(members))
    if len(roster) < 4 or round_number == 1:
        return roster
    cycle, place = divmod(round_number - 2, len(roster) + 1)
    context = _ROSTER_CONTEXT + sha256(seed) + cycle.to_bytes(4, "big")
    order = sorted(range(len(roster) + 1), key=lambda absent: sha256(context + absent.to_bytes(4, "big")))
    return tuple(member for position, member in enumerate(roster) if position != order[place])


def training_roster(job: Job, round_number: int) -> tuple[bytes, ...]:
    """Who is to be summed in a round of a training job: the seed decides for its rounds, and everybody evaluates.

    Empty for a round that the job does not have.
    """
    request = TrainingRequest.from_json(job.request)
    members = job.permitted()
    if 1 <= round_number <= request.rounds:
        return round_roster(bytes.fromhex(request.seed), round_number, members)
    return members if round_number == request.rounds + 1 else ()


def submit(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator launches a job."""
    if entry.author != state.coordinator:
        return Fault("not-coordinator", "Only the coordinator launches jobs.")
    body = entry.body
    try:
        _check_catalogued(state, body)
    except ConsortiumError as error:
        return Fault("run-before-approval" if error.where == _NOT_CATALOGUED else "bad-job", str(error))
    state.jobs[entry.leaf] = Job(
        id=entry.leaf,
        index=index,
        kind=body["kind"],
        datasets={bytes.fromhex(item["member"]): item["dataset"] for item in body["datasets"]},
        members_min=body["members_min"],
        request=body["request"],
        body=body,
    )
    return None


def decide(state: State, index: int, entry: Entry) -> Fault | None:
    """A data owner permits or refuses; a training run also needs its earlier approval of the app."""
    body, author = entry.body, entry.author
    job = _job(state, entry)
    if job is None or author not in job.datasets:
        return Fault("unknown-job", "The decision is on no job that asks for the author's data.")
    stage, permits = body["stage"], body["outcome"] == "permit"
    if (author, stage) in job.decisions:
        return Fault("duplicate", "The member decided before.")
    if permits:
        if stage == "run" and (job.sums or job.ended()):
            return Fault("too-late", "The job's members were settled when its first sum was recorded, or it has ended.")
        if job.kind == "training" and (author, job.request["app"]) not in state.approvals:
            return Fault("run-before-approval", "The member had not approved the app.")
        if stage == "release" and not job.paid(author):
            return Fault("run-before-approval", "A release is decided after the spend that it releases.")
    job.decisions[author, stage] = Decision(index, permits, tuple(body["clauses"]))
    return None


def spend(state: State, index: int, entry: Entry) -> Fault | None:
    """A data owner pays from its lineage's account, before it computes."""
    body, author = entry.body, entry.author
    job = _job(state, entry)
    if job is None or job.datasets.get(author) != body["dataset"]:
        return Fault("unknown-job", "The spend is for no job that asks for that dataset.")
    if not job.permits(author):
        return Fault("run-before-approval", "The member had not permitted the job.")
    if (author, body["round"]) in job.spends:
        return Fault("duplicate", "The round was paid for before.")
    dataset = state.datasets[author, body["dataset"]]
    account = (author, dataset.lineage)
    rho_micro = None if body["rho_micro"] == UNBOUNDED else body["rho_micro"]
    if (rho_micro is None) != (job.kind == "training"):
        return Fault("wrong-spend", "Training without noise is recorded as 'unbounded', statistics as micro-rho.")
    if rho_micro is None:
        state.unbounded.add(account)
    else:
        fault = _charge(state, job, account, rho_micro)
        if fault is not None:
            return fault
    job.spends[author, body["round"]] = Spend(index, rho_micro, body["delta"])
    return None


def _charge(state: State, job: Job, account: tuple[bytes, str], rho_micro: int) -> Fault | None:
    if rho_micro < job.price_rho_micro:
        return Fault("underpaid", "The spend is smaller than what the job's request costs.")
    spent = state.spent.get(account, 0) + rho_micro
    cap = state.cap_of(*account)
    if spent > cap:
        return Fault("overspend", f"The lineage's account would stand at {spent} of {cap} micro-rho.")
    state.spent[account] = spent
    return None


def add_sum(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator records a finished secure sum."""
    body = entry.body
    job = _job(state, entry)
    if job is None or entry.author != state.coordinator:
        return Fault("unknown-job", "Only the coordinator records sums, of jobs on the ledger.")
    roster, survivors = body["roster"], body["survivors"]
    if roster != sorted(set(roster)) or survivors != sorted(set(survivors)) or not set(survivors) <= set(roster):
        return Fault("bad-roster", "Roster and survivors are sorted, and every survivor is on the roster.")
    if len(survivors) < max(job.members_min, minimum_threshold(max(len(roster), 1))):
        return Fault(
            "too-few", "Fewer members than the job's minimum, or than two thirds of the roster, are in the sum."
        )
    if body["round"] in job.sums or job.ended():
        return Fault("duplicate", "The round was summed before, or the job has ended.")
    paid = body["round"] if job.kind == "statistic" else 0
    for member in map(bytes.fromhex, roster):
        if not job.permits(member):
            return Fault("run-before-approval", "A member of the roster had not permitted the job.")
        if not state.admitted(member):
            return Fault("suspended", "A member of the roster is suspended or was removed.")
        if member.hex() in survivors and (member, paid) not in job.spends:
            return Fault("unpaid", "A member is in the sum that had not recorded its spend.")
    job.sums[body["round"]] = recorded(index, entry)
    return None


def answer(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator records the result's hash."""
    job = _job(state, entry)
    if job is None or entry.author != state.coordinator:
        return Fault("unknown-job", "Only the coordinator records results, of jobs on the ledger.")
    if job.ended() or not job.sums:
        return Fault("no-sum", "A result follows a sum, once.")
    job.result = recorded(index, entry)
    return None


def abort(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator ends a job without a result."""
    job = _job(state, entry)
    if job is None or entry.author != state.coordinator or job.ended():
        return Fault("unknown-job", "Only the coordinator aborts, and only a job that has not ended.")
    job.abort = recorded(index, entry)
    return None


def _job(state: State, entry: Entry) -> Job | None:
    return state.jobs.get(bytes.fromhex(entry.body["job"]))


def _check_columns(request: Request, descriptor: DatasetDescriptor) -> None:
    if isinstance(request, StatisticsRequest):
        request.check_against(descriptor)
        return
    known = {column.name for column in descriptor.columns}
    for column in request.columns:
        if column not in known:
            raise RequestError(
                f"Dataset '{descriptor.dataset}' has no such column.",
                where=f"request.columns: {column[:60]}",
                mend="List the catalogue with 'consortium dataset list'.",
            )
