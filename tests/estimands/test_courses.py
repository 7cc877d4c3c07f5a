"""Averages of illness-death courses against matrix exponentials, patient by patient.

Draws are written down; hazards differ by interval, phase, arm and a score, and arms have baselines
of their own.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.linalg import expm

import bayesblina as bb
from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import EstimandError
from bayesblina.estimands import states
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.transitions import TRANSITIONS
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry", reference="early")
CUTS = [4.0, 9.0]
DRAWS = (2, 3)
LANDMARK = 3.0
SWITCH = bb.From(6.0)
REGIMES: list[bb.Never | bb.From] = [bb.Never(), SWITCH]
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 1.5, 1.0, 3.0, 1.0, 0.25, 1.0])


def table() -> pd.DataFrame:
    """p2 has relapsed by the landmark, p9 comes later, p5 dies before: the others are at risk."""
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(10)],
            "os": [14.0, 11.0, 9.0, 13.0, 6.0, 2.5, 12.0, 8.0, 10.0, 14.0],
            "died": [0, 1, 1, 0, 1, 1, 1, 0, 1, 0],
            "rfs": [14.0, 5.0, 2.0, 7.0, 6.0, 2.5, 10.0, 8.0, 9.5, 14.0],
            "failed": [0, 1, 1, 1, 1, 1, 1, 0, 1, 0],
            "first": [0.0] * 9 + [5.0],
            "early": [0.0] * 10,
            "late": [2.0, 6.0, 1.0, None, None, None, 4.0, None, 3.0, None],
            "arm": ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"],
            "score": [0.0, 1.0, 5.0, -1.0, 2.0, 9.0, -2.0, 0.5, 3.0, 9.0],
        }
    )


def cohort_of() -> bb.Cohort:
    return bb.read_cohort(
        table(),
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died", entry="first"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="first"),
        },
        phases=bb.Phases(early="early", late="late"),
        covariates=["arm", "score"],
    )


@cache
def fit_of() -> Fit:
    stratified = bb.load_model("stratified").with_covariates(stratum="arm")
    model = bb.load_model("illness_death").model_copy(update={"baseline": stratified.baseline})
    person_time = bb.person_time(
        cohort_of(), QUESTION, cuts=CUTS, courses=("os", "rfs"), weights=WEIGHTS
    )
    design = written_fit(person_time, QUESTION, model, xr.Dataset()).design
    assert design.strata == ("a", "b")
    random = np.random.default_rng(5)
    over = ("chain", "draw", "endpoint")
    posterior = xr.Dataset(
        {
            "log_baseline": (
                (*over, "stratum", "interval"),
                random.normal(-2.0, 0.7, (*DRAWS, 3, 2, 3)),
            ),
            "log_hazard_ratio": (
                (*over, "effect"),
                random.normal(0.3, 0.7, (*DRAWS, 3, len(design.effects))),
            ),
            "coefficient": (
                (*over, "term"),
                random.normal(0.0, 0.6, (*DRAWS, 3, len(design.term_names))),
            ),
        },
        coords={"chain": [0, 1], "draw": [4, 5, 6], "endpoint": list(TRANSITIONS)},
    )
    return written_fit(person_time, QUESTION, model, posterior)


@cache
def patients_of(switch: float | None, arm: str | None = None) -> "Patients":
    return Patients(switch, arm)


class Patients:
    """Those at risk at the landmark: what becomes of each, by one product of matrices."""

    def __init__(self, switch: float | None, arm: str | None = None) -> None:
        fit = fit_of()
        people = fit.person_time.people
        design = fit.design
        ids = people["patient"].values.tolist()
        self.rows = [
            (ids.index(f"p{row}"), WEIGHTS[row])
            for row in (0, 1, 3, 4, 6, 7, 8)
            if arm in (None, table()["arm"][row])
        ]
        self.pattern = people["pattern"].values
        self.design = design
        self.baseline, self.ratio, self.slope = (
            fit.posterior[name].values
            for name in ("log_baseline", "log_hazard_ratio", "coefficient")
        )
        self.switch = np.inf if switch is None else switch
        treated = fit.person_time.table["role"].values.tolist()
        self.effects = {
            late: design.contrast[treated.index("exposed" if late else "reference")]
            for late in (False, True)
        }

    def rate(
        self, draw: tuple[int, int], pattern: int, transition: int, time: float, *, late: bool
    ) -> float:
        """Hazard of a transition at a time that is no cut."""
        place = (*draw, transition)
        stratum, interval = self.design.class_of[pattern], np.searchsorted(CUTS, time)
        log_relative = self.design.terms[pattern] @ self.slope[place]
        log_relative += self.effects[late] @ self.ratio[place]
        return float(np.exp(self.baseline[(*place, stratum, interval)] + log_relative))

    def generator(self, draw: tuple[int, int], pattern: int, time: float) -> Floats:
        """Remission; relapsed before and after the switch; dead after remission and relapse."""
        late = time > self.switch
        relapse, dying = (
            self.rate(draw, pattern, transition, time, late=late) for transition in (0, 1)
        )
        found = np.zeros((5, 5))
        found[0, 2 if late else 1], found[0, 3] = relapse, dying
        for state, entered in ((1, False), (2, True)):
            found[state, 4] = self.rate(draw, pattern, 2, time, late=entered)
        return found - np.diag(found.sum(axis=1))

    def after(self, draw: tuple[int, int], time: float) -> tuple[Floats, Floats, Floats]:
        """Averages of the five states' probabilities, of their integrals, and of what leaves them.

        What leaves: relapses, deaths in remission and deaths after relapse, just before the time.
        """
        points = [LANDMARK, *CUTS, self.switch]
        knots = sorted({time, *(point for point in points if LANDMARK <= point < time)})
        total, states_, spent, leaving = 0.0, np.zeros(5), np.zeros(5), np.zeros(3)
        for row, weight in self.rows:
            pattern = int(self.pattern[row])
            both = np.concatenate([np.eye(5)[0], np.zeros(5)])
            one = np.zeros((5, 5))
            for left, right in pairwise(knots):
                one = self.generator(draw, pattern, (left + right) / 2.0)
                integrated = np.block([[one, np.eye(5)], [np.zeros((5, 10))]])
                both = both @ expm(integrated * (right - left))
            flow = both[:5, None] * np.maximum(one, 0.0)
            total += weight
            states_ += weight * both[:5]
            spent += weight * both[5:]
            leaving += weight * np.array([flow[0, 1:3].sum(), flow[0, 3], flow[1:3, 4].sum()])
        return states_ / total, spent / total, leaving / total


def places() -> list[tuple[int, int]]:
    return list(np.ndindex(*DRAWS))


class Average:
    """What the package gives for one endpoint under one regime, all draws in front."""

    def __init__(self, regime: int, *, of_death: bool) -> None:
        self.place = {
            "endpoint": "os" if of_death else "rfs",
            "regime": ("never", "from 6")[regime],
        }

    def _of(self, found: xr.DataArray) -> Floats:
        values = found.sel(self.place).values
        return values.reshape(-1, *values.shape[2:])

    def survival(self, times: Any) -> Floats:
        found = bb.survival(fit_of(), regimes=REGIMES, times=times, landmark=LANDMARK)
        return self._of(found["survival"])

    def hazard(self, times: Any) -> Floats:
        found = bb.hazard(fit_of(), regimes=REGIMES, times=times, landmark=LANDMARK)
        return self._of(found["hazard"])

    def restricted_mean(self, horizon: float) -> Floats:
        found = bb.rmst(fit_of(), horizon=horizon, regimes=REGIMES, landmark=LANDMARK)
        return self._of(found["rmst"])

    def quantile(self, level: float, horizon: float) -> tuple[Floats, Bools]:
        found = bb.survival_quantile(
            fit_of(), survival=level, horizon=horizon, regimes=REGIMES, landmark=LANDMARK
        )
        return self._of(found["quantile"]), self._of(found["reached"]).astype(np.bool_)


TIMES = np.array([3.0, 5.0, 6.0, 8.0, 13.0])


@pytest.mark.parametrize("regime", [0, 1])
@pytest.mark.parametrize("of_death", [True, False])
def test_survival_and_hazard(regime: int, of_death: bool) -> None:
    found = Average(regime, of_death=of_death)
    survival, hazard = found.survival(TIMES), found.hazard(TIMES[1:])
    patients = patients_of((None, 6.0)[regime])
    for index, draw in enumerate(places()):
        for place, time in enumerate(TIMES.tolist()):
            state, _, leaving = patients.after(draw, time)
            alive = state[:3].sum() if of_death else state[0]
            np.testing.assert_allclose(survival[index, place], alive, rtol=1e-9)
            if not place:
                continue
            # Deaths from wherever, or relapses and deaths from remission.
            event = leaving[1:].sum() if of_death else leaving[:2].sum()
            np.testing.assert_allclose(hazard[index, place - 1], event / alive, rtol=1e-9)


@pytest.mark.parametrize("regime", [0, 1])
@pytest.mark.parametrize("horizon", [5.0, 11.0])
def test_restricted_means(regime: int, horizon: float) -> None:
    patients = patients_of((None, 6.0)[regime])
    for of_death in (True, False):
        found = Average(regime, of_death=of_death).restricted_mean(horizon)
        for index, draw in enumerate(places()):
            spent = patients.after(draw, horizon)[1]
            expected = spent[:3].sum() if of_death else spent[0]
            np.testing.assert_allclose(found[index], expected, rtol=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("horizon", [5.5, 12.0])
def test_quantiles_are_where_the_curve_is_at_the_level(level: float, horizon: float) -> None:
    for regime, of_death in ((0, False), (1, True), (1, False)):
        average = Average(regime, of_death=of_death)
        time, reached = average.quantile(level, horizon)
        last = average.survival([horizon])[:, 0]
        np.testing.assert_array_equal(reached, last <= level)
        assert (time[~reached] == np.inf).all()
        assert (time > LANDMARK).all()
        assert (time[reached] <= horizon).all()
        for index in np.flatnonzero(reached):
            at = average.survival([time[index]])[index, 0]
            np.testing.assert_allclose(at, level, rtol=1e-9)


def test_quantiles_at_knots() -> None:
    """The level is that of the curve at a cut, and at the horizon itself."""
    average = Average(1, of_death=True)
    for knot in (4.0, 6.0, 9.0):
        levels = average.survival([knot])[:, 0]
        for index, level in enumerate(levels.tolist()):
            time, _ = average.quantile(level, 12.0)
            assert time[index] == pytest.approx(knot, rel=1e-9)
    level = float(average.survival([12.0])[0, 0])
    time, reached = average.quantile(level * (1.0 + 1e-12), 12.0)
    assert reached[0]
    assert time[0] == pytest.approx(12.0, rel=1e-9)


def test_some_draws_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One draw at once, a few, and all of them."""

    def everything() -> list[Floats | Bools]:
        found: list[Floats | Bools] = []
        for of_death in (True, False):
            average = Average(1, of_death=of_death)
            found += [average.survival(TIMES), average.hazard(TIMES)]
            found += [average.restricted_mean(11.0), *average.quantile(0.6, 12.0)]
        occupied = bb.state_occupancy(fit_of(), regimes=REGIMES, times=TIMES, landmark=LANDMARK)
        return [*found, occupied["probability"].values]

    whole = everything()
    for size in (1, 400, 1000):
        monkeypatch.setattr(states, "BLOCK", size)
        for one, other in zip(everything(), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


STATES = ["in remission", "alive after relapse", "dead in remission", "dead after relapse"]


def summed(state: Floats) -> list[float]:
    return [state[0], state[1] + state[2], state[3], state[4]]


@pytest.mark.parametrize("by", [None, "arm"])
def test_probabilities_of_states(by: str | None) -> None:
    fit = fit_of()
    found = bb.state_occupancy(fit, regimes=REGIMES, times=TIMES, landmark=LANDMARK, by=by)
    subgroups = [] if by is None else ["subgroup"]
    probability = found["probability"]
    assert probability.dims == ("chain", "draw", *subgroups, "regime", "time", "state")
    assert probability["chain"].values.tolist() == [0, 1]
    assert probability["draw"].values.tolist() == [4, 5, 6]
    assert probability["regime"].values.tolist() == ["never", "from 6"]
    assert probability["time"].values.tolist() == TIMES.tolist()
    assert probability["state"].values.tolist() == STATES
    arms: list[str | None] = [None] if by is None else ["a", "b"]
    for arm in arms:
        mine = probability if arm is None else probability.sel(subgroup=arm)
        relapsed = found["relapse_probability"]
        relapsed = relapsed if arm is None else relapsed.sel(subgroup=arm)
        for regime, switch in enumerate((None, 6.0)):
            patients = patients_of(switch, arm)
            for chain, draw in places():
                for index, time in enumerate(TIMES.tolist()):
                    expected = summed(patients.after((chain, draw), time)[0])
                    got = mine.values[chain, draw, regime, index]
                    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
                    np.testing.assert_allclose(
                        relapsed.values[chain, draw, regime, index],
                        expected[1] + expected[3],
                        rtol=1e-9,
                        atol=1e-12,
                    )
    assert "state" not in found["relapse_probability"].coords
    assert found.attrs["landmark"] == LANDMARK
    assert found.attrs["population"] == "eligible patients at risk at the landmark" + (
        "" if by is None else ", by arm"
    )


def test_times_by_default() -> None:
    """51 from the landmark to the end of follow-up."""
    found = bb.state_occupancy(fit_of(), landmark=LANDMARK)
    np.testing.assert_allclose(found["time"].values, np.linspace(LANDMARK, 14.0, 51))
    assert found["regime"].values.tolist() == ["never"]


@pytest.mark.parametrize("by", [None, "arm"])
def test_time_in_states(by: str | None) -> None:
    found = bb.time_in_states(fit_of(), horizon=11.0, regimes=REGIMES, landmark=LANDMARK, by=by)
    time = found["time"]
    subgroups = [] if by is None else ["subgroup"]
    assert time.dims == ("chain", "draw", *subgroups, "regime", "state")
    assert time["state"].values.tolist() == STATES[:2]
    arms: list[str | None] = [None] if by is None else ["a", "b"]
    for arm in arms:
        mine = time if arm is None else time.sel(subgroup=arm)
        for regime, switch in enumerate((None, 6.0)):
            patients = patients_of(switch, arm)
            for chain, draw in places():
                expected = summed(patients.after((chain, draw), 11.0)[1])[:2]
                np.testing.assert_allclose(mine.values[chain, draw, regime], expected, rtol=1e-9)
    assert (found.attrs["horizon"], found.attrs["landmark"]) == (11.0, LANDMARK)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "flat sequence of finite numbers"),
        ([4.0, np.inf], "flat sequence of finite numbers"),
        ([[4.0]], "flat sequence of finite numbers"),
        ([2.9], r"between the landmark 3 and the end of follow-up, 14: nothing is extrapolated"),
        ([14.1], r"between the landmark 3 and the end of follow-up, 14: nothing is extrapolated"),
    ],
)
def test_impossible_times(times: Any, message: str) -> None:
    with pytest.raises(EstimandError, match=message):
        bb.state_occupancy(fit_of(), times=times, landmark=LANDMARK)
    # Beyond follow-up by rounding is its end.
    bb.state_occupancy(fit_of(), times=[14.0 * (1.0 + 1e-10)], landmark=LANDMARK)


