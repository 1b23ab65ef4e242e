"""The life of a job: launched, decided, paid for, summed, answered or aborted; every step refused out of turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from consortium.errors import RequestError
from consortium.jobs import ROUNDS_MAX, TrainingRequest, check_job, read_request, round_roster, training_roster
from consortium.privacy.statistics import StatisticsRequest
from consortium.state import UNBOUNDED
from tests.worlds import World, documents

MEMBERS = tuple(bytes([i]) * 32 for i in (1, 2, 3, 4))


@pytest.fixture
def world() -> World:
    return World().found().join().offer().approve()


def statistic(world: World) -> bytes:
    return world.launch("statistic", documents.statistic())


def paid_statistic(world: World) -> bytes:
    job = statistic(world)
    world.decide(job)
    world.pay(job)
    return job


class TestRosters:
    """`round_roster`."""

    def test_the_first_round_has_everybody_and_then_absences_are_balanced(self) -> None:
        assert round_roster(b"seed", 1, MEMBERS) == MEMBERS
        everyone = [MEMBERS, *(tuple(m for m in MEMBERS if m != absent) for absent in MEMBERS)]
        for start in (2, 7, 12, 17):
            cycle = [round_roster(b"seed", number, MEMBERS) for number in range(start, start + 5)]
            assert Counter(cycle) == Counter(everyone)

    def test_rosters_follow_from_the_seed_and_the_members_alone(self) -> None:
        def plan(seed: bytes, members: tuple[bytes, ...] = MEMBERS) -> tuple[tuple[bytes, ...], ...]:
            return tuple(round_roster(seed, number, members) for number in range(1, 22))

        assert plan(b"seed") == plan(b"seed", MEMBERS[::-1])
        assert len({plan(bytes([k])) for k in range(20)}) == 20
        straight = plan(b"seed")
        assert len({straight[start : start + 5] for start in (1, 6, 11, 16)}) > 1  # cycles differ

    def test_three_members_never_sit_out_because_two_would_see_each_other(self) -> None:
        assert {round_roster(b"seed", number, MEMBERS[:3]) for number in range(1, 12)} == {MEMBERS[:3]}

    def test_as_many_members_as_an_entry_can_name_get_rosters_too(self) -> None:
        many = tuple(number.to_bytes(32, "big") for number in range(256))
        assert {len(round_roster(b"seed", number, many)) for number in range(2, 2 + 257)} == {255, 256}

    def test_rounds_count_from_one(self) -> None:
        with pytest.raises(AssertionError):
            round_roster(b"seed", 0, MEMBERS)

    def test_a_training_job_has_its_rounds_and_an_evaluation_by_everybody_and_no_other(self, world: World) -> None:
        job = world.job(world.start_training(3))
        assert [training_roster(job, number) for number in (1, 2, 3)] == [world.roster(number) for number in (1, 2, 3)]
        assert training_roster(job, 4) == tuple(world.ids)
        assert training_roster(job, 0) == training_roster(job, 5) == ()

    def test_who_refused_is_on_no_roster(self, world: World) -> None:
        job = world.launch("training", documents.training())
        for member, outcome in zip(world.members, ("permit", "refuse", "permit", "permit"), strict=True):
            world.ledger.add(member, "decision", documents.decision(job.hex(), outcome))
        due = (world.ids[0], *world.ids[2:])
        assert {training_roster(world.job(job), number) for number in range(1, documents.ROUNDS + 2)} == {due}


class TestTrainingRequest:
    """`TrainingRequest.from_json`."""

    def test_a_request_is_read_field_by_field(self) -> None:
        request = TrainingRequest.from_json(documents.training())
        assert (request.app, request.purpose, request.columns) == (documents.APP, "forecast", ("power", "wind"))
        assert (request.rounds, request.examples_max, request.seed) == (8, 1_000, documents.SEED)
        assert request.train_metrics == ("loss",)
        assert len(request.evaluate_metrics) == 9
        assert request.run_config == {"rate": "0.1", "steps": 3, "shuffle": True}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("release", "dp"),
            ("app", "not-a-digest"),
            ("purpose", "Two Words"),
            ("columns", []),
            ("columns", ["power", "power"]),
            ("columns", [{}]),
            ("columns", ["c"] * 65),
            ("columns", "power"),
            ("rounds", 0),
            ("rounds", ROUNDS_MAX + 1),
            ("rounds", True),
            ("rounds", "8"),
            ("examples_max", 0),
            ("examples_max", 10_000_001),
            ("examples_max", True),
            ("examples_max", "10"),
            ("train_metrics", "loss"),
            ("evaluate_metrics", [""]),
            ("seed", "00"),
            ("run_config", []),
            ("run_config", {"rate": 0.1}),
            ("run_config", {"a": {"b": 1}}),
            ("run_config", {str(i): i for i in range(65)}),
        ],
    )
    def test_a_field_out_of_range_is_refused_by_place(self, field: str, value: Any) -> None:
        with pytest.raises(RequestError) as caught:
            TrainingRequest.from_json(documents.training() | {field: value})
        assert caught.value.where == f"request.{field}"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("columns", ["c"]),
            ("columns", [f"column {i}" for i in range(64)]),
            ("rounds", 1),
            ("rounds", ROUNDS_MAX),
            ("examples_max", 1),
            ("examples_max", 10_000_000),
            ("run_config", {str(i): i for i in range(64)}),
        ],
    )
    def test_the_limits_themselves_are_allowed(self, field: str, value: Any) -> None:
        TrainingRequest.from_json(documents.training() | {field: value})

    @pytest.mark.parametrize("field", sorted(documents.training()))
    def test_a_missing_field_is_refused_by_place(self, field: str) -> None:
        with pytest.raises(RequestError) as caught:
            TrainingRequest.from_json({k: v for k, v in documents.training().items() if k != field})
        assert caught.value.where == f"request.{field}"

    def test_a_surplus_field_and_what_is_no_object_are_refused(self) -> None:
        with pytest.raises(RequestError, match=r"not known. \[request.epsilon\]"):
            TrainingRequest.from_json(documents.training() | {"epsilon": 1})
        for value in ([], None, "release"):
            with pytest.raises(RequestError):
                TrainingRequest.from_json(value)

    def test_the_kind_of_a_job_decides_how_its_request_is_read(self) -> None:
        assert isinstance(read_request({"kind": "training", "request": documents.training()}), TrainingRequest)
        assert isinstance(read_request({"kind": "statistic", "request": documents.statistic()}), StatisticsRequest)


class TestLaunch:
    """`job` entries."""

    def test_a_job_is_known_by_the_leaf_hash_of_its_entry(self, world: World) -> None:
        job = world.job(statistic(world))
        assert (job.kind, job.members_min, list(job.datasets)) == ("statistic", 3, world.ids)
        assert not job.ended()

    def test_only_the_coordinator_launches(self, world: World) -> None:
        body = world.job_body("statistic", documents.statistic())
        assert world.ledger.refused(world.members[0], "job", body) == "not-coordinator"

    @pytest.mark.parametrize(
        ("spoil", "where"),
        [
            pytest.param(lambda body: body["datasets"].reverse(), "datasets", id="members-not-sorted"),
            pytest.param(lambda body: body["datasets"].append(body["datasets"][-1]), "datasets", id="member-twice"),
            pytest.param(lambda body: body.update(members_min=2), "members_min", id="minimum-below-the-charter's"),
            pytest.param(lambda body: body.update(members_min=5), "members_min", id="minimum-above-the-datasets"),
            pytest.param(lambda body: body["datasets"][0].update(dataset="other"), "datasets", id="unknown-dataset"),
            pytest.param(
                lambda body: body["datasets"].append({"member": "ff" * 32, "dataset": "scada"}),
                "datasets",
                id="unknown-member",
            ),
            pytest.param(lambda body: body["request"].update(epsilon_milli=0), "epsilon_milli", id="zero-epsilon"),
            pytest.param(lambda body: body["request"].update(epsilon_milli=-1), "epsilon_milli", id="negative-epsilon"),
            pytest.param(
                lambda body: body["request"].update(columns=["torque"], bounds={"torque": documents.POWER}),
                "columns[0]",
                id="unknown-column",
            ),
            pytest.param(lambda body: body["request"].pop("purpose"), "purpose", id="no-purpose"),
        ],
    )
    def test_a_job_that_the_catalogue_cannot_answer_is_refused_by_place(
        self, world: World, spoil: Any, where: str
    ) -> None:
        body = world.job_body("statistic", documents.statistic())
        spoil(body)
        with pytest.raises(RequestError) as caught:
            check_job(world.ledger.state, body)
        assert caught.value.where == where
        assert world.ledger.refused(world.coordinator, "job", body) == "bad-job"

    def test_a_training_job_with_an_unknown_column_or_a_malformed_app_is_refused(self, world: World) -> None:
        for spoiled in ({"columns": ["power", "torque"]}, {"app": "nonsense"}):
            body = world.job_body("training", documents.training() | spoiled)
            assert world.ledger.refused(world.coordinator, "job", body) == "bad-job"

    def test_an_app_that_is_not_in_the_catalogue_does_not_run(self, world: World) -> None:
        body = world.job_body("training", documents.training() | {"app": documents.HASH})
        assert world.ledger.refused(world.coordinator, "job", body) == "run-before-approval"


class TestDecision:
    """`decision` entries."""

    def test_permits_and_refusals_are_counted_apart(self, world: World) -> None:
        job = statistic(world)
        world.ledger.add(world.members[0], "decision", documents.decision(job.hex()))
        world.ledger.add(world.members[1], "decision", documents.decision(job.hex(), "refuse"))
        assert world.job(job).permitted() == (world.ids[0],)
        assert world.job(job).decided() == {world.ids[0], world.ids[1]}

    def test_a_member_decides_once_and_only_on_its_own_data(self, world: World) -> None:
        body = world.job_body("statistic", documents.statistic())
        body["datasets"].pop()
        job = world.ledger.add(world.coordinator, "job", body).leaf
        decision = documents.decision(job.hex())
        world.ledger.add(world.members[0], "decision", decision)
        assert world.ledger.refused(world.members[0], "decision", decision) == "duplicate"
        assert world.ledger.refused(world.members[0], "decision", decision | {"outcome": "refuse"}) == "duplicate"
        assert world.ledger.refused(world.members[3], "decision", decision) == "unknown-job"
        assert world.ledger.refused(world.coordinator, "decision", decision) == "unknown-job"
        other = documents.decision(documents.HASH)
        assert world.ledger.refused(world.members[0], "decision", other) == "unknown-job"

    def test_a_member_permits_only_an_app_that_it_approved_before(self) -> None:
        world = World().found().join().offer()
        world.ledger.add(world.coordinator, "app", {"name": "power", "digest": documents.APP})
        job = world.launch("training", documents.training())
        decision = documents.decision(job.hex())
        assert world.ledger.refused(world.members[0], "decision", decision) == "run-before-approval"
        world.ledger.add(world.members[1], "decision", decision | {"outcome": "refuse"})
        world.ledger.add(world.members[0], "approval", {"digest": documents.APP})
        world.ledger.add(world.members[0], "decision", decision)

    def test_a_release_follows_the_spend_that_it_releases(self, world: World) -> None:
        job = statistic(world)
        world.decide(job)
        release = documents.decision(job.hex(), stage="release")
        assert world.ledger.refused(world.members[0], "decision", release) == "run-before-approval"
        world.pay(job)
        world.ledger.add(world.members[0], "decision", release)
        world.ledger.add(world.members[1], "decision", release | {"outcome": "refuse"})

    def test_nobody_joins_a_job_after_its_first_sum_or_its_end_but_may_still_refuse(self, world: World) -> None:
        job = statistic(world)
        for member in world.members[:3]:
            world.ledger.add(member, "decision", documents.decision(job.hex()))
            world.ledger.add(member, "spend", world.spend_body(job))
        world.ledger.add(world.coordinator, "sum", sum_body(world, job, roster=world.ids[:3]))
        late = documents.decision(job.hex())
        assert world.ledger.refused(world.members[3], "decision", late) == "too-late"
        world.ledger.add(world.members[3], "decision", late | {"outcome": "refuse"})
        world.ledger.add(world.members[0], "decision", late | {"stage": "release"})
        ended = statistic(world)
        world.ledger.add(world.coordinator, "abort", {"job": ended.hex(), "reason": "no-members"})
        assert world.ledger.refused(world.members[3], "decision", documents.decision(ended.hex())) == "too-late"


class TestSpend:
    """`spend` entries."""

    def test_a_spend_is_drawn_from_the_lineage_of_its_member(self, world: World) -> None:
        job = paid_statistic(world)
        rho_micro = world.spend_body(job)["rho_micro"]
        assert world.ledger.state.spent == {(identity, "turbine"): rho_micro for identity in world.ids}
        world.pay(job, 1)
        assert set(world.ledger.state.spent.values()) == {2 * rho_micro}
        assert not world.ledger.state.unbounded

    def test_who_has_not_permitted_pays_nothing(self, world: World) -> None:
        job = statistic(world)
        spend = world.spend_body(job)
        assert world.ledger.refused(world.members[0], "spend", spend) == "run-before-approval"
        world.ledger.add(world.members[0], "decision", documents.decision(job.hex(), "refuse"))
        assert world.ledger.refused(world.members[0], "spend", spend) == "run-before-approval"

    @pytest.mark.parametrize(
        ("changed", "code"),
        [
            pytest.param({"job": documents.HASH}, "unknown-job", id="another-job"),
            pytest.param({"dataset": "other"}, "unknown-job", id="another-dataset"),
            pytest.param({"rho_micro": UNBOUNDED}, "wrong-spend", id="unbounded-statistic"),
            pytest.param({"rho_micro": documents.CAP_RHO_MICRO + 1}, "overspend", id="over-the-cap-at-once"),
            pytest.param({"rho_micro": 0}, "underpaid", id="nothing"),
        ],
    )
    def test_a_spend_that_does_not_fit_is_refused(self, world: World, changed: dict[str, Any], code: str) -> None:
        job = statistic(world)
        world.decide(job)
        assert world.ledger.refused(world.members[0], "spend", world.spend_body(job) | changed) == code

    def test_one_micro_rho_too_little_is_underpaid(self, world: World) -> None:
        job = statistic(world)
        world.decide(job)
        spend = world.spend_body(job)
        less = spend | {"rho_micro": spend["rho_micro"] - 1}
        assert world.ledger.refused(world.members[0], "spend", less) == "underpaid"
        world.ledger.add(world.members[0], "spend", spend)

    def test_a_round_is_paid_once(self, world: World) -> None:
        job = paid_statistic(world)
        assert world.ledger.refused(world.members[0], "spend", world.spend_body(job)) == "duplicate"

    def test_the_cap_is_reached_exactly_and_not_passed_by_one(self, world: World) -> None:
        job = statistic(world)
        world.decide(job)
        spend = world.spend_body(job)
        world.ledger.add(world.members[0], "spend", spend)
        left = documents.CAP_RHO_MICRO - spend["rho_micro"]
        over = spend | {"round": 1, "rho_micro": left + 1}
        assert world.ledger.refused(world.members[0], "spend", over) == "overspend"
        world.ledger.add(world.members[0], "spend", over | {"rho_micro": left})
        assert world.ledger.state.spent[world.ids[0], "turbine"] == documents.CAP_RHO_MICRO

    def test_another_dataset_of_the_lineage_has_no_budget_of_its_own(self, world: World) -> None:
        job = statistic(world)
        world.decide(job)
        everything = world.spend_body(job) | {"rho_micro": documents.CAP_RHO_MICRO}
        world.ledger.add(world.members[0], "spend", everything)
        world.ledger.add(world.members[0], "dataset", documents.offer("copy"))
        body = world.job_body("statistic", documents.statistic())
        body["datasets"][0]["dataset"] = "copy"
        other = world.ledger.add(world.coordinator, "job", body).leaf
        world.decide(other)
        spend = world.spend_body(other) | {"dataset": "copy"}
        assert world.ledger.refused(world.members[0], "spend", spend) == "overspend"

    def test_training_without_noise_is_recorded_as_unbounded_and_not_otherwise(self, world: World) -> None:
        job = world.start_training()
        assert world.ledger.state.unbounded == {(identity, "turbine") for identity in world.ids}
        assert not world.ledger.state.spent
        finite = world.spend_body(job) | {"round": 1, "rho_micro": 5}
        assert world.ledger.refused(world.members[0], "spend", finite) == "wrong-spend"

    def test_an_epsilon_below_one_micro_rho_buys_nothing(self, world: World) -> None:
        job = world.launch("statistic", documents.statistic() | {"epsilon_milli": 1, "delta": "1e-99"})
        world.decide(job)
        spend = {"job": job.hex(), "dataset": "scada", "round": 0, "rho_micro": 5, "delta": "1e-99"}
        assert world.ledger.refused(world.members[0], "spend", spend) == "bad-request"


def sum_body(world: World, job: bytes, *, roster: list[bytes], survivors: list[bytes] | None = None) -> dict[str, Any]:
    return {
        "job": job.hex(),
        "round": 0,
        "roster": [member.hex() for member in roster],
        "survivors": [member.hex() for member in (roster if survivors is None else survivors)],
        "transcript_sha256": documents.HASH,
        "total_sha256": documents.HASH,
    }


class TestSum:
    """`sum`, `result` and `abort` entries."""

    def test_only_the_coordinator_records_sums_results_and_aborts_of_jobs_that_exist(self, world: World) -> None:
        job = paid_statistic(world)
        body = sum_body(world, job, roster=world.ids)
        result = {"job": job.hex(), "document_sha256": documents.HASH}
        abort = {"job": job.hex(), "reason": "no-members"}
        for kind, content in (("sum", body), ("result", result), ("abort", abort)):
            assert world.ledger.refused(world.members[0], kind, content) == "unknown-job"
            other = content | {"job": documents.HASH}
            assert world.ledger.refused(world.coordinator, kind, other) == "unknown-job"

    def test_rosters_and_survivors_are_sorted_sets_and_survivors_were_on_the_roster(self, world: World) -> None:
        job = paid_statistic(world)
        ids = world.ids
        for roster, survivors in (
            (ids[::-1], ids),
            ([*ids, ids[3]], ids),
            (ids, ids[::-1]),
            (ids, [*ids, ids[3]]),
            (ids[:3], ids),
        ):
            body = sum_body(world, job, roster=roster, survivors=survivors)
            assert world.ledger.refused(world.coordinator, "sum", body) == "bad-roster"

    @pytest.mark.parametrize(("roster", "survivors"), [(4, 2), (3, 2), (2, 2), (0, 0)])
    def test_a_sum_of_too_few_is_refused(self, world: World, roster: int, survivors: int) -> None:
        job = paid_statistic(world)
        body = sum_body(world, job, roster=world.ids[:roster], survivors=world.ids[:survivors])
        assert world.ledger.refused(world.coordinator, "sum", body) == "too-few"

    def test_a_job_may_ask_for_more_members_than_the_charter(self, world: World) -> None:
        body = world.job_body("statistic", documents.statistic()) | {"members_min": 4}
        job = world.ledger.add(world.coordinator, "job", body).leaf
        world.decide(job)
        world.pay(job)
        three = sum_body(world, job, roster=world.ids, survivors=world.ids[:3])
        assert world.ledger.refused(world.coordinator, "sum", three) == "too-few"
        world.ledger.add(world.coordinator, "sum", sum_body(world, job, roster=world.ids))

    def test_nobody_is_on_a_roster_who_had_not_permitted(self, world: World) -> None:
        job = statistic(world)
        for member in world.members[:3]:
            world.ledger.add(member, "decision", documents.decision(job.hex()))
            world.ledger.add(member, "spend", world.spend_body(job))
        body = sum_body(world, job, roster=world.ids, survivors=world.ids[:3])
        assert world.ledger.refused(world.coordinator, "sum", body) == "run-before-approval"
        stranger = sum_body(world, job, roster=[*world.ids[:3], b"\xff" * 32])
        assert world.ledger.refused(world.coordinator, "sum", stranger) == "run-before-approval"

    def test_nobody_is_in_a_sum_who_had_not_paid_for_that_round(self, world: World) -> None:
        job = statistic(world)
        world.decide(job)
        for member in world.members[:3]:
            world.ledger.add(member, "spend", world.spend_body(job))
        body = sum_body(world, job, roster=world.ids)
        assert world.ledger.refused(world.coordinator, "sum", body) == "unpaid"
        silent = sum_body(world, job, roster=world.ids, survivors=world.ids[:3])
        assert world.ledger.refused(world.coordinator, "sum", silent | {"round": 1}) == "unpaid"
        world.ledger.add(world.coordinator, "sum", silent)

    def test_training_is_paid_once_for_all_its_rounds(self, world: World) -> None:
        job = world.start_training()
        for number in (1, 2):
            world.ledger.add(world.coordinator, "sum", sum_body(world, job, roster=world.ids) | {"round": number})
        assert sorted(world.job(job).sums) == [1, 2]

    def test_a_round_is_summed_once_and_not_after_the_end(self, world: World) -> None:
        job = paid_statistic(world)
        world.pay(job, 1)
        body = sum_body(world, job, roster=world.ids)
        world.ledger.add(world.coordinator, "sum", body)
        assert world.ledger.refused(world.coordinator, "sum", body) == "duplicate"
        world.answer(job)
        assert world.ledger.refused(world.coordinator, "sum", body | {"round": 1}) == "duplicate"

    def test_a_result_follows_a_sum_and_ends_the_job(self, world: World) -> None:
        job = paid_statistic(world)
        result = {"job": job.hex(), "document_sha256": documents.HASH}
        assert world.ledger.refused(world.coordinator, "result", result) == "no-sum"
        world.ledger.add(world.coordinator, "sum", sum_body(world, job, roster=world.ids))
        world.answer(job)
        assert world.job(job).ended()
        assert world.ledger.refused(world.coordinator, "result", result) == "no-sum"
        assert world.ledger.refused(world.coordinator, "abort", {"job": job.hex(), "reason": "late"}) == "unknown-job"

    def test_an_aborted_job_has_no_result(self, world: World) -> None:
        job = paid_statistic(world)
        world.ledger.add(world.coordinator, "sum", sum_body(world, job, roster=world.ids))
        abort = {"job": job.hex(), "reason": "stopped"}
        world.ledger.add(world.coordinator, "abort", abort)
        assert world.job(job).ended()
        result = {"job": job.hex(), "document_sha256": documents.HASH}
        assert world.ledger.refused(world.coordinator, "result", result) == "no-sum"
        assert world.ledger.refused(world.coordinator, "abort", abort) == "unknown-job"
