"""Patients who are averaged over, as hazards relative to the mean: by hand.

Draws are written down. Some are cured, or belong to new groups: what being event-free at the
landmark says of them hangs on how long they were observed before.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.estimands import populations
from bayesblina.estimands.populations import _spans_before
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.log_hazards import new_group_nodes
from bayesblina.inference.fitting import Fit
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CURE = bb.load_model("mixture_cure")
CUTS = np.array([2.0, 4.0])
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.5])
# Of rfs: p4 comes after the landmark, p5 never.
BEGIN = {"os": np.zeros(6), "rfs": np.array([0.0, 1.0, 1.0, 3.0, 6.0, np.nan])}
LATE = np.array([1.5, np.nan, 4.5, np.nan, 7.0, np.nan])
ARMS = ["a", "b", "a", "b", "b", "a"]
LANDMARK = 5.0


def cohort_of(*covariates: str) -> bb.Cohort:
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(6)],
            "time": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
            "died": [1, 0, 1, 0, 1, 0],
            "remission": BEGIN["rfs"],
            "late": LATE,
            "arm": ARMS,
            "source": ["current", "current", "old", "current", "old", "current"],
            "score": [0.0, 1.5, 3.0, -1.0, 2.0, 0.5],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died"),
            "rfs": bb.Endpoint(time="time", event="died", entry="remission"),
        },
        phases=bb.Phases(late="late"),
        covariates=list(covariates),
    )


def fit_of(
    *covariates: str, model: ModelDefinition = CURE, posterior: Any = None, **how: Any
) -> Fit:
    person_time = bb.person_time(
        cohort_of(*covariates), QUESTION, cuts=CUTS, weights=WEIGHTS, **how
    )
    draws = xr.Dataset(posterior or {}, coords={"endpoint": ["os", "rfs"]})
    return written_fit(person_time, QUESTION, model, draws)


# Time under observation before a landmark.


@pytest.mark.parametrize(
    ("endpoint", "landmark", "share", "spans"),
    [
        # p0 from 0; p1 and p2 from 1; p3 from 3: the longest first, with their weights.
        ("rfs", 5.0, [1.0, 2.5, 1.0], [[2, 2, 1], [1, 2, 1], [0, 1, 1]]),
        # Whoever comes at the landmark has come.
        ("rfs", 1.0, [1.0, 2.5], [[1, 0, 0], [0, 0, 0]]),
        ("os", 3.0, [9.0], [[2, 1, 0]]),
    ],
)
def test_time_before_a_landmark(
    endpoint: str, landmark: float, share: list[float], spans: list[list[float]]
) -> None:
    fit = fit_of("arm")
    shares, times = _spans_before(fit.person_time, fit.design, endpoint, landmark)
    np.testing.assert_allclose(shares, np.array(share) / sum(share), rtol=1e-12)
    np.testing.assert_allclose(times, spans, rtol=1e-12)


def test_nobody_came_before_the_landmark() -> None:
    fit = fit_of("arm")
    shares, times = _spans_before(fit.person_time, fit.design, "rfs", -1.0)
    assert (shares.tolist(), times.tolist()) == ([1.0], [[0.0, 0.0, 0.0]])


def test_many_entries_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of equal share: 1 of 4.5 is in the first, whose middle is before the half."""
    monkeypatch.setattr(populations, "ENTRIES", 2)
    fit = fit_of("arm")
    shares, times = _spans_before(fit.person_time, fit.design, "rfs", LANDMARK)
    np.testing.assert_allclose(shares, [1.0 / 4.5, 3.5 / 4.5], rtol=1e-12)
    together = (2.5 * np.array([1.0, 2.0, 1.0]) + np.array([0.0, 1.0, 1.0])) / 3.5
    np.testing.assert_allclose(times, [[2.0, 2.0, 1.0], together], rtol=1e-12)
    # As many entries as groups stay apart.
    monkeypatch.setattr(populations, "ENTRIES", 3)
    shares, _ = _spans_before(fit.person_time, fit.design, "rfs", LANDMARK)
    assert shares.size == 3


