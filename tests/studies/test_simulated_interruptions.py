"""Synthetic courses with interruptions: their causes, their hazards, and what a step estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.course_marks import measure_at
from bayesblina.core.courses import Exposure
from bayesblina.core.errors import SpecError
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.person_time.segments import stays_of
from bayesblina.studies.simulate import CourseTruth, interrupted_cohort, interrupted_tables
from bayesblina.studies.what_if.patients import bridge, grant_grace

CARRY_OVER = CourseTruth(
    log_hazard_ratio=float(np.log(0.4)), carry_over=3.0, frail_log_hazard_ratio=0.7
)
DOSE = CourseTruth(log_hazard_ratio=-0.3, log_hazard_ratio_per_cycle=-0.25, saturates_at=3)
WANING = bb.Question(
    exposed="treatment", eligible_from="entry", measure="since_end", steps=(1.0, 2.0, 3.0)
)
STEP = 0.05


def expected_events(cohort: bb.Cohort, truth: CourseTruth) -> pd.DataFrame:
    """Hazard passed, on a grid of time, from the cohort's own stays by the measures of courses."""
    stays, outcome = stays_of(cohort), cohort.endpoints["os"]
    middle = np.arange(STEP / 2, outcome.time.max(), STEP)
    who, at = np.nonzero(middle < outcome.time[:, None])
    time = middle[at]
    ended, cycles = (
        measure_at(
            stays,
            Exposure(phases=(0,), label="treatment", measure=measure, amount=amount),  # type: ignore[arg-type]
            who,
            time,
        )
        for measure, amount in (("since_end", "time"), ("cumulative", "cycles"))
    )
    begun = np.isfinite(cycles)
    # On treatment nothing has ended.
    since = np.where(begun, np.where(np.isfinite(ended), ended, 0.0), np.inf)
    left = np.clip(1.0 - since / truth.carry_over, 0, 1) if truth.carry_over else since == 0
    logs = truth.log_hazard_ratio * left
    logs = logs + truth.log_hazard_ratio_per_cycle * np.minimum(np.nan_to_num(cycles), 3)
    frail = cohort.covariates["frail"].values[who] == 1
    base = truth.hazard * STEP * np.exp(truth.frail_log_hazard_ratio * frail)
    return pd.DataFrame(
        {"who": who, "since": since, "cycles": np.nan_to_num(cycles), "frail": frail, "base": base}
    ).assign(expected=base * np.exp(logs))


@pytest.mark.parametrize("truth", [CARRY_OVER, DOSE])
def test_events_come_at_the_true_hazard(truth: CourseTruth) -> None:
    """Events less the hazard passed are a martingale: in all, and of those who are frail."""
    cohort = interrupted_cohort(3, patients=3000, truth=truth).cohort
    grid, died = expected_events(cohort, truth), cohort.endpoints["os"].event
    frail = cohort.covariates["frail"].values == 1

    def close(events: float, passed: float) -> bool:
        return bool(abs(events - passed) < 4 * np.sqrt(passed))

    assert close(float(died.sum()), grid["expected"].sum())
    assert close(float(died[frail].sum()), grid.loc[grid["frail"], "expected"].sum())
    # Without the effect the same time would have had clearly more.
    assert not close(float(died.sum()), grid["base"].sum())
    treated = np.isfinite(cohort.phase_start[:, 0])
    # Once it has begun: whoever is treated lived to that.
    assert close(float(died[treated].sum()), grid.loc[grid["cycles"] > 0, "expected"].sum())


def test_what_a_step_estimates_is_the_ratio_of_hazards_passed() -> None:
    """By another way: the hazard passed with treatment over that without, in each step."""
    true = CARRY_OVER.log_hazard_ratio_by_step(WANING, patients=60_000).set_index("state")
    grid = expected_events(
        interrupted_cohort(5, patients=4000, truth=CARRY_OVER).cohort, CARRY_OVER
    )

    def ratio(rows: Bools) -> float:
        own = grid[rows]
        return float(np.log(own["expected"].sum() / own["base"].sum()))

    since: Floats = grid["since"].to_numpy()
    for low, state in ((0.0, "0 to 1"), (1.0, "1 to 2"), (2.0, "2 to 3")):
        own = true.loc[f"treatment ended {state}"]
        inside = (since > low) & (since <= low + 1.0)
        assert own["log_hazard_ratio"] == pytest.approx(ratio(inside), abs=0.02)
    assert true.loc["treatment", "log_hazard_ratio"] == pytest.approx(np.log(0.4), abs=1e-6)
    assert true.loc["before treatment", "log_hazard_ratio"] == 0.0
    # Of cycles the ratio is the same all through a step.
    by_cycle = CourseTruth(
        log_hazard_ratio=0.0, log_hazard_ratio_per_cycle=-0.25, saturates_at=3
    ).log_hazard_ratio_by_step(
        bb.Question(
            exposed="treatment",
            eligible_from="entry",
            measure="cumulative",
            amount="cycles",
            steps=(1.0, 2.0, 3.0),
        ),
        patients=5000,
    )
    assert by_cycle["log_hazard_ratio"].tolist() == pytest.approx([0, -0.25, -0.5, -0.75, -0.75])


