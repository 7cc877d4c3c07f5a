"""Baselines as PyMC variables have the priors that definitions state."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest

import bayesblina as bb
from bayesblina.hazards.baseline import clock, follow_up_end
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.hazards.parts import RandomWalk
from bayesblina.person_time.cells import PersonTime
from tests.hazards.family import QUESTION


@pytest.fixture(scope="module")
def person_time() -> PersonTime:
    return bb.person_time(bb.simulate.blinatumomab_cohort(seed=3)[0], QUESTION)


@pytest.fixture(scope="module")
def built(person_time: PersonTime) -> BuiltModel:
    return build_model(bb.load_model("primary"), person_time)


def distances(person_time: PersonTime) -> np.ndarray:
    start = person_time.table["interval_start"].values
    events = person_time.table["events"].values.sum(axis=(2, 3))
    return clock(start, follow_up_end(person_time), events)


# The standard error of a standard deviation of n normals is sd / sqrt(2 n).
PRIOR_DRAWS = 5000

SD_TOLERANCE = 4 / np.sqrt(2 * PRIOR_DRAWS)


def test_steps_between_neighbours_have_the_sd_of_the_definition(built: BuiltModel) -> None:
    log_baseline, level, ratio = pm.draw(
        [built.model[name] for name in ("log_baseline", "level", "log_hazard_ratio")],
        draws=PRIOR_DRAWS,
        random_seed=1,
        mode="FAST_COMPILE",
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
        mode="FAST_COMPILE",
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