def test_entries_are_put_together_by_the_middle_of_their_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 7.5 the middles are 0.5, 2.25, 4 and 6: thirds end at 2.5 and 5."""
    monkeypatch.setattr(populations, "ENTRIES", 3)
    fit = fit_of("arm")
    shares, times = _spans_before(fit.person_time, fit.design, "rfs", 6.0)
    np.testing.assert_allclose(shares, np.array([3.5, 1.0, 3.0]) / 7.5, rtol=1e-12)
    first = (np.array([2.0, 2.0, 2.0]) + 2.5 * np.array([1.0, 2.0, 2.0])) / 3.5
    expected = np.stack([first, np.array([0.0, 1.0, 2.0]), np.zeros(3)])
    np.testing.assert_allclose(times, expected, rtol=1e-12)


@pytest.mark.parametrize(("score", "more"), [(3.0, ""), (-1.0, ""), (3.1, 1), (-1.1, 1)])
def test_supplied_patients_outside_the_range_are_counted(score: float, more: Any) -> None:
    fit = fit_of("score", posterior=CURED)
    found = bb.survival(fit, times=[5.5], landmark=LANDMARK, population={"score": score})
    words = f" ({more} outside the range of the patients fitted)" if more else ""
    assert found.attrs["population"] == f"a patient with score {score}{words}"


def test_external_patients_came_at_other_times() -> None:
    """p2 is external, and p4, who comes later; p5, who never does, tells nothing."""
    borrowing = bb.load_model("robust_mixture").with_covariates(source="source").borrowing
    model = bb.load_model("primary").model_copy(update={"borrowing": borrowing})
    fit = fit_of("arm", "source", model=model)
    assert fit.design.sources
    shares, times = _spans_before(fit.person_time, fit.design, "rfs", LANDMARK)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], rtol=1e-12)
    np.testing.assert_allclose(times, [[2, 2, 1], [1, 2, 1], [0, 1, 1]], rtol=1e-12)


def test_entries_of_compressed_patients() -> None:
    """They have no pattern of their own; when they came is known all the same."""
    fit = fit_of("score", model=bb.load_model("primary"), compress=True)
    assert fit.person_time.compression is not None
    shares, _ = _spans_before(fit.person_time, fit.design, "rfs", LANDMARK)
    np.testing.assert_allclose(shares, np.array([1.0, 2.5, 1.0]) / 4.5, rtol=1e-12)


# Averages over those who may be cured.

BASELINE = {"os": [-2.0, -1.5, -1.0], "rfs": [-1.0, -2.5, -0.5]}
RATIO = {"os": -0.7, "rfs": 0.4}
SLOPE = {"os": 0.5, "rfs": -0.3}
ODDS = {"os": -0.4, "rfs": 0.6}
ODDS_SLOPE = {"os": 0.8, "rfs": -0.5}
EDGES = np.array([0.0, 2.0, 4.0, np.inf])


def over(values: dict[str, Any], *dims: str) -> Any:
    """Lay out what one draw has for each endpoint."""
    table = np.array([values["os"], values["rfs"]], dtype=float)
    shape = (1, 1, *table.shape, *([1] * (len(dims) - (table.ndim - 1))))
    return ("chain", "draw", "endpoint", *dims), table.reshape(shape)


CURED: dict[str, Any] = {
    "log_baseline": over(BASELINE, "interval"),
    "log_hazard_ratio": over(RATIO, "effect"),
    "coefficient": over(SLOPE, "term"),
    "cured_log_odds": over(ODDS),
    "cured_coefficient": over(ODDS_SLOPE, "term"),
}


def passed(endpoint: str, first: float, last: float, change: float = np.inf) -> float:
    """Cumulative hazard at mean covariates, in `late` from a time on."""
    edges = np.unique([first, last, *(one for one in (*CUTS, change) if first < one < last)])
    middle = (edges[1:] + edges[:-1]) / 2.0
    log_rate = np.array(BASELINE[endpoint])[np.searchsorted(CUTS, middle)]
    rate = np.exp(log_rate + RATIO[endpoint] * (middle > change))
    return float(rate @ np.diff(edges))


def of_arm(fit: Fit, endpoint: str, arm: str) -> tuple[float, float]:
    """Relative hazard, and log odds of being cured, of an arm."""
    standard = float(fit.design.standardised(np.array([[float(arm == "b")]]))[0, 0])
    relative = float(np.exp(SLOPE[endpoint] * standard))
    return relative, ODDS[endpoint] + ODDS_SLOPE[endpoint] * standard


@pytest.mark.parametrize("endpoint", ["os", "rfs"])
def test_patients_of_the_fit_are_cured_as_their_follow_up_leaves(endpoint: str) -> None:
    """Each by the hazards of the phases that she was in since she came, up to the landmark."""
    fit = fit_of("arm", posterior=CURED)
    found = bb.survival(fit, times=[5.0, 5.5], landmark=LANDMARK)["survival"]
    total = alive = 0.0
    for row, begin in enumerate(BEGIN[endpoint]):
        if begin <= LANDMARK:
            relative, odds = of_arm(fit, endpoint, ARMS[row])
            cured = expit(odds + relative * passed(endpoint, begin, LANDMARK, LATE[row]))
            later = np.exp(-relative * passed(endpoint, LANDMARK, 5.5))
            alive += WEIGHTS[row] * (cured + (1.0 - cured) * later)
            total += WEIGHTS[row]
    assert found.sel(endpoint=endpoint).values.ravel().tolist() == pytest.approx(
        [1.0, alive / total], rel=1e-12
    )


@pytest.mark.parametrize("endpoint", ["os", "rfs"])
def test_supplied_patients_came_as_those_of_the_fit_did(endpoint: str) -> None:
    """The chance to be event-free is averaged over when these came, and then turned over."""
    fit = fit_of("arm", posterior=CURED)
    found = bb.survival(fit, times=[5.5], landmark=LANDMARK, population={"arm": "b"})["survival"]
    relative, odds = of_arm(fit, endpoint, "b")
    came = BEGIN[endpoint] <= LANDMARK
    free = [
        np.exp(-relative * passed(endpoint, begin, LANDMARK)) for begin in BEGIN[endpoint][came]
    ]
    cured = expit(odds - np.log(np.average(free, weights=WEIGHTS[came])))
    later = np.exp(-relative * passed(endpoint, LANDMARK, 5.5))
    expected = cured + (1.0 - cured) * later
    assert found.sel(endpoint=endpoint).item() == pytest.approx(expected, rel=1e-12)


# Patients of new groups.


@pytest.mark.parametrize("cured", [False, True])
def test_new_groups_by_what_being_event_free_says(cured: bool) -> None:
    """Nodes of the group's effect count as likely as they leave a patient event-free."""
    groups = bb.load_model("frailty").with_covariates(group="source").groups
    plain = CURE if cured else bb.load_model("primary")
    model = plain.model_copy(update={"groups": groups})
    spread = {"os": 0.6, "rfs": 0.9}
    kept = {name: one for name, one in CURED.items() if cured or not name.startswith("cured")}
    fit = fit_of("arm", "source", model=model, posterior={**kept, "group_sd": over(spread)})
    assert fit.design.term_names == ("arm[b]",)
    found = bb.survival(fit, times=[5.5], landmark=LANDMARK, population={"arm": "b"})["survival"]
    nodes, shares = new_group_nodes()
    for endpoint in ("os", "rfs"):
        relative, odds = of_arm_without_source(fit, endpoint)
        ratio = relative * np.exp(spread[endpoint] * nodes)
        came = BEGIN[endpoint] <= LANDMARK
        each = [np.exp(-ratio * passed(endpoint, one, LANDMARK)) for one in BEGIN[endpoint][came]]
        free: Floats = np.average(each, axis=0, weights=WEIGHTS[came])
        never = expit(odds) if cured else 0.0
        event_free = never + (1.0 - never) * free
        later = np.exp(-ratio * passed(endpoint, LANDMARK, 5.5))
        expected = shares @ (never + (1.0 - never) * free * later) / (shares @ event_free)
        assert found.sel(endpoint=endpoint).item() == pytest.approx(expected, rel=1e-9)


def of_arm_without_source(fit: Fit, endpoint: str) -> tuple[float, float]:
    """As `of_arm`, where the raw terms have the source too."""
    raw = np.zeros((1, fit.person_time.table.sizes["term"]))
    raw[0, list(fit.person_time.table["term"].values).index("arm[b]")] = 1.0
    standard = float(fit.design.standardised(raw)[0, 0])
    relative = float(np.exp(SLOPE[endpoint] * standard))
    return relative, ODDS[endpoint] + ODDS_SLOPE[endpoint] * standard
