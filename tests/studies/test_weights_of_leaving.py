"""Weights of starting, leaving and entering again: by loops, by simulation, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.patients.declarations import Courses
from bayesblina.studies.weighting.effect import _arm_counts, _counted
from bayesblina.studies.weighting.starts import fit_starts, log_inverse_of_switches
from tests.studies.builders import EVERYTHING, arms_of

QUESTION = bb.Question(exposed="on", eligible_from="entry", measure="current")
# Hazards per month; the marker makes patients leave treatment, come back later, and die.
START, LEAVE, RETURN, DEATH = 0.2, 0.15, 0.15, 0.05
MARKER = {"start": 0.3, "leave": 1.3, "return": -0.7, "death": 1.1}
PATIENTS, REPLICATIONS = 500, 40


def simulated(
    random: np.random.Generator, patients: int, log_ratio: float, *, confounded: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Patients, and their stays: drawn one change after the other, all hazards constant between.

    Without confounding, treatment changes at hazards that do not depend on the marker.
    """
    marker = (random.random(patients) < 0.5).astype(float)
    censored = random.uniform(12.0, 30.0, patients)
    now, on, ever = np.zeros(patients), np.zeros(patients, bool), np.zeros(patients, bool)
    died, alive = np.full(patients, np.inf), np.ones(patients, bool)
    entered = np.full(patients, np.nan)
    rows = []
    own = marker if confounded else np.full(patients, 0.5)
    while alive.any():
        change = np.where(
            on,
            LEAVE * np.exp(MARKER["leave"] * own),
            np.where(
                ever,
                RETURN * np.exp(MARKER["return"] * own),
                START * np.exp(MARKER["start"] * own),
            ),
        )
        death = DEATH * np.exp(MARKER["death"] * marker + log_ratio * on)
        until = now + random.exponential(size=patients) / (change + death)
        dies = random.random(patients) < death / (change + death)
        ends = alive & (dies | (until >= censored))
        died = np.where(alive & dies & (until < censored), until, died)
        switch = alive & ~ends
        for patient in np.flatnonzero((switch & on) | (ends & on)):
            stop = min(until[patient], censored[patient])
            rows.append((patient, entered[patient], stop))
        entered = np.where(switch & ~on, until, entered)
        on, ever = np.where(switch, ~on, on), ever | switch
        now, alive = np.where(switch, until, now), switch
    stays = pd.DataFrame(rows, columns=["id", "start", "stop"]).assign(phase="on")
    table = pd.DataFrame(
        {
            "id": np.arange(patients),
            "months": np.minimum(died, censored),
            "died": np.isfinite(died).astype(int),
            "marker": np.where(marker == 1.0, "yes", "no"),
        }
    )
    return table, stays


def read(table: pd.DataFrame, stays: pd.DataFrame, **more: Any) -> bb.Cohort:
    given: dict[str, Any] = {"phases": ["on"], **more}
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=Courses(
            table=stays, patient="id", start="start", stop="stop", phase="phase", **given
        ),
        covariates=["marker"],
        synthetic=True,
    )


def ratios(cohort: bb.Cohort) -> tuple[float, float]:
    """Log hazard ratio with weights and without."""
    weighted = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", truncate=EVERYTHING)
    basis = _counted(weighted.basis)
    crude = _arm_counts(basis).arms(np.ones((basis.rows.size, 1)))
    own = arms_of(weighted, np.ones(cohort.size))
    return float(own.log_hazard_ratio()[0]), float(crude.log_hazard_ratio()[0])


@pytest.mark.parametrize("log_ratio", [0.0, float(np.log(0.5))])
def test_who_leaves_for_a_reason_is_weighed(log_ratio: float) -> None:
    """The ratio where treatment changes for no reason, of a crowd, is found with weights only."""
    truth = 0.0
    if log_ratio:
        table, stays = simulated(np.random.default_rng(1), 40_000, log_ratio, confounded=False)
        truth = ratios(read(table, stays))[1]
    found = np.array(
        [
            ratios(read(*simulated(np.random.default_rng([2, seed]), PATIENTS, log_ratio)))
            for seed in range(REPLICATIONS)
        ]
    )
    errors = found.std(axis=0, ddof=1) / np.sqrt(REPLICATIONS)
    weighted, crude = found.mean(axis=0) - truth
    assert abs(weighted) < 3.5 * errors[0] + 0.01
    assert crude < -6.0 * errors[1]


