"""Event histories drawn for calibration: closed forms, and nothing lost of follow-up."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.replicates import Drawer, PotentialTime, draw_courses, flow_of
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.hazards.definition import model_names
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.transitions import TRANSITIONS
from bayesblina.studies.calibration import NARROWED, calibrate, narrowed

QUESTION = bb.Question(exposed="m", eligible_from="entry")


def flow_of_equal_patients(count: int, lengths: list[float]) -> PotentialTime:
    parts = len(lengths)
    return PotentialTime(
        patient=np.repeat(np.arange(count), parts),
        first=np.tile(np.arange(parts) == 0, count),
        interval=np.tile(np.arange(parts), count),
        state=np.zeros(count * parts, dtype=np.int64),
        length=np.tile(np.asarray(lengths), count),
    )


def test_courses_have_the_closed_form_of_constant_hazards() -> None:
    """Counts and times against integrals by hand; tolerances are binomial and t errors."""
    count, lengths = 40_000, [1.5, 0.5, 3.0, 5.0]
    one, two, three, end = 0.12, 0.05, 0.3, 10.0
    flow = flow_of_equal_patients(count, lengths)
    rates = [np.full(flow.patient.size, rate) for rate in (one, two, three)]
    drawn = draw_courses(flow, rates[0], rates[1], rates[2], np.random.default_rng(4))
    both = one + two
    relapsed = one / both * (1 - math.exp(-both * end))
    died_first = two / both * (1 - math.exp(-both * end))
    # In state 'relapsed' at the end: relapse at s, alive for the rest.
    alive_after = one / (both - three) * (math.exp(-three * end) - math.exp(-both * end))
    expected = (relapsed, died_first, relapsed - alive_after)
    for (events, _), share in zip(drawn, expected, strict=True):
        error = math.sqrt(share * (1 - share) / count)
        assert events.sum() / count == pytest.approx(share, abs=4 * error)
    # Times at risk: events over hazards, by the martingale, have that expectation.
    for (events, time), rate in zip(drawn, (one, two, three), strict=True):
        assert events.sum() / rate == pytest.approx(
            time.sum(), abs=4 * math.sqrt(events.sum()) / rate
        )


def test_time_after_relapse_begins_at_the_relapse_drawn() -> None:
    flow = flow_of_equal_patients(500, [1.0, 2.0, 4.0])
    rates = np.full(flow.patient.size, 0.1)
    relapse, death, after = draw_courses(flow, rates, rates, rates, np.random.default_rng(1))

    def by_patient(values: Floats) -> Floats:
        return values.reshape(-1, 3)

    had, first = by_patient(relapse[0]).sum(axis=1) > 0, by_patient(relapse[1])
    np.testing.assert_array_equal(relapse[1], death[1])
    later = by_patient(after[1])
    # Who has no relapse is never at risk after one; who has and lives on is so to the end.
    assert later[~had].sum() == 0.0
    lives = had & (by_patient(after[0]).sum(axis=1) == 0)
    assert lives.sum() > 50
    np.testing.assert_allclose((first + later)[lives], np.tile([1.0, 2.0, 4.0], (lives.sum(), 1)))
    assert ((first + later) <= np.array([1.0, 2.0, 4.0]) + 1e-12).all()
    # No more than one relapse or death in remission, and no death after one without it.
    ended = by_patient(relapse[0] + death[0]).sum(axis=1)
    assert set(np.unique(ended)) <= {0.0, 1.0}
    assert not (by_patient(after[0]).sum(axis=1) > 0)[~had].any()


def courses(count: int = 60, seed: int = 5) -> bb.Cohort:
    """Patients of this test's own, some of whom relapse and some start a phase after it."""
    random = np.random.default_rng(seed)
    relapse, death = random.exponential(12.0, count), random.exponential(30.0, count)
    death = np.where(relapse < death, relapse + random.exponential(6.0, count), death)
    censored, start = random.uniform(8.0, 30.0, count), random.uniform(1.0, 15.0, count)
    end = np.minimum(death, censored)
    free = np.minimum(relapse, end)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(count)],
            "os": end,
            "died": (death <= censored).astype(int),
            "rfs": free,
            "failed": ((relapse < end) | (death <= censored)).astype(int),
            "m": np.where((start < end) & (random.random(count) < 0.7), start, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed"),
        },
        phases=bb.Phases(m="m"),
        synthetic=True,
    )


