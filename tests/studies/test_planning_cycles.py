"""Designs of a phase that is given in cycles: hazards in small steps, and Cox's regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.cohort_posteriors import cohort_posteriors
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.studies.planning.characteristics import operating_characteristics
from bayesblina.studies.planning.designs import StudyDesign, as_cohort, simulate_cohorts
from bayesblina.studies.what_if.running import _key

DESIGN = StudyDesign(
    patients=150,
    hazards=(0.05, 0.02),
    cuts=(6.0,),
    start_hazards=(0.2,),
    hazard_ratio=0.4,
    follow_up=12.0,
    accrual=12.0,
    cycles=(1.0, 2.0, 3),
)
QUESTION = bb.Question(exposed="exposed", eligible_from="entry", measure="current")


def test_deaths_come_at_the_designs_hazard() -> None:
    """Deaths less the hazard passed are a martingale: in stays, and after the start out of them."""
    design = replace(DESIGN, patients=20_000)
    cohorts = simulate_cohorts(design, cohorts=1, seed=3)
    time, event = cohorts.time[0], cohorts.event[0]
    start = np.minimum(cohorts.start[0], 1e3)
    step = 0.02
    middle = np.arange(step / 2, 24.0, step)
    since = middle - start[:, None]
    on = (since > 0) & (since < 9.0) & (since % 3.0 < 1.0)
    rate = np.where(middle < 6.0, 0.05, 0.02) * step
    alive = middle < time[:, None]
    last = time - start
    died_on = event & (last > 0) & (last < 9.0) & (last % 3.0 < 1.0)
    for died, passed in (
        (died_on.sum(), 0.4 * (rate * (alive & on)).sum()),
        ((event & ~died_on & (last > 0)).sum(), (rate * (alive & ~on & (since > 0))).sum()),
        (event.sum(), (rate * alive * np.where(on, 0.4, 1.0)).sum()),
    ):
        assert died > 100
        assert abs(died - passed) < 4 * np.sqrt(passed)


def test_the_companion_of_cycles_is_coxs() -> None:
    """With a flat prior the mode is that of Cox's regression on rows of the same stays."""
    cohorts = simulate_cohorts(DESIGN, cohorts=4, seed=1)
    found = cohort_posteriors(
        cohorts.time, cohorts.start, cohorts.event, prior_mean=0, prior_sd=1e3, stays=cohorts.stays
    )
    for index in range(4):
        rows = as_cohort(cohorts, index, DESIGN).to_counting_process()
        expected = fit_cox(
            rows["start"].to_numpy(),
            rows["stop"].to_numpy(),
            rows["event"].to_numpy(float),
            np.asarray(rows["phase"] == "exposed", dtype=np.float64)[:, None],
            ties="breslow",
        )
        assert found.mode[index] == pytest.approx(float(expected.estimate[0]), abs=1e-5)
    cohort = as_cohort(cohorts, 0, DESIGN)
    table = bb.person_time(cohort, QUESTION, cuts=[]).table
    begun = np.isfinite(cohorts.start[0])
    last = (cohorts.time[0] - cohorts.start[0])[begun]
    by_hand = sum(np.clip(last - 3.0 * cycle, 0.0, 1.0).sum() for cycle in range(3))
    assert float(table["person_time"].sel(phase="exposed").sum()) == pytest.approx(by_hand)


def test_one_long_cycle_is_a_phase_that_goes_on() -> None:
    long, plain = (replace(DESIGN, cycles=cycles) for cycles in ((1e6, 0.0, 1), None))
    cycle, phase = (simulate_cohorts(design, cohorts=20, seed=5) for design in (long, plain))
    assert cycle.time == pytest.approx(phase.time)
    assert np.array_equal(cycle.event, phase.event)
    first, second = (
        operating_characteristics(design, replications=200, seed=2) for design in (long, plain)
    )
    assert first["success"].iloc[0] == second["success"].iloc[0]
    assert first["bias"].iloc[0] == pytest.approx(second["bias"].iloc[0], abs=1e-6)
    # The keys under which designs without cycles were kept hold.
    assert _key(plain) == _key(replace(plain, cycles=None))
    assert _key(long) != _key(plain)


def test_less_treatment_has_less_power_and_the_same_truth() -> None:
    found = operating_characteristics(DESIGN, replications=400, seed=1)
    throughout = operating_characteristics(replace(DESIGN, cycles=None), replications=400, seed=1)
    assert found["success"].iloc[0] < throughout["success"].iloc[0]
    row = found.iloc[0]
    # The prior of the ratio pulls what little time on treatment there is.
    assert row["coverage"] == pytest.approx(0.95, abs=4 * row["coverage_mcse"] + 0.02)


@pytest.mark.parametrize("cycles", [(0.0, 1.0, 3), (1.0, -1.0, 3), (1.0, 1.0, 2.5), (1.0, 2.0), 3])
def test_impossible_cycles_are_refused(cycles: object) -> None:
    with pytest.raises(SpecError, match="cycles must be time on"):
        replace(DESIGN, cycles=cycles)  # type: ignore[arg-type]
