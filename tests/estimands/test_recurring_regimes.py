"""Survival under regimes where phases recur, against a loop over patients and draws.

Draws are written down. What state a regime is in when is asked of
`tests.person_time.brute_courses`, which shares nothing with the package.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.regimes import Between, Cycles
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses
from tests.estimands.written_fits import written_fit
from tests.person_time import brute_courses as brute

CUTS = [4.0, 9.5, 17.0]
DRAWS = (2, 3)
LANDMARK = 1.0
TIMES = np.array([1.0, 2.5, 4.0, 6.0, 6.5, 7.0, 9.5, 11.0, 14.25, 19.0, 24.0])
# Measure, amount, steps, what is exposed, lag, reference.
ASKED: list[tuple[str, str, tuple[float, ...], tuple[str, ...], float, str | None]] = [
    ("current", "time", (), ("a",), 0.0, None),
    ("current", "time", (), ("a",), 0.5, "b"),
    ("current", "time", (), ("a", "b"), 0.5, None),
    ("ever", "time", (), ("a",), 0.0, None),
    ("ever", "time", (), ("a",), 1.5, "b"),
    ("since_entry", "time", (2.0, 5.0), ("a",), 0.0, None),
    ("since_entry", "time", (2.0, 5.0), ("a",), 0.75, "b"),
    ("since_end", "time", (0.5, 1.5), ("a",), 0.0, None),
    ("since_end", "time", (0.5, 1.5), ("a", "b"), 0.25, None),
    ("cumulative", "time", (1.0, 3.5), ("a",), 0.0, None),
    ("cumulative", "time", (1.0, 3.5), ("a",), 0.5, None),
    ("cumulative", "cycles", (1.0, 2.0), ("a",), 0.0, None),
    ("cumulative", "dose", (2.5, 6.0), ("a",), 0.5, None),
    ("episode", "time", (2.0, 3.0), ("a",), 0.0, None),
    ("episode", "time", (2.0, 3.0), ("a", "b"), 0.5, None),
]
F = Fraction
REGIMES: list[tuple[bb.Never | bb.From | Between | Cycles | bb.WithPhases, tuple[Any, ...]]] = [
    (bb.Never(), ()),
    (bb.From(2.0), (("a", 2, brute.NEVER, 0),)),
    (Between(2.0, 6.5, dose=9.0), (("a", 2, F(13, 2), 9),)),
    (
        Cycles(start=2.5, on=1.5, off=2.0, times=4, dose=1.5),
        tuple(("a", F(5, 2) + F(7, 2) * k, 4 + F(7, 2) * k, F(3, 2)) for k in range(4)),
    ),
    # One cycle follows the other at once.
    (
        Cycles(start=3.0, on=1.0, off=0.0, times=3, dose=2.0),
        tuple(("a", 3 + k, 4 + k, 2) for k in range(3)),
    ),
    (
        bb.WithPhases({"b": 1.5, "a": 4.0, "off treatment": 7.0}),
        (("b", F(3, 2), 4, 0), ("a", 4, 7, 0)),
    ),
    (bb.WithPhases({"a": 3.0, "b": 6.0}), (("a", 3, 6, 0), ("b", 6, brute.NEVER, 0))),
]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Patients and stays: whole days of a quarter, everybody in every state some time."""
    rng = np.random.default_rng(11)
    size = 30
    patients = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": rng.integers(100, 120, size) / 4.0,
            "died": (np.arange(size) % 3 > 0).astype(int),
            "entry": np.where(np.arange(size) % 5 == 4, 2.0, 0.0),
            "x": rng.normal(size=size),
        }
    )
    patients.loc[0, "time"] = LANDMARK  # not at risk after it
    rows = []
    for row in range(size):
        now = (row % 4) / 4.0
        for _ in range(int(rng.integers(3, 7))):
            length = int(rng.integers(2, 16)) / 4.0
            rows.append((f"p{row}", now, now + length, "ab"[int(rng.random() < 0.3)], 3.0))
            now += length + int(rng.choice([0, 0, 3, 10])) / 4.0
    stays = pd.DataFrame(rows, columns=["pid", "from", "to", "drug", "mg"])
    return patients, stays


def cohort_of() -> Cohort:
    patients, stays = tables()
    return bb.read_cohort(
        patients,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="entry")},
        phases=Courses(
            table=stays,
            patient="pid",
            start="from",
            stop="to",
            phase="drug",
            phases=["a", "b"],
            dose="mg",
            order="any",
            leave_out=["after"],
        ),
        covariates=["x"],
    )