def test_impossible_calls() -> None:
    with pytest.raises(EstimandError, match="horizon must lie after the landmark 3"):
        bb.time_in_states(fit_of(), horizon=3.0, landmark=LANDMARK)
    for estimate, more in ((bb.state_occupancy, {}), (bb.time_in_states, {"horizon": 9.0})):
        with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
            estimate("fit", **more)  # type: ignore[arg-type]
    fit = fit_of()
    person_time = bb.person_time(
        bb.read_cohort(
            table(),
            patient="id",
            unit="months",
            endpoints={"os": bb.Endpoint(time="os", event="died")},
            phases=bb.Phases(early="early", late="late"),
        ),
        QUESTION,
        cuts=CUTS,
    )
    other = written_fit(person_time, QUESTION, bb.load_model("primary"), fit.posterior)
    with pytest.raises(EstimandError, match="'primary' has no states: relapse and death are told"):
        bb.state_occupancy(other, landmark=LANDMARK)


def test_groups_that_differ_in_each_transition_are_not_averaged() -> None:
    fit = fit_of()
    plain = bb.load_model("illness_death")
    groups = bb.load_model("frailty").with_covariates(group="arm").groups
    model = plain.model_copy(update={"groups": groups})
    other = written_fit(fit.person_time, QUESTION, model, fit.posterior)
    with pytest.raises(EstimandError, match="groups that differ in each transition"):
        bb.state_occupancy(other, landmark=LANDMARK, population={"score": 1.0})


