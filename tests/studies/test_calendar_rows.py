"""Patients who are cut at calendar dates are counted once, moved whole, or refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.model_data import hazard_before_observation
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

CALENDAR = bb.Calendar(origin="origin", cuts=["2012-01-01", "2016-01-01"])
QUESTION = bb.Question(exposed="phase", eligible_from="entry")


def read(calendar: bb.Calendar | None = CALENDAR, **changes: Any) -> Cohort:
    return bb.read_cohort(
        pd.read_csv(DATA / "calendar.csv").assign(**changes),
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="days", event="died")},
        phases=bb.Phases(phase="start"),
        covariates=["age"],
        calendar=calendar,
    )


def test_starts_move_in_all_rows_of_a_patient() -> None:
    """Moved after the cut is as moved before it: one error for each start."""
    scenarios = bb.scenarios(read(), QUESTION, {"phase_jitter": [20.0]})
    whole = read(None)
    own = scenarios[1].cohort(read(), seed=3)
    np.testing.assert_array_equal(
        own.whole().phase_start, scenarios[1].cohort(whole, seed=3).phase_start
    )
    from_file = read(start=own.whole().phase_start[:, 0])
    np.testing.assert_array_equal(own.phase_start, from_file.phase_start)
    assert not np.array_equal(own.phase_start, read().phase_start, equal_nan=True)


def test_a_scenario_without_periods_is_the_analysis_without() -> None:
    """Rows are the same person-time; only the covariate is gone."""
    cohort = read()
    without = bb.scenarios(cohort, QUESTION, {"covariates": [["age"]]})[1]
    rows, whole = without.person_time(cohort, seed=0), bb.person_time(read(None), QUESTION)
    np.testing.assert_allclose(rows.cuts, whole.cuts)
    for name in ("events", "person_time"):
        np.testing.assert_allclose(
            rows.table[name].sum("pattern"), whole.table[name].sum("pattern")
        )
    assert without.cohort(cohort, seed=0).whole().size == 60


def test_methods_that_count_patients_give_the_same_numbers() -> None:
    cut, whole = read(), read(None)
    for method in (bb.classical.ever_never, bb.cox):
        pd.testing.assert_frame_equal(method(cut, QUESTION), method(whole, QUESTION), rtol=1e-7)
    pd.testing.assert_frame_equal(
        bb.classical.landmark_analysis(cut, QUESTION, landmarks=[200.0, 500.0]),
        bb.classical.landmark_analysis(whole, QUESTION, landmarks=[200.0, 500.0]),
        rtol=1e-7,
    )
    pd.testing.assert_frame_equal(
        bb.simon_makuch(cut, QUESTION), bb.simon_makuch(whole, QUESTION), rtol=1e-9
    )
    assert hazard_before_observation(cut, QUESTION) == {"os": 0.0}
    weights = pd.Series(np.linspace(0.5, 2.0, 60), index=whole.patients)
    np.testing.assert_allclose(
        bb.person_time(cut, QUESTION, weights=weights).table["person_time"].sum(),
        bb.person_time(whole, QUESTION, weights=weights).table["person_time"].sum(),
    )
    with pytest.raises(SpecError, match="60 patients"):
        bb.person_time(cut, QUESTION, weights=weights[:-1])


def test_a_swimmer_plot_draws_patients() -> None:
    figure = bb.plots.swimmer(read(), "os")
    titles = [figure.axes[0].get_title(loc=side) for side in ("left", "center", "right")]
    assert "OS: 60 patients" in titles


def test_a_fit_is_of_patients() -> None:
    cohort = read()
    settings: dict[str, Any] = {"draws": 300, "tune": 300, "chains": 4, "cores": 1}
    fit = bb.fit(cohort, QUESTION, seed=1, progress=False, **settings)
    assert fit.person_time.persons.size == 60
    assert bb.loo(fit).elpd.sizes["patient"] == 60
    found = bb.influence(fit)
    assert found.sizes["patient"] == 60
    top = bb.checks.most_influential(cohort, found, endpoint="os", count=3)
    assert set(top["patient"]) <= set(cohort.whole().patients)
    curve = bb.survival(fit, landmark=100.0, times=[200.0, 1000.0])
    assert float(curve["survival"].max()) <= 1.0
    words = fit.question.estimand(period=fit.person_time.period)["summary measure"]
    assert words.endswith("held as it is at the start of the curve (period survival)")


def test_what_needs_whole_patients_is_refused() -> None:
    cohort = read()
    with pytest.raises(SpecError, match="read the patients without a calendar"):
        bb.fit(cohort, QUESTION, model="mixture_cure", seed=1, progress=False)
    with pytest.raises(SpecError, match=r"take cohort\.whole\(\)"):
        bb.starting_weights(cohort, QUESTION, endpoint="os")
    with pytest.raises(SpecError, match="read the patients without a calendar"):
        bb.person_time(cohort, QUESTION, courses=("os", "os"))


def test_each_endpoint_ends_at_a_cut_that_it_all_but_meets() -> None:
    """Two ends that differ by rounding are on the day of the cut, each by itself."""
    table = pd.DataFrame(
        {
            "id": ["a", "b"],
            "os": [100.0, 900.0],
            "rfs": [100.005, 50.0],
            "event": [1, 0],
            "start": [20.0, None],
            "origin": ["2011-09-23", "2011-09-23"],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints={name: bb.Endpoint(time=name, event="event") for name in ("os", "rfs")},
        phases=bb.Phases(phase="start"),
        calendar=bb.Calendar(origin="origin", cuts=["2012-01-01"]),
    )
    assert cohort.patients.tolist() == ["a", "b, before 2012-01-01", "b, from 2012-01-01"]
    assert cohort.endpoints["rfs"].time[0] == 100.005