def test_follow_up_of_a_course_is_that_of_the_patient() -> None:
    cohort = courses()
    model = bb.load_model("illness_death")
    person_time = person_time_for(model, cohort, QUESTION)
    assert person_time.endpoints == TRANSITIONS
    flow = flow_of(person_time, TRANSITIONS)
    followed = np.bincount(flow.patient, flow.length, minlength=cohort.size)
    np.testing.assert_allclose(followed, cohort.endpoints["os"].time)
    # The phase is that of the calendar, whether before the relapse or after it.
    start = cohort.phase_start[:, 0]
    exposed = np.bincount(flow.patient, flow.length * (flow.state == 1), minlength=cohort.size)
    wanted = np.where(np.isfinite(start), cohort.endpoints["os"].time - start, 0.0)
    np.testing.assert_allclose(exposed, wanted)
    built = build_model(narrowed(model), person_time)
    truth = draw_prior(built, seed=1, draws=3)
    drawn = Drawer.of(model, person_time, built, truth).draw(1, np.random.default_rng(2))
    np.testing.assert_allclose(drawn.time[0], drawn.time[1])
    assert drawn.events[2].sum() <= drawn.events[0].sum()
    assert drawn.time[0].sum() + drawn.time[2].sum() <= followed.sum() + 1e-9


def test_narrower_priors_leave_patients_of_both_kinds() -> None:
    """Under the model's own prior most draws have nobody alive at 24 months, or everybody."""
    person_time = bb.person_time(courses(), QUESTION)
    absurd = {}
    primary = bb.load_model("primary")
    for name, model in (("own", primary), ("narrow", narrowed(primary))):
        truth = draw_prior(build_model(model, person_time), seed=3, draws=400)
        hazard = np.exp(np.minimum(truth["log_baseline"].sel(endpoint="os").values[0], 300.0))
        alive = np.exp(-hazard @ lengths(person_time, 24.0))
        absurd[name] = ((alive < 0.005) | (alive > 0.995)).mean()
    assert absurd["own"] > 0.5
    assert absurd["narrow"] < 0.03


def lengths(person_time: bb.PersonTime, until: float) -> Floats:
    start = np.concatenate([[0.0], person_time.cuts])
    return np.asarray(np.clip(until, start, np.append(person_time.cuts, np.inf)) - start)


@pytest.mark.parametrize("name", model_names())
def test_every_model_says_what_is_narrowed(name: str) -> None:
    model = bb.load_model(name)
    narrow = narrowed(model)
    for key, prior in narrow.priors.items():
        if key in NARROWED:
            assert list(prior.hazard_ratio) == NARROWED[key]
        else:
            assert prior == model.priors[key]


@pytest.mark.slow
@pytest.mark.parametrize("pilot", [False, True])
@pytest.mark.parametrize("name", ["primary", "illness_death"])
def test_small_cohorts_are_calibrated(name: str, pilot: bool) -> None:
    model = bb.load_model(name)
    person_time = person_time_for(model, courses(), QUESTION, cuts=[3.0, 8.0, 15.0])
    found = calibrate(
        model if pilot else narrowed(model), person_time, seed=2, replications=150, pilot=pilot
    )
    assert found.passed, found.table.sort_values("p_value").head()


def test_a_pilot_tells_a_wrong_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are drawn at twice the hazard: the level of the truth lies too low."""
    model = bb.load_model("primary")
    person_time = person_time_for(model, courses(), QUESTION, cuts=[8.0])
    rate = Drawer._rate
    monkeypatch.setattr(Drawer, "_rate", lambda *given: 2.0 * rate(*given))
    found = calibrate(model, person_time, seed=2, replications=20, pilot=True)
    assert not found.passed


def test_no_pilot_for_cured_patients() -> None:
    model = bb.load_model("mixture_cure")
    with pytest.raises(SpecError, match="from its prior"):
        calibrate(model, person_time_for(model, courses(), QUESTION), seed=1, pilot=True)