def test_weights_of_switches_are_those_of_a_loop() -> None:
    """Every piece of every patient: the hazard passed, less the log hazards of changes made."""
    cohort = read(*simulated(np.random.default_rng(3), 60, 0.0))
    weighted = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", truncate=EVERYTHING)
    course = weighted.basis.course
    assert [switch.kind for switch in course.switches] == [
        "starting",
        "leaving",
        "entering again",
    ]
    rows = np.arange(course.patient.size)
    total = np.zeros(rows.size)
    everything = np.ones(1, dtype=bool)
    for columns, sign in ((everything, 1.0), (~everything, -1.0)):
        for switch in course.switches:
            fitted = fit_starts(switch, columns, np.ones((cohort.size, 1)))
            logs = log_inverse_of_switches(switch, fitted, rows, course.middle)[:, 0]
            by_loop = np.zeros(rows.size)
            for row in rows:
                for cell, patient in enumerate(switch.cells.patient):
                    if patient != course.patient[row]:
                        continue
                    rate = float(np.exp(fitted.log_rate[cell, 0]))
                    mine = np.flatnonzero(switch.cells.of == cell)
                    if switch.cells.of[row] == cell:
                        by_loop[row] += rate * (course.middle[row] - switch.cells.opens[cell])
                    elif mine[-1] < row:
                        by_loop[row] += rate * switch.cells.time[cell]
                        by_loop[row] -= np.log(rate) * switch.cells.start[cell]
            assert logs == pytest.approx(by_loop, abs=1e-9)
            total += sign * logs
    assert np.exp(total) == pytest.approx(weighted.weights, rel=1e-9)
    # Stays and changes are all there.
    assert cohort.stays is not None
    inside = bb.person_time(cohort, QUESTION, cuts=[]).table["person_time"].sel(phase="on").sum()
    time = course.last - course.first
    assert time[course.inside].sum() == pytest.approx(float(inside))
    summary = weighted.summary.iloc[0]
    first = np.unique(cohort.stays.patient).size
    assert (summary["starts"], summary["starts_again"]) == (first, cohort.stays.size - first)
    assert list(weighted.balance["of"]) == ["starting", "leaving", "entering again"]
    labels = bb.plots.balance(weighted.balance, synthetic=True).axes[0].get_yticklabels()
    assert sorted(label.get_text() for label in labels) == [
        "entering again: marker[yes]",
        "leaving: marker[yes]",
        "starting: marker[yes]",
    ]
    effect = bb.weighting.weighted_effect(weighted, seed=1, draws=20)
    assert "entering it again" in effect.estimand["compared"]
    assert "tells nothing" not in effect.estimand["compared"]


def test_weights_balance_who_leaves() -> None:
    cohort = read(*simulated(np.random.default_rng(5), 1500, 0.0))
    weighted = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", truncate=EVERYTHING)
    balance = weighted.balance.set_index("of")
    for kind, name in (("leaving", "leave"), ("entering again", "return")):
        row = balance.loc[kind]
        assert row["log_hazard_ratio"] == pytest.approx(MARKER[name], abs=4 * float(row["se"]))
        assert abs(row["weighted"]) < 0.25 * abs(row["unweighted"])


def test_cycles_of_one_length_have_weights() -> None:
    """Stays end all but at the same time since they began: no piece is as short as that."""
    cohort = bb.simulate.interrupted_cohort(
        1,
        truth=bb.simulate.CourseTruth(on=28 / 30.4375, off=14 / 30.4375, gap_share=0.0, cycles=4),
    ).cohort
    question = bb.Question(exposed="treatment", eligible_from="entry", measure="current")
    weighted = bb.weighting.starting_weights(cohort, question, endpoint="os")
    inside = bb.person_time(cohort, question, cuts=[]).table["person_time"]
    course = weighted.basis.course
    own = (course.last - course.first)[course.inside].sum()
    assert own == pytest.approx(float(inside.sel(phase="treatment").sum()))
    assert weighted.summary["stops"][0] > 200
    assert np.isfinite(weighted.weights).all()


