"""What weakens an answer is told: each case made by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks.proportional import early_and_late
from bayesblina.checks.pulls import COLUMNS, pulls, told_pulls
from bayesblina.checks.weaknesses import weaknesses
from bayesblina.estimands.support import supported
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit, Provenance
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampler_settings import sampler_settings
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

QUESTION = bb.Question(exposed="late", eligible_from="entry")
PRIMARY = bb.load_model("primary")


def unsampled(
    cohort: Cohort,
    question: bb.Question = QUESTION,
    model: ModelDefinition = PRIMARY,
    weights: list[float] | None = None,
) -> Fit:
    """Take the companion's draws for the fit's: nothing here asks for a baseline."""
    person_time = person_time_for(model, cohort, question, weights=weights)
    companion = partial_posterior(model, person_time, seed=1)
    if companion.draws is None:
        sizes = {"chain": 1, "draw": 2, "endpoint": len(person_time.endpoints), "effect": 1}
        posterior = xr.Dataset(
            {"log_hazard_ratio": (tuple(sizes), np.zeros(tuple(sizes.values())))},
            coords={"endpoint": list(person_time.endpoints)},
        )
    else:
        posterior = companion.draws
    return Fit(
        draws=xr.DataTree.from_dict({"/posterior": posterior}),
        question=question,
        definition=model,
        person_time=person_time,
        convergence=Convergence(table=pd.DataFrame(), criteria=pd.DataFrame({"passed": [True]})),
        provenance=Provenance(
            seed=1,
            settings=sampler_settings(1000, 1000, 4, 1, 1),
            data_hash="",
            versions={},
            seconds={},
            engine="compiled",
        ),
        companion=companion,
    )


def read(table: pd.DataFrame, covariate: str | None = None) -> Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(late="s"),
        covariates=[] if covariate is None else [covariate],
    )


def patients(size: int = 120, *, seed: int = 3, ratio: float = 0.5) -> pd.DataFrame:
    """Exponential times; six in ten start between months 1 and 10 if they live."""
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(size) < 0.6, rng.uniform(1, 10, size), 1e9)
    time = rng.exponential(14.0, size)
    time = np.where(time > start, start + (time - start) / ratio, time)
    stop = np.minimum(time, rng.uniform(20, 36, size))
    return pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": stop,
            "e": (time == stop).astype(int),
            "s": np.where(start < stop, start, np.nan),
        }
    )


def said(fit: Fit, words: str) -> list[str]:
    return [one for one in weaknesses(fit) if words in one]


# Events.


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


# Covariates.


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


# Follow-up.


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


# Effects that are not proportional.


def test_early_and_late_equal_r() -> None:
    """R 4.2, survival: coxph of survSplit(jasa1, cut = the median event), Efron's ties."""
    cohort = bb.read_cohort(
        DATA / "stanford_jasa1.csv",
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="days", event="died")},
        phases=bb.Phases(late="transplant_day"),
    )
    (found,) = early_and_late(unsampled(cohort))
    assert found.split == 65.0
    assert np.log(found.early) == pytest.approx(0.1922462058650, abs=1e-8)
    assert np.log(found.late) == pytest.approx(0.0323098895605, abs=1e-8)
    assert found.p_value == pytest.approx(0.789679337589, abs=1e-8)
    assert not found.differs


def test_an_effect_that_turns_is_told() -> None:
    rng = np.random.default_rng(5)
    size = 800
    start = np.where(rng.random(size) < 0.6, rng.uniform(0.5, 4, size), np.inf)
    # Hazard 0.1; in the phase 0.03 up to month 6 and 0.25 after.
    grid = np.linspace(0, 40, 4001)[1:]
    hazard = np.full((size, grid.size), 0.1)
    inside = grid > start[:, None]
    hazard = np.where(inside, np.where(grid < 6, 0.03, 0.25), hazard)
    reached = np.cumsum(hazard * 0.01, axis=1) > rng.exponential(size=size)[:, None]
    time = np.where(reached.any(axis=1), grid[reached.argmax(axis=1)], 40.0)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": np.minimum(time, 24.0),
            "e": (time <= 24.0).astype(int),
            "s": np.where(start < np.minimum(time, 24.0), start, np.nan),
        }
    )
    fit = unsampled(read(table))
    (found,) = early_and_late(fit)
    assert found.early < 0.7 < 1.2 < found.late
    (words,) = said(fit, "not the same early and late")
    assert f"hazard ratio {found.early:.2f} up to" in words
    assert "p < 0.001" in words
    # A model whose effect varies says it itself.
    varying = dataclasses.replace(fit, definition=bb.load_model("over_time"))
    assert early_and_late(varying) == ()


