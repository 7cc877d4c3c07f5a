"""Patients whose phases recur, and their states by loops: what tests of all rooms share."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses
from tests.estimands.written_fits import written_fit

CUTS = [2.0, 5.0]
STEPS: dict[str, tuple[float, ...]] = {
    "since_entry": (1.5, 4.0),
    "since_end": (0.5, 2.0),
    "time": (1.0, 2.5),
    "cycles": (1.0, 2.0),
    "dose": (2.5, 6.0),
    "episode": (2.0, 3.0),
}
BEFORE, OFF = "before any phase", "off treatment"


def tables(size: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Patients, and their stays in the phases a, b and c, in any order and with gaps."""
    random = np.random.default_rng(seed)
    ends = random.uniform(1.0, 9.0, size).round(2)
    rows = []
    for row, end in enumerate(ends.tolist()):
        at = float(random.uniform(0.0, 2.0))
        while at < end and random.random() < 0.85:
            stop = min(at + float(random.uniform(0.2, 1.5)), end)
            phase = str(random.choice(["a", "a", "b", "c"]))
            rows.append((f"p{row}", at, stop, phase, float(random.integers(1, 4))))
            # Some go on at once, in the same phase or another.
            at = stop + (0.0 if random.random() < 0.25 else float(random.uniform(0.1, 2.0)))
    patients = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": ends,
            "died": (random.random(size) < 0.7).astype(int),
            "sex": random.choice(["f", "m"], size),
        }
    )
    stays = pd.DataFrame(rows, columns=["id", "from", "to", "drug", "given"])
    return patients, stays


def read(
    patients: pd.DataFrame,
    stays: pd.DataFrame,
    covariates: tuple[str, ...] = (),
    endpoints: dict[str, bb.Endpoint] | None = None,
) -> Cohort:
    """Read them."""
    return bb.read_cohort(
        patients,
        patient="id",
        unit="months",
        endpoints=endpoints or {"os": bb.Endpoint(time="time", event="died")},
        phases=Courses(
            table=stays,
            patient="id",
            start="from",
            stop="to",
            phase="drug",
            phases=["a", "b", "c"],
            dose="given",
            order="any",
        ),
        covariates=list(covariates),
        synthetic=True,
    )


@cache
def cohort(size: int = 40, seed: int = 3) -> Cohort:
    """Read patients of one seed."""
    return read(*tables(size, seed), covariates=("sex",))


def question(kind: str) -> bb.Question:
    """Ask of a or b by one measure, or amount."""
    if kind == "current":
        return bb.Question(exposed=["a", "b"], eligible_from="entry", measure="current")
    amount = kind if kind in ("time", "cycles", "dose") else "time"
    return bb.Question(
        exposed=["a", "b"],
        eligible_from="entry",
        measure="cumulative" if kind in ("time", "cycles", "dose") else kind,  # type: ignore[arg-type]
        amount=amount,  # type: ignore[arg-type]
        steps=STEPS[kind],
    )


def step_at(kind: str, own: pd.DataFrame, now: float) -> int | None:
    """Give the step that a patient is in just before a time; None outside the exposure.

    `own`: the patient's stays.
    """
    exposed = own[own["drug"].isin(["a", "b"])].sort_values("from")
    begun = exposed[exposed["from"] < now]
    inside = bool(((exposed["from"] < now) & (now <= exposed["to"])).any())
    if kind in ("current", "episode") and not inside:
        return None
    if kind == "current" or begun.empty:
        return 0 if len(begun) else None
    if kind == "since_end":
        return 0 if inside else 1 + _above(kind, now - float(begun["to"].max()))
    if kind == "since_entry":
        # Until a phase that is not exposed begins, also off treatment.
        last = own[own["from"] < now].sort_values("from").iloc[-1]
        return _above(kind, now - float(begun["from"].min())) if last["drug"] != "c" else None
    if kind == "episode":
        # Stays that go on at once are one.
        begins = ~begun["from"].isin(exposed["to"])
        return int(sum(begins.sum() >= step for step in STEPS[kind]))
    spent = np.minimum(begun["to"], now) - begun["from"]
    amounts = {
        "time": spent,
        "cycles": pd.Series(1.0, index=begun.index),
        "dose": begun["given"] * spent / (begun["to"] - begun["from"]),
    }
    return _above(kind, float(amounts[kind].sum()))


def _above(kind: str, value: float) -> int:
    return sum(value > step + 1e-9 for step in STEPS[kind])


@cache
def drawn(kind: str, draws: int = 30) -> Fit:
    """Draw a fit from the prior: what is read off it needs no posterior."""
    model = bb.load_model("primary" if kind == "current" else "since_entry")
    return drawn_of(model, cohort(), question(kind), draws=draws)


def drawn_of(model: ModelDefinition, patients: Cohort, asked: bb.Question, *, draws: int) -> Fit:
    """Draw a fit of a cohort from its prior."""
    person_time = person_time_for(model, patients, asked, cuts=CUTS)
    prior = draw_prior(build_model(model, person_time), seed=1, draws=draws)
    return written_fit(person_time, asked, model, prior)