def fit_of(asked: brute.Asked, reference: str | None) -> Fit:
    stepped = asked.measure not in ("current", "ever")
    question = bb.Question(
        exposed=list(asked.exposed),
        eligible_from="entry",
        reference=reference,
        measure=asked.measure,  # type: ignore[arg-type]
        steps=tuple(map(float, asked.steps)) or None,
        amount=asked.amount,  # type: ignore[arg-type]
        lag=float(asked.lag),
    )
    model = bb.load_model("since_entry" if stepped else "primary")
    person_time = bb.person_time(cohort_of(), question, cuts=CUTS, compress=False)
    design = written_fit(person_time, question, model, xr.Dataset()).design
    random = np.random.default_rng(3)
    over = ("chain", "draw", "endpoint")

    def drawn(dim: str, size: int, middle: float, sd: float) -> tuple[tuple[str, ...], Floats]:
        return (*over, dim), random.normal(middle, sd, (*DRAWS, 1, size))

    variables = {
        "log_baseline": drawn("interval", len(CUTS) + 1, -3.0, 0.5),
        "log_hazard_ratio": drawn("effect", len(design.effects), 0.2, 0.8),
        "coefficient": drawn("term", 1, 0.0, 0.6),
    }
    if stepped:
        pieces = len(asked.names_of_steps())
        variables["log_hazard_ratio_by_piece"] = drawn("piece", pieces, 0.3, 0.8)
    coords = {
        **{"chain": [0, 1], "draw": [0, 1, 2], "endpoint": ["os"]},
        "effect": list(design.effects),
    }
    return written_fit(person_time, question, model, xr.Dataset(variables, coords=coords))


def loop(
    fit: Fit, asked: brute.Asked, stays: tuple[Any, ...], place: tuple[int, int]
) -> list[float]:
    """Average survival at the times, of one draw, from patient to patient."""
    patient = brute.Patient(
        tuple(
            brute.Stay(phase, F(start), stop, dose=F(dose)) for phase, start, stop, dose in stays
        ),
        {},
    )
    own = fit.posterior.isel(chain=place[0], draw=place[1], endpoint=0)
    names = asked.names_of_steps()
    effect = dict(zip(fit.design.effects, own["log_hazard_ratio"].values.tolist(), strict=True))
    if "log_hazard_ratio_by_piece" in own:
        pieces = own["log_hazard_ratio_by_piece"].values.tolist()
        effect |= dict(zip(names, pieces, strict=True))
    # Until a regime names a phase a patient is in the reference.
    effect[asked.first] = 0.0
    baseline = own["log_baseline"].values.tolist()
    marks = {float(point) for point in brute.changes_of(patient, asked)} | set(CUTS)
    table = tables()[0]
    x = table["x"].to_numpy()
    scaled = (x - fit.design.centre[0]) / fit.design.scale[0]
    slope = float(own["coefficient"].values[0])
    at_risk = np.flatnonzero((table["entry"] <= LANDMARK) & (table["time"] > LANDMARK)).tolist()
    found = []
    for time in TIMES.tolist():
        points = sorted({LANDMARK, time, *(mark for mark in marks if LANDMARK < mark < time)})
        total = 0.0
        for person in at_risk:
            hazard = 0.0
            for low, high in pairwise(points):
                middle = (low + high) / 2.0
                state = brute.state_at(patient, asked, F(middle))
                interval = sum(cut < middle for cut in CUTS)
                log_rate = baseline[interval] + effect.get(state, 0.0) + slope * scaled[person]
                hazard += (high - low) * float(np.exp(log_rate))
            total += float(np.exp(-hazard))
        found.append(total / len(at_risk))
    return found


@pytest.mark.parametrize("given", ASKED, ids=lambda given: "-".join(map(str, given)))
def test_survival_is_that_of_a_loop(given: Any) -> None:
    measure, amount, steps, exposed, lag, reference = given
    asked = brute.Asked(
        exposed=exposed, measure=measure, amount=amount, steps=tuple(map(F, steps)), lag=F(lag)
    )
    fit = fit_of(asked, reference)
    # Of one piece of each step, all of which patients reach.
    assert set(asked.names_of_steps()) <= set(fit.person_time.table["phase"].values.tolist())
    regimes = [
        (regime, stays)
        for regime, stays in REGIMES
        if amount != "dose" or all(dose for *_, dose in stays)
    ]
    curves = bb.survival(
        fit, regimes=[regime for regime, _ in regimes], times=TIMES, landmark=LANDMARK
    )["survival"].sel(endpoint="os")
    for number, (regime, stays) in enumerate(regimes):
        for chain, draw in np.ndindex(*DRAWS):
            np.testing.assert_allclose(
                curves.values[chain, draw, number],
                loop(fit, asked, stays, (chain, draw)),
                rtol=1e-10,
                err_msg=regime.label,
            )


@pytest.mark.parametrize("regime", [bb.From(2.0), bb.WithPhases({"a": 3.0}), Between(2.0, 3.0)])
def test_doses_that_a_regime_does_not_say(regime: Any) -> None:
    asked = brute.Asked(
        exposed=("a",), measure="cumulative", amount="dose", steps=(F(5, 2), F(6)), lag=F(0)
    )
    with pytest.raises(EstimandError, match="says nothing of doses, which the question counts"):
        bb.survival(fit_of(asked, None), regimes=[regime], landmark=LANDMARK)


def test_a_step_that_nobody_reaches() -> None:
    asked = brute.Asked(exposed=("a",), measure="cumulative", steps=(F(1), F(100)))
    asked_of = brute.Asked(exposed=("a",), measure="cumulative", steps=(F(1), F(20)))
    assert asked.names_of_steps()[-1] == "a time from 100"
    fit = fit_of(asked_of, None)
    assert "a time from 20" not in fit.person_time.table["phase"].values.tolist()
    with pytest.raises(EstimandError, match=r"no eligible patient is ever in 'a time from 20'"):
        bb.survival(fit, regimes=[bb.From(2.0)], landmark=LANDMARK, times=[3.0])
