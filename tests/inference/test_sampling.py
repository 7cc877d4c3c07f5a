"""The compiled density is PyMC's; structures compile once; seeds reproduce draws."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest

import bayesblina as bb
from bayesblina.hazards.baseline import clock, follow_up_end
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.hazards.ops import BatchedMatrixVector, PiecewiseExponential
from bayesblina.hazards.parts import RandomWalk
from bayesblina.inference.compiling import compiled_of, compiled_structures
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.inference.sampling import _sample_with_pymc, bind, evaluate, sample
from bayesblina.person_time.cells import PersonTime

QUICK = SamplerSettings(draws=50, tune=100, chains=2, cores=2)


@pytest.fixture(scope="module")
def person_time() -> PersonTime:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    return bb.person_time(cohort, question)


@pytest.fixture(scope="module")
def built(person_time: PersonTime) -> BuiltModel:
    return build_model(bb.load_model("primary"), person_time)


def small(seed: int, *, cuts: list[float], covariates: list[str]) -> BuiltModel:
    generator = np.random.default_rng(seed)
    size = 80
    time = generator.exponential(10, size) + 0.1
    start = generator.uniform(0, 12, size)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "time": time,
            "event": generator.integers(0, 2, size),
            "start": np.where(start < time, start, np.nan),
            "arm": generator.choice(["a", "b", "c"], size),
            "age": generator.normal(50, 10, size),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=covariates,
    )
    question = bb.Question(exposed="late", eligible_from="entry")
    return build_model(bb.load_model("primary"), bb.person_time(cohort, question, cuts=cuts))


STRUCTURES: dict[str, Callable[[], BuiltModel]] = {
    "walk, covariates": lambda: small(1, cuts=[2.0, 5.0, 9.0], covariates=["arm", "age"]),
    "walk, no covariates": lambda: small(2, cuts=[3.0, 8.0], covariates=[]),
    "constant, covariates": lambda: small(3, cuts=[], covariates=["arm"]),
    "constant, no covariates": lambda: small(4, cuts=[], covariates=[]),
}


def evaluated(model: BuiltModel, point: np.ndarray) -> np.ndarray:
    """Take a point to all reported variables, by the compiled code."""
    _, variables = evaluate(model, point[None])
    return np.concatenate(
        [variables[name].values.ravel() for name in sorted(variables.data_vars, key=str)]
    )


@pytest.mark.parametrize("path", ["kernel", "graph"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_compiled_density_and_gradient_are_pymcs(name: str, path: str) -> None:
    model = STRUCTURES[name]()
    assert model.make_kernel is not None
    if path == "graph":
        model = replace(model, make_kernel=None, structure=f"{model.structure}, from the graph")
    bound = bind(compiled_of(model), model)
    reference = model.model.logp_dlogp_function(ravel_inputs=True)
    reference.set_extra_values({})
    coordinates = [model.model.rvs_to_values[variable] for variable in model.model.free_RVs]
    extras = [v for v in model.model.unobserved_value_vars if v not in coordinates]
    inner = model.model.compile_fn(
        extras, inputs=coordinates, mode="FAST_COMPILE", on_unused_input="ignore"
    )

    def reported(point: np.ndarray) -> np.ndarray:
        """Take a point to all reported variables, by PyMC."""
        parts, at = {}, 0
        for value in coordinates:
            shape = bound.shapes[value.name]
            size = int(np.prod(shape))
            parts[value.name] = point[at : at + size].reshape(shape)
            at += size
        found = inner(parts)
        names = [extra.name for extra in extras]
        got = {value.name: parts[value.name] for value in coordinates}
        got |= dict(zip(names, found, strict=True))
        free = sorted(name for name in got if not name.endswith("__"))
        return np.concatenate([np.ravel(got[name]) for name in free])

    generator = np.random.default_rng(5)
    for _ in range(20):
        point = np.concatenate(
            [
                np.broadcast_to(
                    model.start.get(variable.name, np.zeros(())),
                    bound.shapes[model.model.rvs_to_values[variable].name],
                ).ravel()
                for variable in model.model.free_RVs
            ]
        ) + generator.normal(0, 0.7, bound.n_dim)
        gradient, value = np.empty(bound.n_dim), np.empty(1)
        status = bound.compiled_logp_func.ctypes(
            bound.n_dim,
            *(
                array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
                for array in (point, gradient, value)
            ),
            bound.user_data.ctypes.data,
        )
        assert status == 0
        expected, slope = reference(point)
        np.testing.assert_allclose(evaluated(model, point), reported(point), rtol=1e-12, atol=1e-12)
        assert value[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)


def drawn(
    generator: np.random.Generator, shape: tuple[int, int, int, int], classes: int
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Inputs of the density: data and parts; and the log hazard of every cell."""
    endpoints, intervals, phases, patterns = shape
    counts = generator.integers(0, 3, shape).astype(float)
    time = generator.uniform(0, 4, shape)
    class_of = generator.integers(0, classes, patterns)
    shared = generator.normal(-1, 1, (endpoints, classes, intervals, phases))
    pattern = generator.normal(-1, 1, (endpoints, patterns))
    events = np.zeros(shared.shape)
    for p, c in enumerate(class_of):
        events[:, c] += counts[..., p]
    log_hazard = np.stack(
        [shared[:, c] + pattern[:, None, None, p] for p, c in enumerate(class_of)]
    )
    by_cell = counts * np.moveaxis(log_hazard, 0, -1) - time * np.exp(
        np.moveaxis(log_hazard, 0, -1)
    )
    data = [events, counts.sum((1, 2)), time, class_of.astype(float)]
    return data, [shared, pattern], by_cell