def test_strata_have_risk_sets_of_their_own() -> None:
    """Early deaths in one stratum, late ones in the other, and the same effect of none in both."""
    rng = np.random.default_rng(0)
    early = np.repeat([True, False], 200)
    draw = rng.exponential(size=400)
    first = np.where(early, 0.25, 0.02)
    time = np.where(
        draw < 8.0 * first,
        draw / first,
        8.0 + (draw - 8.0 * first) / np.where(early, 0.01, 0.2),
    )
    start = np.where(rng.random(400) < np.where(early, 0.8, 0.2), rng.uniform(0.2, 3.0, 400), 1e9)
    table = pd.DataFrame(
        {
            "id": range(400),
            "t": np.minimum(time, 30.0),
            "e": time <= 30.0,
            "s": np.where(start < np.minimum(time, 30.0), start, np.nan),
            "site": np.where(early, "a", "b"),
        }
    )
    stratified = bb.load_model("stratified").with_covariates(stratum="site")
    (found,) = early_and_late(unsampled(read(table, "site"), model=stratified))
    # By chance once in a hundred; without strata it is 1e-15.
    assert found.p_value > 0.01
    each = [table[table["site"] == one] for one in ("a", "b")]
    both = [early_and_late(unsampled(read(one))) for one in each]
    logs = sorted(np.log(one.early) for (one,) in both)
    assert logs[0] - 0.5 < np.log(found.early) < logs[1] + 0.5


def test_the_same_effect_is_found_different_by_chance_only() -> None:
    seeds = range(100)
    fits = [unsampled(read(patients(150, seed=seed))) for seed in seeds]
    found = [one for fit in fits for one in early_and_late(fit)]
    # Where no event falls into the phase early there is nothing to compare.
    assert len(found) >= 95
    # Binomial(100, 0.05): 13 or more in one of 2,000.
    assert sum(one.differs for one in found) <= 12


# Weights.


def test_weights_that_do_not_sum_to_the_patients() -> None:
    cohort = read(patients())
    assert said(unsampled(cohort, weights=[1.0] * 60 + [0.5] * 60), "weights sum to") == [
        "os: the weights sum to 0.75 times the number of patients; the interval is as wide as if "
        "there were so many"
    ]
    assert not said(unsampled(cohort, weights=[1.5] * 60 + [0.5] * 60), "weights sum to")


# Pulls.


def grid_median(table: pd.DataFrame, sd: float) -> float:
    """Median of the log hazard ratio on a grid: a normal prior times the partial likelihood."""
    values = np.linspace(-6.0, 6.0, 24_001)
    time, event = table["t"].to_numpy(), table["e"].to_numpy() == 1
    start = table["s"].fillna(np.inf).to_numpy()
    log = -0.5 * np.square(values / sd)
    for at, exposed in zip(time[event], start[event] < time[event], strict=True):
        inside = time >= at
        late = int((inside & (start < at)).sum())
        log += exposed * values - np.log(inside.sum() - late + late * np.exp(values))
    weight = np.exp(log - log.max())
    return float(values[np.searchsorted(np.cumsum(weight) / weight.sum(), 0.5)])


def test_pulls_equal_those_of_a_grid() -> None:
    table = patients(40, seed=8, ratio=0.25)
    model = PRIMARY.with_priors(phases=bb.HazardRatioPrior.from_sd(0.4))
    fit = unsampled(read(table), model=model)
    row = pulls(fit).iloc[0]
    own, flat = grid_median(table, 0.4), grid_median(table, 1e6)
    # Medians of 4,000 draws, of which the same are taken for both: 0.02 is more than four errors.
    assert row["prior_pull"] == pytest.approx(own - flat, abs=0.02)
    assert np.log(row["without_prior_median"]) == pytest.approx(flat, abs=0.04)
    assert row["baseline_pull"] == 0.0
    # There are no covariates.
    assert np.isnan(row["covariate_prior_pull"])
    assert row["prior_pull"] > 0.25 * row["companion_sd"]
    (words,) = said(fit, "the prior of the hazard ratio moves it")
    assert words.startswith("os: ")


def test_priors_of_covariates_that_pull_are_told() -> None:
    """A covariate with hazard ratio 6 that goes with the phase, and a prior too narrow for it."""
    rng = np.random.default_rng(2)
    size = 160
    severe = rng.random(size) < 0.5
    share = np.where(severe, 0.15, 0.85)
    start = np.where(rng.random(size) < share, rng.uniform(0.2, 2, size), np.inf)
    time = rng.exponential(20.0, size) / np.where(severe, 6.0, 1.0)
    stop = np.minimum(time, 30.0)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": stop,
            "e": (time <= 30.0).astype(int),
            "s": np.where(start < stop, start, np.nan),
            "arm": np.where(severe, "b", "a"),
        }
    )
    narrow = PRIMARY.with_priors(covariates=bb.HazardRatioPrior.from_sd(0.35))
    fit = unsampled(read(table, "arm"), model=narrow)
    row = pulls(fit).iloc[0]
    # Less of the difference goes to the covariate, more of it to the phase.
    assert row["covariate_prior_pull"] < -0.25 * row["companion_sd"]
    (words,) = said(fit, "the priors of the covariates move the hazard ratio of late")
    assert f"from {row['without_covariate_priors_median']:.2f} to" in words
    wide = PRIMARY.with_priors(covariates=bb.HazardRatioPrior.from_sd(2.4))
    fit = unsampled(read(table, "arm"), model=wide)
    assert not said(fit, "the priors of the covariates")


def test_nothing_is_pulled_where_nothing_is_compared() -> None:
    fit = unsampled(read(patients()), model=bb.load_model("patient_frailty"))
    table = pulls(fit)
    assert table[list(COLUMNS)].isna().all(axis=None)
    assert told_pulls(table, exposed="late") == []


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
