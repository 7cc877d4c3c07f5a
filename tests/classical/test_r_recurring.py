"""R's `survival` where states come again: data/survival/recurring.R makes the tables and numbers.

Events and time by interval and state are those of `survSplit` with `pyears` and `tapply`; the mode
and curvature of the companion without priors those of `coxph(ties = "breslow")`.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.courses import Measure
from bayesblina.hazards.effects import make_design
from bayesblina.inference.companion import partial_models
from bayesblina.inference.partial_draws import find_nodes
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses
from bayesblina.person_time.cells import front
from tests.paths import DATA

FOLDER = DATA / "survival"
CUTS = {
    "cgd": [60, 150, 270],
    "pbcseq": [200, 1000, 2500, 4000],
    "heart": [16, 50, 100, 400],
    **{made: [20, 45, 100, 180] for made in ("cycles", "priority", "named", "any")},
}
EXPOSED = {"cgd": "recent", "pbcseq": "high", "heart": "transplanted"}
CLOSE = 1e-6


@pytest.fixture(scope="module")
def golden() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "recurring_golden.csv")


def told(golden: pd.DataFrame, name: str, what: str) -> dict[str, float]:
    rows = golden[(golden["data"] == name) & (golden["what"] == what)]
    return dict(zip(rows["key"], rows["value"], strict=True))


def rows_of(name: str) -> Cohort:
    """Rows of the data that come with R."""
    rows = pd.read_csv(FOLDER / "recurring_rows.csv")
    return bb.read_counting_process(
        rows[rows["data"] == name],
        patient="id",
        start="start",
        stop="stop",
        event="event",
        phase="state",
        phases=[EXPOSED[name]],
        unit="days",
    )


def stays_of(name: str) -> Cohort:
    """Stays that were made up: `priority` and `named` settle the same overlaps in two ways."""
    stays = pd.read_csv(FOLDER / "recurring_stays.csv")
    overlaps = name in ("priority", "named")
    overlap: dict[str, Any] = {"priority": ["b", "a"], "named": {"a + b": "both"}}
    order: Literal["listed", "any"] = "listed" if name == "cycles" else "any"
    drugs = {"cycles": ["a"], "any": ["a", "b", "c"]}.get(name, ["a", "b"])
    return bb.read_cohort(
        pd.read_csv(FOLDER / "recurring_patients.csv"),
        patient="id",
        unit="days",
        endpoints={"survival": bb.Endpoint(time="time", event="died")},
        phases=Courses(
            table=stays[stays["set"] == ("overlaps" if overlaps else name)].sample(
                frac=1.0, random_state=1
            ),
            patient="id",
            start="from",
            stop="to",
            phase="drug",
            phases=drugs,
            overlap=overlap.get(name, "refuse"),
            order=order,
        ),
    )


@pytest.fixture(scope="module", params=CUTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cohort(name: str) -> Cohort:
    read = rows_of(name) if name in EXPOSED else stays_of(name)
    # One drug against all else, its combination too, is asked of R: such a question is refused
    # where it is known which phases are combinations.
    return replace(read, combinations={})


def question(name: str, **more: Any) -> bb.Question:
    exposed = EXPOSED.get(name, "a")
    # In `heart` no state ends.
    measure: Measure = "ever" if name == "heart" else "current"
    return bb.Question(exposed=exposed, eligible_from="entry", measure=measure, **more)


@pytest.mark.parametrize("many", [10**9, 1])
def test_events_and_time(
    golden: pd.DataFrame, name: str, cohort: Cohort, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "MANY", many)
    found = bb.person_time(cohort, question(name), cuts=CUTS[name]).table
    found = found.sel(endpoint="survival").isel(pattern=0)
    for what, variable in (("time", "person_time"), ("events", "events")):
        expected = told(golden, name, what)
        assert len(expected) > 5
        for number, state in enumerate(found["phase"].values.tolist()):
            for interval in range(found.sizes["interval"]):
                value = float(found[variable].values[interval, number])
                # Days are whole: sums of them are exact.
                assert value == expected.pop(f"{interval}|{state}", 0.0), (interval, state)
        assert not expected


def test_cox(golden: pd.DataFrame, name: str, cohort: Cohort) -> None:
    found = bb.cox(cohort, question(name), adjusted=False, ties="breslow")
    row = found[found["method"].str.contains("Cox")].iloc[-1]
    expected = told(golden, name, "cox")
    assert np.log(row["estimate"]) == pytest.approx(expected["estimate"], rel=CLOSE)
    for side in ("lower", "upper"):
        np.testing.assert_allclose(row[side], expected[side], rtol=CLOSE)


@pytest.mark.parametrize("reference", [None, "b"])
def test_companion(golden: pd.DataFrame, name: str, cohort: Cohort, reference: str | None) -> None:
    """Of one state against all others, and of each state against another drug."""
    if reference not in (None, *cohort.phases):
        pytest.skip("there is one drug")
    model = bb.load_model("primary")
    person_time = bb.person_time(cohort, question(name, reference=reference))
    design = make_design(person_time, model)
    (posterior,) = partial_models(model, person_time, design, flat=("phases", "covariates"))
    nodes = find_nodes(posterior.problem)
    assert nodes is not None
    laplace = nodes[0].laplace
    if reference is None:
        expected = told(golden, name, "cox")
        assert laplace.mode.shape == (1,)
        np.testing.assert_allclose(laplace.mode[0], expected["estimate"], atol=CLOSE)
        np.testing.assert_allclose(laplace.covariance[0, 0] ** 0.5, expected["se"], atol=CLOSE)
        return
    effects = told(golden, name, "effect")
    assert set(design.effects) == set(effects)
    np.testing.assert_allclose(
        laplace.mode, [effects[effect] for effect in design.effects], atol=CLOSE
    )
    covariance = told(golden, name, "covariance")
    np.testing.assert_allclose(
        laplace.covariance,
        [[covariance[f"{one}|{other}"] for other in design.effects] for one in design.effects],
        atol=CLOSE,
    )