def test_stays_that_go_on_have_the_weights_of_starting() -> None:
    """Nobody leaves: the same as of a phase that starts once, by another way."""
    table, stays = simulated(np.random.default_rng(7), 300, 0.0)
    first = stays.drop_duplicates("id").assign(stop=None)
    by_stays = bb.weighting.starting_weights(
        read(table, first), QUESTION, endpoint="os", truncate=EVERYTHING
    )
    wide = bb.read_cohort(
        table.merge(first[["id", "start"]], how="left"),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=bb.Phases(on="start"),
        covariates=["marker"],
        synthetic=True,
    )
    started = bb.weighting.starting_weights(
        wide, bb.Question(exposed="on", eligible_from="entry"), endpoint="os", truncate=EVERYTHING
    )

    def at(weighted: bb.weighting.Weighted, month: float) -> Floats:
        own = weighted.cohort.endpoints["os"]
        rows = (own.entry < month) & (own.time >= month)
        order = np.argsort(weighted.of[rows])
        return np.asarray(weighted.weights[rows][order])

    for month in (1.0, 5.0, 11.0):
        assert at(by_stays, month) == pytest.approx(at(started, month), rel=1e-3)
    ever = bb.weighting.starting_weights(
        read(table, first),
        bb.Question(exposed="on", eligible_from="entry", measure="ever"),
        endpoint="os",
        truncate=EVERYTHING,
    )
    assert ever.weights == pytest.approx(started.weights, rel=1e-9)


@pytest.mark.parametrize(
    ("question", "match"),
    [
        ({"measure": "since_end"}, "measure='since_end' has an effect by step"),
        ({"measure": "since_entry"}, "measure='since_entry' has an effect by step"),
        ({"measure": "cumulative"}, "measure='cumulative' has an effect by step"),
        ({"measure": "episode"}, "measure='episode' has an effect by step"),
        ({"measure": "current", "lag": 1.0}, "without a lag"),
        ({"measure": "current", "landmark": 1.0}, "without a landmark"),
        ({"measure": "current", "reference": "other"}, "without a reference"),
        ({"measure": "ever"}, "2 patients go from on to other"),
    ],
)
def test_questions_that_weights_cannot_answer(question: dict[str, Any], match: str) -> None:
    stays = pd.DataFrame(
        {
            "id": [0, 0, 1, 1, 2, 3],
            "phase": ["on", "other", "on", "other", "on", "other"],
            "start": [1.0, 2.0, 2.0, 4.0, 1.0, 1.0],
            "stop": [2.0, 3.0, 3.0, 5.0, 9.0, 2.0],
        }
    )
    table = pd.DataFrame(
        {"id": range(4), "months": 10.0, "died": [1, 0, 1, 1], "marker": list("abab")}
    )
    cohort = read(table, stays, phases=["on", "other"], order="any")
    asked = bb.Question(exposed="on", eligible_from="entry", **question)
    with pytest.raises(SpecError, match=match):
        bb.weighting.starting_weights(cohort, asked, endpoint="os")
    if question["measure"] == "ever":
        # Both phases together are one, which is never left for another.
        both = bb.Question(exposed=["on", "other"], eligible_from="entry", measure="ever")
        assert bb.weighting.starting_weights(cohort, both, endpoint="os").summary["starts"][0] == 4


def test_arms_and_stays_before_eligibility_are_refused() -> None:
    table, stays = simulated(np.random.default_rng(9), 60, 0.0)
    cohort = read(table, stays)
    with pytest.raises(SpecError, match="arms of an emulated trial"):
        bb.weighting.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=3.0)
    trial = bb.weighting.clone_censor_weight(
        cohort,
        bb.Question(exposed="on", eligible_from="entry", measure="ever"),
        endpoint="os",
        grace=3.0,
    )
    assert trial.question.exposure == "on within 3"
    # Those who have started, from then on: weights of leaving and entering again alone.
    started = bb.weighting.starting_weights(
        cohort,
        bb.Question(exposed="on", eligible_from="on", measure="current"),
        endpoint="os",
    )
    assert set(started.balance["of"]) == {"leaving", "entering again"}
    assert started.summary["starts"][0] == 0
    both = pd.concat([stays, stays.drop_duplicates("id").assign(phase="late")])
    both.loc[both["phase"] == "late", ["start", "stop"]] = [[0.001, 0.002]] * int(
        (both["phase"] == "late").sum()
    )
    late = read(table, both, phases=["late", "on"], order="any")
    asked = bb.Question(exposed="late", eligible_from="on", measure="current")
    with pytest.raises(SpecError, match="before they became eligible"):
        bb.weighting.starting_weights(late, asked, endpoint="os")
