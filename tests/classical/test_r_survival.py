"""R's `survival` on its own data sets: tables and golden.csv are made by data/survival/golden.R."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.occupancy import follow
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.columns import CovariateKind
from bayesblina.person_time.transitions import TRANSITIONS, find_transitions
from tests.paths import DATA

FOLDER = DATA / "survival"
QUESTION = bb.Question(exposed="exposed", eligible_from="entry")
UNITS = {"mgus2": "months"}
COVARIATES: Mapping[str, dict[str, CovariateKind]] = {
    "lung": {"age": "continuous", "ecog": "continuous"},
    "veteran": {"karno": "continuous", "cell": "categorical"},
    "pbcseq": {"age": "continuous", "drug": "continuous"},
    "mgus2": {"age": "continuous", "male": "continuous"},
    "rotterdam": {"age": "continuous", "nodes": "continuous"},
    "cgd": {"age": "continuous", "steroids": "continuous"},
    "heart": {"age": "continuous", "surgery": "continuous"},
}
LABELS = {"exposed": "exposed", "reference": "no exposed"}
# What is relative in R's numbers: 1e-6 of each.
CLOSE = 1e-6


@pytest.fixture(scope="module")
def golden() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "golden.csv", dtype={"key": str})


@pytest.fixture(scope="module", params=COVARIATES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cohort(name: str) -> Cohort:
    return bb.read_cohort(
        FOLDER / f"{name}.csv",
        patient="id",
        unit=UNITS.get(name, "days"),
        endpoints={"event": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(exposed="phase"),
        covariates=COVARIATES[name],
    )


def told(golden: pd.DataFrame, name: str, what: str) -> dict[str, float]:
    rows = golden[(golden["data"] == name) & (golden["what"] == what)]
    assert len(rows)
    return dict(zip(rows["key"], rows["value"], strict=True))


@pytest.mark.parametrize("how", ["efron", "breslow", "adjusted"])
def test_cox(golden: pd.DataFrame, name: str, cohort: Cohort, how: str) -> None:
    adjusted = how == "adjusted"
    found = bb.cox(
        cohort, QUESTION, adjusted=adjusted, ties="breslow" if how == "breslow" else "efron"
    )
    row = found[found["method"].str.contains("Cox")].iloc[-1]
    for key, value in told(golden, name, f"cox {how}").items():
        np.testing.assert_allclose(row[key], value, rtol=CLOSE, err_msg=key)


def test_mantel_byar(golden: pd.DataFrame, name: str, cohort: Cohort) -> None:
    found = bb.mantel_byar(cohort, QUESTION).isel(endpoint=0)
    for key, value in told(golden, name, "mantel-byar").items():
        np.testing.assert_allclose(float(found[key]), value, rtol=CLOSE, err_msg=key)


@pytest.mark.parametrize("group", ["reference", "exposed"])
def test_simon_makuch(golden: pd.DataFrame, name: str, cohort: Cohort, group: str) -> None:
    curves = bb.simon_makuch(cohort, QUESTION)
    curve = curves[curves["group"] == LABELS[group]]
    for what in ("survival", "lower", "upper"):
        for time, value in told(golden, name, f"{what} {group}").items():
            here = curve[curve["time"] <= float(time)].iloc[-1]
            if what != "survival" and here["survival"] in (0.0, 1.0):
                # There is no band where everybody or nobody is left; R writes 1 or NA.
                assert np.isnan(here[what])
                continue
            np.testing.assert_allclose(here[what], value, rtol=CLOSE, err_msg=f"{what} {time}")


@pytest.mark.parametrize("group", ["reference", "exposed"])
def test_numbers_at_risk(golden: pd.DataFrame, name: str, cohort: Cohort, group: str) -> None:
    expected = told(golden, name, f"at risk {group}")
    found = bb.numbers_at_risk(cohort, QUESTION, [float(time) for time in expected])
    counted = found[found["group"] == LABELS[group]]
    assert counted["at_risk"].tolist() == list(expected.values())


@pytest.mark.parametrize("name", ["mgus2", "rotterdam"])
def test_occupancies_of_an_illness(golden: pd.DataFrame, name: str) -> None:
    """Rates of transitions by fine intervals, followed exactly, come to Aalen and Johansen's."""
    table = pd.read_csv(FOLDER / f"{name}.csv")
    ill = table["phase"].notna()
    table["free"] = table["phase"].fillna(table["time"])
    table["failed"] = (ill | (table["event"] == 1)).astype(int)
    table["from_start"] = np.where(table["id"] % 2 == 0, 0.0, np.nan)
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit=UNITS.get(name, "days"),
        endpoints={
            "os": bb.Endpoint(time="time", event="event"),
            "rfs": bb.Endpoint(time="free", event="failed"),
        },
        phases=bb.Phases(exposed="from_start"),
    )
    found = find_transitions(cohort, QUESTION, death="os", relapse_free="rfs")
    times = [float(time) for time in told(golden, name, "occupancy well")]
    knots = np.unique(np.concatenate([[0.0], np.linspace(0.0, times[-1], 401), times]))
    rates = {}
    for transition in TRANSITIONS:
        one = found[transition]
        low, high = knots[:-1, None], knots[1:, None]
        at_risk = np.clip(np.minimum(one.stop, high) - np.maximum(one.start, low), 0.0, None)
        events = ((one.stop > low) & (one.stop <= high) & one.event).sum(axis=1)
        person_time: Floats = at_risk.sum(axis=1)
        rates[transition] = np.divide(
            events, person_time, out=np.zeros(knots.size - 1), where=person_time > 0
        )
    relapse, death, after = (rates[transition] for transition in TRANSITIONS)
    course = follow(knots, relapse, death, after[None], np.zeros(knots.size - 1, dtype=np.int64))
    sick = course.relapsed.sum(axis=-2)
    states = {"well": course.remission, "ill": sick, "dead": 1.0 - course.remission - sick}
    for state, values in states.items():
        for time, value in told(golden, name, f"occupancy {state}").items():
            here = values[np.searchsorted(knots, float(time))]
            # Within an interval events come at a constant rate, not at their own times.
            assert here == pytest.approx(value, abs=0.004), (state, time)
