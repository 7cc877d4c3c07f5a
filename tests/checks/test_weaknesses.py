"""What weakens an answer is told, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.weaknesses import weaknesses
from bayesblina.estimands.draws import supported
from tests.checks.unsampled import PRIMARY, patients, read, said, unsampled


def test_a_sound_study_has_no_weakness() -> None:
    assert weaknesses(unsampled(read(patients(600)))) == ()


@pytest.mark.parametrize("exposed", [True, False])
def test_no_event_on_one_side(exposed: bool) -> None:
    table = patients()
    table.loc[table["s"].notna() == exposed, "e"] = 0
    where, bound = ("in late", "low") if exposed else ("without late", "high")
    found = said(unsampled(read(table)), "no event")
    assert found == [
        f"os: no event {where}; how {bound} the hazard ratio may be is what its prior says"
    ]
    # The prior then has much of the precision, and without it there is no posterior.
    assert said(unsampled(read(table)), "of the precision")
    assert said(unsampled(read(table)), "nothing identifies")


def test_a_prior_that_speaks() -> None:
    fit = unsampled(read(patients(30)))
    sd = float(fit.posterior["log_hazard_ratio"].std(ddof=1))
    share = sd**2 / PRIMARY.phases.prior.sd**2
    assert share > 0.25
    assert said(fit, "of the precision") == [
        f"os: few events; the prior of the hazard ratio has about {share:.0%} of the precision"
    ]


def test_levels_that_never_start() -> None:
    table = patients()
    table["site"] = np.where(np.arange(len(table)) % 3 == 0, "a", "b")
    never = np.arange(len(table)) % 17 == 0
    table["site"] = table["site"].mask(never, "c")
    table["s"] = table["s"].mask(never)
    cohort = read(table, "site")
    assert said(unsampled(cohort), "nobody with") == [
        "nobody with site c was ever in late; nothing is known of its effect there"
    ]
    model = bb.load_model("by_subgroup").with_covariates(subgroup="site")
    assert said(unsampled(cohort, model=model), "nobody with") == [
        "nobody with site c was ever in late; its hazard ratio there is what the prior and the "
        "other subgroups say"
    ]


def test_times_without_anybody_at_risk() -> None:
    """In `late` from 2 to 5 and from 8 to 10; nobody there in between, and nobody after 10."""
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e"],
            "t": [5.0, 10.0, 30.0, 22.0, 9.5],
            "e": [1, 1, 1, 1, 1],
            "s": [2.0, 8.0, np.nan, np.nan, 8.5],
        }
    )
    fit = unsampled(read(table))
    rows = supported(fit.person_time)
    exposed = rows[rows["role"] == "exposed"]
    np.testing.assert_array_equal(exposed[["start", "stop"]], [[2.0, 5.0], [8.0, 10.0]])
    reference = rows[rows["role"] == "reference"]
    np.testing.assert_array_equal(reference[["start", "stop"]], [[0.0, 30.0]])
    assert said(fit, "at risk") == [
        "os: nobody is at risk in late from 5 to 8 months; curves under it are the model's alone "
        "there",
        "os: nobody is at risk in late after 10 months; curves under it are the model's alone "
        "there",
    ]


def test_times_in_days_are_whole_numbers() -> None:
    """Two digits, and no power of ten: 960 days, not 9.6e+02."""
    table = patients()
    table[["s", "t"]] *= 30.4375
    table.loc[table["s"] < table["t"], "t"] = np.minimum(table["t"], 400.0)
    table.loc[table["s"] >= table["t"], "s"] = np.nan
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(late="s"),
    )
    told = [one for one in weaknesses(unsampled(cohort)) if "nobody is at risk" in one]
    assert told
    assert any("after 400 days" in one for one in told)


def test_own_times_are_not_told() -> None:
    table = patients()
    table.loc[table["s"].notna(), "t"] = np.minimum(table["t"], 12.3456)
    table.loc[table["s"] >= table["t"], "s"] = np.nan
    (found,) = said(unsampled(read(table)), "at risk")
    assert "after 12 months" in found


def test_weights_that_do_not_sum_to_the_patients() -> None:
    cohort = read(patients())
    assert said(unsampled(cohort, weights=[1.0] * 60 + [0.5] * 60), "weights sum to") == [
        "os: the weights sum to 0.75 times the number of patients; the interval is as wide as if "
        "there were so many"
    ]
    assert not said(unsampled(cohort, weights=[1.5] * 60 + [0.5] * 60), "weights sum to")


@pytest.mark.parametrize(("after_relapse", "told"), [(False, True), (True, False)])
def test_those_left_behind_by_a_relapse_are_told(after_relapse: bool, told: bool) -> None:
    """Relapses before which alone the phase begins; the phase itself does nothing."""
    rng = np.random.default_rng(8)
    size = 400
    relapse, start = rng.exponential(8.0, size), rng.uniform(1, 15, size)
    start = np.where(after_relapse | (start < relapse), start, np.nan)
    death, censored = relapse + rng.exponential(4.0, size), rng.uniform(20, 36, size)
    table = pd.DataFrame(
        {
            "id": range(size),
            "t": np.minimum(death, censored),
            "e": (death <= censored).astype(int),
            "r": np.minimum(relapse, censored),
            "re": (relapse <= censored).astype(int),
            "s": np.where(start < np.minimum(death, censored), start, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="t", event="e"),
            "rfs": bb.Endpoint(time="r", event="re"),
        },
        phases=bb.Phases(late="s"),
    )
    fit = unsampled(cohort)
    words = [one for one in weaknesses(fit) if "hardly ever begins" in one]
    assert len(words) == int(told)
    logs = fit.posterior["log_hazard_ratio"].mean(("chain", "draw")).sel(endpoint="os").item()
    sd = fit.posterior["log_hazard_ratio"].std(("chain", "draw")).sel(endpoint="os").item()
    # What the sentence is about: an effect where there is none.
    assert (logs < -3 * sd) is told
    if told:
        assert words[0].startswith("os: late hardly ever begins after an event of rfs")
    model = bb.load_model("illness_death")
    apart = dataclasses.replace(fit, definition=model)
    assert not [one for one in weaknesses(apart) if "hardly ever begins" in one]