@pytest.mark.parametrize("classes", [1, 3])
def test_likelihood_kernel_is_its_definition(classes: int) -> None:
    generator = np.random.default_rng(0)
    data, parts, by_cell = drawn(generator, (2, 4, 3, 11), classes)
    values = [*data, *parts]
    inputs = [pytensor.tensor.tensor(dtype="float64", shape=(None,) * v.ndim) for v in values]
    function = pytensor.function(inputs, PiecewiseExponential()(*inputs), mode="NUMBA")
    storage: list[list[Any]] = [[None] for _ in range(3)]
    PiecewiseExponential().perform(None, values, storage)
    for got, (expected,) in zip(function(*values), storage, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert float(storage[0][0]) == pytest.approx(by_cell.sum(), rel=1e-12)
    matrix, vector = generator.normal(size=(2, 3, 4)), generator.normal(size=(2, 4))
    for transposed, right in ((False, vector), (True, generator.normal(size=(2, 3)))):
        op = BatchedMatrixVector(transposed=transposed)
        a, x = pytensor.tensor.dtensor3(), pytensor.tensor.dmatrix()
        got = pytensor.function([a, x], op(a, x), mode="NUMBA")(matrix, right)
        subscripts = "eji,ej->ei" if transposed else "eij,ej->ei"
        np.testing.assert_allclose(got, np.einsum(subscripts, matrix, right), rtol=1e-12)


def test_gradients_match_finite_differences() -> None:
    generator = np.random.default_rng(1)
    data, parts, _ = drawn(generator, (1, 3, 2, 4), 2)

    def density(values: list[np.ndarray]) -> list[np.ndarray]:
        storage: list[list[object]] = [[None] for _ in range(3)]
        PiecewiseExponential().perform(None, [*data, *values], storage)
        return [np.asarray(cell[0]) for cell in storage]

    value, *gradients = density(parts)
    step = 1e-6
    for index, part in enumerate(parts):
        for place in np.ndindex(part.shape):
            moved = [p.copy() for p in parts]
            moved[index][place] += step
            slope = (density(moved)[0] - value) / step
            assert gradients[index][place] == pytest.approx(float(slope), abs=1e-3)


def test_other_data_and_sizes_compile_nothing(built: BuiltModel) -> None:
    sample(built, seed=1, settings=QUICK)
    before = compiled_structures()
    compiled = compiled_of(built)
    other = small(9, cuts=[2.0, 4.0, 6.0, 8.0, 10.0], covariates=["arm", "age"])
    assert other.structure == built.structure
    draws, timing = sample(other, seed=1, settings=QUICK)
    assert compiled_structures() == before
    assert compiled_of(other) is compiled
    assert draws["posterior"]["log_baseline"].shape == (2, 50, 1, 6)
    assert timing["engine"] == "compiled"


def test_same_seed_same_draws(built: BuiltModel) -> None:
    one, _ = sample(built, seed=11, settings=QUICK)
    two, _ = sample(built, seed=11, settings=QUICK)
    other, _ = sample(built, seed=12, settings=QUICK)
    assert one["posterior"].to_dataset().identical(two["posterior"].to_dataset())
    assert not one["posterior"].to_dataset().identical(other["posterior"].to_dataset())


def test_pymcs_own_path_agrees(built: BuiltModel) -> None:
    settings = SamplerSettings(draws=1000, tune=1000, chains=2, cores=2)
    ours, _ = sample(built, seed=1, settings=settings)
    theirs, timing = _sample_with_pymc(built, seed=1, settings=settings)
    assert timing["engine"] == "pymc"
    for name in ("log_hazard_ratio", "level", "walk_innovation"):
        a, b = (tree["posterior"][name] for tree in (ours, theirs))
        spread = np.sqrt(a.var(("chain", "draw")) / 400 + b.var(("chain", "draw")) / 400)
        difference = np.abs(a.mean(("chain", "draw")) - b.mean(("chain", "draw")))
        assert bool((difference < 4 * spread).all())


def distances(person_time: PersonTime) -> np.ndarray:
    start = person_time.table["interval_start"].values
    events = person_time.table["events"].values.sum(axis=(2, 3))
    return clock(start, follow_up_end(person_time), events)


# The standard error of a standard deviation of n normals is sd / sqrt(2 n).
PRIOR_DRAWS = 20_000
SD_TOLERANCE = 4 / np.sqrt(2 * PRIOR_DRAWS)


def test_steps_between_neighbours_have_the_sd_of_the_definition(built: BuiltModel) -> None:
    log_baseline, level, ratio = pm.draw(
        [built.model[name] for name in ("log_baseline", "level", "log_hazard_ratio")],
        draws=PRIOR_DRAWS,
        random_seed=1,
    )
    definition = bb.load_model("primary")
    assert isinstance(definition.baseline, RandomWalk)
    sd = definition.baseline.step.sd
    assert sd == pytest.approx(np.log(20.0) / 1.959964, rel=1e-6)
    steps = np.diff(log_baseline, axis=2)
    np.testing.assert_allclose(steps.std(axis=0), sd, rtol=SD_TOLERANCE)
    # One step says nothing of the next.
    together = np.einsum("dej,dej->ej", steps[:, :, 1:], steps[:, :, :-1]) / PRIOR_DRAWS
    assert np.abs(together / sd**2).max() < 5 / np.sqrt(PRIOR_DRAWS)
    assert level.std(axis=0) == pytest.approx(definition.baseline.level.sd, rel=SD_TOLERANCE)
    assert ratio.std() == pytest.approx(definition.phases.prior.sd, rel=SD_TOLERANCE)


def test_a_curve_models_walk_is_width_aware(person_time: PersonTime) -> None:
    found = build_model(bb.load_model("mixture_cure"), person_time)
    walk_sd, log_baseline = pm.draw(
        [found.model[name] for name in ("walk_sd", "log_baseline")],
        draws=PRIOR_DRAWS,
        random_seed=1,
    )
    scaled = np.diff(log_baseline[:, 0], axis=1) / walk_sd[:, :1]
    expected = np.sqrt(distances(person_time)[0])
    np.testing.assert_allclose(scaled.std(axis=0), expected, rtol=SD_TOLERANCE)


def test_the_walks_clock_by_hand() -> None:
    # Deaths at 1, 2, 3, 4, 12, 20 under cuts at 2, 4, 12: two, two, one and one of six events.
    table = pd.DataFrame(
        {
            "id": range(6),
            "t": [1.0, 2.0, 3.0, 4.0, 12.0, 20.0],
            "d": 1,
            "m": [None, 1.0, None, 2.0, 3.0, None],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(m="m"),
    )
    question = bb.Question(exposed="m", eligible_from="entry")
    apart = distances(bb.person_time(cohort, question, cuts=[2.0, 4.0, 12.0]))
    # Midpoints 1, 3, 8, 16 of 20; events passed at them 1, 3, 4.5, 5.5 of 6.
    time, events = np.array([2, 5, 8]) / 20, np.array([2, 1.5, 1]) / 6
    np.testing.assert_allclose(apart, [(time + events) / 2])
    # A further cut that parts the events of an interval evenly moves no other midpoint.
    finer = distances(bb.person_time(cohort, question, cuts=[2.0, 3.0, 4.0, 12.0]))
    # Midpoints 1, 2.5, 3.5, 8, 16; events passed 1, 2.5, 3.5, 4.5, 5.5.
    expected = (np.array([1.5, 1, 4.5, 8]) / 20 + np.array([1.5, 1, 1, 1]) / 6) / 2
    np.testing.assert_allclose(finer, [expected])
