"""Weaknesses of fits whose draws are written down: what is told, of which endpoint, and where."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks.weaknesses import COLUMNS, unreliable, weaknesses
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.fitting import Fit
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
NOT_PULLED = pd.DataFrame(columns=["endpoint", *COLUMNS, "companion_sd", "reason"])
SIZE = 60


def table() -> pd.DataFrame:
    """Every second patient enters `late` early on; events go on to month 40."""
    rows = np.arange(SIZE)
    time = 4.0 + 0.6 * ((rows * 7) % SIZE)
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in rows],
            "os": time,
            "died": 1,
            "rfs": time,
            "failed": 1,
            "first": 0.0,
            "early": 0.1,
            "late": np.where(rows % 2 == 0, 0.5 + rows / 60.0, np.nan),
            "arm": np.where(rows % 4 < 2, "a", "b"),
            "source": np.where(rows % 3 == 0, "old", "current"),
        }
    )


def fit_of(
    changed: pd.DataFrame,
    *,
    model: ModelDefinition | None = None,
    question: bb.Question = QUESTION,
    covariates: tuple[str, ...] = (),
    weights: Any = None,
    **more: Any,
) -> Fit:
    cohort = bb.read_cohort(
        changed,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died", entry="first"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="first"),
        },
        phases=bb.Phases(early="early", late="late"),
        covariates=list(covariates),
    )
    person_time = bb.person_time(cohort, question, cuts=[20.0], weights=weights)
    definition = bb.load_model("primary") if model is None else model
    effects = len(written_fit(person_time, question, definition, xr.Dataset()).design.effects)
    over = ("chain", "draw", "endpoint")
    draws = np.random.default_rng(1).normal(0.0, 0.05, (2, 200, 2, effects))
    posterior = xr.Dataset(
        {"log_hazard_ratio": ((*over, "effect"), draws)}
        | {name: ((*over, *dims), values) for name, (dims, values) in more.items()},
        coords={"endpoint": ["os", "rfs"]},
    )
    return written_fit(person_time, question, definition, posterior)


def told(fit: Fit, words: str, **options: Any) -> list[str]:
    return [one for one in weaknesses(fit, NOT_PULLED, **options) if words in one]


def test_nothing_is_told_of_a_sound_study() -> None:
    assert weaknesses(fit_of(table()), NOT_PULLED) == ()


def test_levels_that_never_start_by_endpoint() -> None:
    """Arm b is never at risk for relapse while in `late`; arm c in neither, for both."""
    words = "nobody with arm {} was ever in late; nothing is known of its effect there"
    changed = table()
    entered = changed["late"].notna()
    changed.loc[entered & (changed["arm"] == "b"), "rfs"] = 0.4
    found = told(fit_of(changed, covariates=("arm",)), "was ever in")
    assert found == ["rfs: " + words.format("b")]
    changed = table()
    changed.loc[~entered & (changed["arm"] == "b"), "arm"] = "c"
    found = told(fit_of(changed, covariates=("arm",)), "was ever in")
    assert found == [words.format("c")]


def test_a_named_reference_is_named() -> None:
    """Nobody is at risk in `early` any more once all are in `late`, or before it begins."""
    question = bb.Question(exposed="late", eligible_from="entry", reference="early")
    changed = table()
    changed.loc[changed["late"].isna(), ["os", "rfs"]] = 12.0
    found = told(fit_of(changed, question=question), "nobody is at risk")
    assert found == [
        f"{name}: nobody is at risk in early after 12 months; curves under it are the model's "
        "alone there"
        for name in ("os", "rfs")
    ]
    changed = table()
    changed.loc[changed["late"].isna(), ["died", "failed"]] = 0
    changed.loc[:0, "died"] = 0
    found = told(fit_of(changed, question=question), "no event in early")
    assert len(found) == 2
    assert found[1].startswith("rfs: no event in early; how high the hazard ratio may be is what")


def left_behind(*, late_starters: int, left: int) -> list[str]:
    """Of 20 who start `late`, so many after their relapse; so many die in the reference after one.

    Twenty others die there without one: `left` of 20 is their share.
    """
    rows = np.arange(60)
    starts = rows < 20
    behind = (rows >= 20) & (rows < 40)
    changed = table()
    changed["os"] = 30.0 + rows / 10.0
    changed["died"] = np.where(behind, 1, 0)
    changed.loc[:5, "died"] = 1
    changed["rfs"], changed["failed"] = changed["os"], changed["died"]
    changed["late"] = np.where(starts, 5.0 + rows / 10.0, np.nan)
    relapsed = (rows < late_starters) | ((rows >= 20) & (rows < 20 + left))
    changed.loc[relapsed, "rfs"], changed.loc[relapsed, "failed"] = 4.0, 1
    return told(fit_of(changed), "hardly ever begins")


@pytest.mark.parametrize(
    ("late_starters", "left", "count"),
    [(0, 20, 1), (0, 2, 1), (0, 1, 0), (2, 20, 1), (3, 20, 0)],
)
def test_who_is_left_behind_by_a_relapse(late_starters: int, left: int, count: int) -> None:
    """From a tenth of the deaths on, while no more than a tenth of the exposed start after one."""
    found = left_behind(late_starters=late_starters, left=left)
    assert len(found) == count
    for one in found:
        assert one == (
            "os: late hardly ever begins after an event of rfs, and those who had one stay at risk "
            "without late: the hazard ratio is in part that of rfs; model 'illness_death' keeps "
            "the two apart"
        )


def test_sources_that_conflict() -> None:
    """Of relapse the level, and of survival the phase, lie apart; the rest does not."""
    model = bb.load_model("robust_mixture").with_covariates(source="source")
    noise = np.random.default_rng(2).normal(0.0, 0.1, (2, 200, 2))
    level = noise + np.array([0.0, np.log(3.0)])
    phase = noise + np.array([-np.log(2.0), 0.0])
    slope = noise + np.array([0.0, -np.log(4.0)])
    fit = fit_of(
        table(),
        model=model,
        covariates=("source", "arm"),
        source_effect=(("source",), level[..., None]),
        source_phase_effect=(("source", "effect"), phase[..., None, None]),
        source_coefficient=(("source", "term"), slope[..., None, None]),
    )
    ends = [np.exp(np.quantile(one, [0.5, 0.025, 0.975])) for one in (noise[..., 0], noise[..., 1])]

    def words(ratio: float, place: int) -> str:
        middle, lower, upper = ratio * ends[place]
        return (
            f"{middle:.2f} (95 % interval {lower:.2f} to {upper:.2f}) times the current patients': "
            "they conflict, and little is borrowed of it"
        )

    assert told(fit, "conflict") == [
        "os: the hazard ratio of late in external patients (source old) is " + words(0.5, 0),
        "rfs: the hazard of external patients (source old) is " + words(3.0, 1),
        "rfs: the hazard ratio of arm[b] in external patients (source old) is " + words(0.25, 1),
    ]


def test_weights_that_make_patients_more() -> None:
    """By endpoint, of those at risk for it; half a per cent is none."""
    weights = np.where(np.arange(SIZE) % 2 == 0, 1.5, 1.0)
    found = told(fit_of(table(), weights=weights), "weights sum to")
    assert found == [
        f"{name}: the weights sum to 1.25 times the number of patients; the interval is as wide as "
        "if there were so many"
        for name in ("os", "rfs")
    ]
    assert not told(fit_of(table(), weights=np.full(SIZE, 1.0049)), "weights sum to")
    assert told(fit_of(table(), weights=np.full(SIZE, 1.0051)), "weights sum to")


def test_predictions_that_are_not_reliable() -> None:
    row = {"pareto_k_limit": 0.7, "patients_above_limit": 3, "evaluated": 60}
    loo = pd.DataFrame(
        [row | {"endpoint": "os", "reliable": False}, row | {"endpoint": "rfs", "reliable": True}]
    )
    start = "os: leave-one-out prediction is not reliable, with Pareto k above 0.70 for "
    end = " patients; compare models with loo(fit, moment_match=True) or refit=True, or with k_fold"
    assert unreliable(loo) == (f"{start}3 of 60{end}",)
    assert unreliable(loo, coarse=True) == (f"{start}some{end}",)
    assert unreliable(loo.assign(reliable=True)) == ()
