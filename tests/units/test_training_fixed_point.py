import numpy as np
import pytest

from node.training.fixed_point import CLIP, decode, encode, vector_length
from node.training.model_digest import archive, flatten, load_archive, model_digest, unflatten
from node.training.ports import Plan, TrainingError


def plan(members: int = 4, examples_max: int = 50_000) -> Plan:
    return Plan(2, members, examples_max, ("loss",), ("utility-000",))


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_of_vectors_decodes_to_the_weighted_mean_within_the_stated_bound(seed: int) -> None:
    random = np.random.default_rng(seed)
    members = int(random.integers(2, 8))
    job = plan(members, int(random.integers(1_000, 2**28)))
    counts = random.integers(1, job.examples_max + 1, members)
    models = random.normal(0, 5, (members, 200))
    losses = random.normal(0, 1, members)
    vectors = [encode(job, m, int(n), [loss]) for m, n, loss in zip(models, counts, losses, strict=True)]
    mean = decode(job, np.sum(vectors, axis=0, dtype=np.uint32), 1)
    bound = members / 2 / 2**24 * job.examples_max / counts.sum() * (1 + 1e-6)
    expected = np.average(np.clip(models, -CLIP, CLIP), axis=0, weights=counts)
    assert np.abs(mean.weights - expected).max() <= bound
    assert mean.examples == counts.sum()
    assert abs(mean.metrics[0] - np.average(losses, weights=counts)) <= bound
    assert len(vectors[0]) == vector_length(200, 1)


@pytest.mark.parametrize("extreme", [1e300, -1e300])
def test_seven_members_at_the_clipping_bound_do_not_overflow(extreme: float) -> None:
    job = plan(7, 2**28)
    vector = encode(job, np.full(3, extreme), job.examples_max, [extreme])
    mean = decode(job, np.sum([vector] * 7, axis=0, dtype=np.uint32), 1)
    assert mean.weights.tolist() == [np.sign(extreme) * CLIP] * 3
    assert mean.examples == 7 * 2**28


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_in_models_and_metrics(bad: float) -> None:
    with pytest.raises(TrainingError):
        encode(plan(), np.array([0.0, bad]), 10, [0.0])
    with pytest.raises(TrainingError):
        encode(plan(), np.array([0.0]), 10, [bad])


@pytest.mark.parametrize("examples", [0, -1, 50_001])
def test_counts_outside_the_declared_range_are_refused(examples: int) -> None:
    with pytest.raises(TrainingError):
        encode(plan(), np.zeros(1), examples, [0.0])


def test_a_sum_without_examples_or_with_too_many_is_refused() -> None:
    for count in (0, 4 * 50_000 + 1, 2**31 + 5):
        with pytest.raises(TrainingError):
            decode(plan(), np.array([0, count, 0], np.uint32), 1)


def test_a_plan_survives_json_and_refuses_what_could_overflow_or_is_unknown() -> None:
    job = Plan(3, 4, 1000, ("a",), ("b",), {"rounds": 3, "name": "x", "flag": True})
    assert Plan.from_dict(job.to_dict()) == job
    good = job.to_dict()
    bad = [
        {**good, "extra": 1},
        {**good, "members_max": 8},
        {**good, "examples_max": 2**31 // 4},
        {**good, "rounds": 30},
        {**good, "rounds": True},
        {**good, "train_metrics": ["a", "a"]},
        {**good, "train_metrics": ["num-examples"]},
        {**good, "run_config": {"rate": 0.5}},
    ]
    for value in bad:
        with pytest.raises(TrainingError):
            Plan.from_dict(value)


def test_a_model_digest_depends_on_names_shapes_dtypes_bytes_and_order() -> None:
    model = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}
    others = [
        {"c": model["a"], "b": model["b"]},
        {"a": model["a"].reshape(2, 3), "b": model["b"]},
        {"a": model["a"].astype(np.float64), "b": model["b"]},
        {"a": model["a"] + 1, "b": model["b"]},
        {"b": model["b"], "a": model["a"]},
    ]
    digests = {model_digest(value) for value in [model, *others]}
    assert len(digests) == 6
    assert model_digest({name: array.astype(">f4") for name, array in model.items()}) == model_digest(model)
    with pytest.raises(TrainingError):
        model_digest({"a": np.array(["text"])})


def test_models_flatten_and_archive_without_loss() -> None:
    model = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float64)}
    again = unflatten(model, flatten(model))
    stored = load_archive(archive(model))
    for name, array in model.items():
        assert np.array_equal(again[name], array)
        assert again[name].dtype == array.dtype
        assert np.array_equal(stored[name], array)