def test_interruptions_have_their_causes() -> None:
    truth = CourseTruth(hazard=1e-9, follow_up=(200.0, 200.0), frail_log_toxicity_ratio=1.0)
    table, stays = interrupted_tables(2, patients=4000, truth=truth)
    assert table.attrs["synthetic"]
    assert stays.attrs["synthetic"]
    length = (stays["stop"] - stays["start"]).to_numpy()
    toxic = (stays["ended_by"] == "toxicity").to_numpy()
    assert length[~toxic] == pytest.approx(1.0)
    assert (length[toxic] < 1.0).all()
    following = stays.groupby("patient_id")["start"].shift(-1).to_numpy()
    pause = following - stays["stop"].to_numpy()
    then = stays["then"].to_numpy()
    assert np.isnan(pause[then == "early stop"]).all()
    planned = (then == "") & np.isfinite(pause)
    assert pause[planned] == pytest.approx(1.0)
    for cause, mean in (("gap", truth.gap), ("recovery", truth.recovery)):
        late = pause[(then == cause) & np.isfinite(pause)] - 1.0
        assert late.mean() == pytest.approx(mean, abs=4 * mean / np.sqrt(late.size))
    # Toxicities per month on treatment, of frail patients and of others.
    frail = stays["patient_id"].map(table.set_index("patient_id")["frail"]).to_numpy() == "yes"
    for rows, rate in ((~frail, 0.15), (frail, 0.15 * np.exp(1.0))):
        expected = rate * length[rows].sum()
        assert abs(toxic[rows].sum() - expected) < 4 * np.sqrt(expected)
    early = (then == "early stop") & ~toxic
    last = stays["cycle"].to_numpy() == truth.cycles
    shares = early[~toxic & ~last].mean()
    assert shares == pytest.approx(truth.stop_share, abs=0.01)


def test_a_cohort_of_a_seed_is_the_same_and_synthetic() -> None:
    cohort, truth = interrupted_cohort(1)
    again = interrupted_cohort(1).cohort
    assert cohort.synthetic
    assert truth == CourseTruth()
    assert cohort.stays is not None
    assert again.stays is not None
    assert np.array_equal(cohort.stays.start, again.stays.start)
    assert np.array_equal(cohort.endpoints["os"].time, again.endpoints["os"].time)
    other = interrupted_cohort(2).cohort
    assert not np.array_equal(cohort.endpoints["os"].time, other.endpoints["os"].time)
    assert cohort.stays.start.max() < cohort.endpoints["os"].time.max()


def test_bridged_pauses_are_immortal_time() -> None:
    """Treatment does nothing, and looks as if it did once pauses are bridged; not with grace."""
    truth = CourseTruth(log_hazard_ratio=0.0)
    cohort = interrupted_cohort(1, patients=20_000, truth=truth).cohort

    def ratio(patients: bb.Cohort) -> float:
        rows = patients.to_counting_process()
        fit = fit_cox(
            rows["start"].to_numpy(),
            rows["stop"].to_numpy(),
            rows["event"].to_numpy(float),
            np.asarray(rows["phase"] == "treatment", dtype=np.float64)[:, None],
        )
        return float(np.exp(fit.estimate[0]))

    assert ratio(cohort) == pytest.approx(1.0, abs=0.1)
    assert ratio(bridge(cohort, 1.01)) == pytest.approx(0.51, abs=0.05)
    # Who has the event within the grace period is in the phase, too. Three standard errors.
    assert ratio(grant_grace(cohort, 1.01)) == pytest.approx(1.0, abs=0.062)


def test_adverse_events_of_courses_come_before_and_on_treatment() -> None:
    cohort = interrupted_cohort(4, patients=2000).cohort
    events = bb.simulate.adverse_events(cohort, seed=1)
    rows = cohort.to_counting_process().set_index("patient")
    seen = events.join(rows, on="patient_id", rsuffix="_row")
    seen = seen[(seen["start"] < seen["month"]) & (seen["month"] <= seen["stop"])]
    assert set(seen["phase"]) == {"before treatment", "treatment"}
    # On treatment at the second rate of each term, all of whose stays are shorter than 4 months.
    months = (rows["stop"] - rows["start"])[rows["phase"] == "treatment"].sum()
    expected = months * sum((0.12, 0.10, 0.08, 0.15, 0.04, 0.08))
    assert abs((seen["phase"] == "treatment").sum() - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"hazard": 0.0}, "hazard must be greater than 0"),
        ({"hazard": True}, "hazard: expected numbers"),
        ({"carry_over": -1.0}, "carry_over must be at least 0"),
        ({"gap_share": 1.5}, "gap_share must be a share"),
        ({"log_hazard_ratio": np.inf}, "log_hazard_ratio must be finite"),
        ({"cycles": 2.5}, "cycles must be a whole number"),
        ({"starts": (3.0, 1.0)}, "starts must be an earliest and a latest"),
        ({"follow_up": (1.0,)}, "follow_up must be an earliest and a latest"),
    ],
)
def test_impossible_truths_are_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        CourseTruth(**given)


def test_impossible_cohorts_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        interrupted_cohort(1, patients=1)
    with pytest.raises(SpecError, match="seed"):
        interrupted_cohort(-1)


@pytest.mark.slow
def test_carry_over_and_dose_response_are_recovered() -> None:
    """Ten cohorts of each truth; two hundred are in docs/validation/courses.md."""
    from tests.studies.course_recovery import run

    rows = run(10)
    error = rows.groupby(["truth", "step"])["error"]
    # Errors of neighbouring steps go together, and the walk pulls them a little.
    assert (error.mean().abs() < 4 * error.sem() + 0.1).all()
    assert rows["covered"].mean() > 0.8