def test_time_in_states_of_patients_whose_weights_differ_by_draw() -> None:
    """Single patients have effects of their own, and each draw an sd: the integral of occupancy."""
    fit = fit_of()
    groups = bb.load_model("patient_frailty").groups
    model = fit.definition.model_copy(update={"groups": groups})
    sds = xr.DataArray(
        [[[0.2], [0.5], [0.8]], [[1.0], [1.2], [0.4]]], dims=("chain", "draw", "shape")
    )
    posterior = fit.posterior.assign(patient_sd=sds)
    apart = bb.person_time(
        cohort_of(), QUESTION, cuts=CUTS, courses=("os", "rfs"), weights=WEIGHTS, by_patient=True
    )
    other = written_fit(apart, QUESTION, model, posterior)
    given: dict[str, Any] = {
        "regimes": REGIMES,
        "landmark": LANDMARK,
        "population": {"arm": "b", "score": 1.0},
    }
    spent = bb.time_in_states(other, horizon=11.0, **given)["time"]
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.array([LANDMARK, 4.0, 6.0, 9.0, 11.0])
    half = np.diff(edges)[:, None] / 2.0
    times = (edges[:-1, None] + half * (nodes + 1.0)).ravel()
    occupied = bb.state_occupancy(other, times=times, **given)["probability"]
    expected = occupied.isel(state=[0, 1]) * xr.DataArray((half * weights).ravel(), dims="time")
    np.testing.assert_allclose(spent.values, expected.sum("time").values, rtol=1e-9)
    alike = bb.time_in_states(fit, horizon=11.0, **given)["time"]
    assert (abs(spent / alike - 1.0).sel(state="in remission") > 1e-3).all()
