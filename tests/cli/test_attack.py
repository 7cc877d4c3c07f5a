"""Faults that an independent review found, each with its own test."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina import cli
from bayesblina.classical.curves import median_time
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


def read(rows: list[dict[str, float]]) -> Cohort:
    table = pd.DataFrame(rows, columns=["time", "event", "c", "ce", "m", "me"]).assign(
        id=[f"p{row}" for row in range(len(rows))]
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(c=bb.Phase(start="c", end="ce"), m=bb.Phase(start="m", end="me")),
    )


def test_phases_do_not_overlap() -> None:
    patient = {"time": 20.0, "event": 1.0, "c": 3.0, "ce": 10.0, "m": 5.0, "me": 7.0}
    with pytest.raises(DataError, match="c ends after m has started"):
        read([patient])
    # At the start of the next is the latest that is possible.
    assert read([patient | {"ce": 5.0}]).size == 1


def test_a_lag_moves_the_effect_and_not_the_start() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    lagged = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor", lag=3.0
    )
    fit = bb.fit(cohort, lagged, seed=1, draws=100, tune=200, progress=False)
    rates = bb.hazard(fit, regimes=[bb.Never(), bb.From(8.0)], landmark=8.0, times=[10.9, 11.1])[
        "hazard"
    ]
    never, treated = (rates.sel(regime=one) for one in ("never", "from 8"))
    np.testing.assert_array_equal(treated.sel(time=10.9), never.sel(time=10.9))
    assert not np.allclose(treated.sel(time=11.1), never.sel(time=11.1))
    # Maintenance starts from 6.1 on; with the lag nobody counts as exposed before 9.1.
    assert bb.survival(fit, regimes=[bb.From(7.0)], landmark=7.0).sizes["regime"] == 1
    with pytest.raises(EstimandError, match=r"nobody eligible is in it before 6\.1"):
        bb.survival(fit, regimes=[bb.From(5.0)], landmark=5.0)


def test_no_curve_starts_before_the_questions_landmark() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor", landmark=8.0
    )
    with pytest.raises(SpecError, match="nobody could die in between"):
        bb.simon_makuch(cohort, question, landmark=6.0)
    assert len(bb.simon_makuch(cohort, question, landmark=9.0))
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    for draw in (
        lambda: bb.checks.replicated_simon_makuch(fit, seed=1, draws=5, landmark=6.0),
        lambda: bb.checks.predicted_against_observed(fit, times=[12.0], landmark=6.0),
    ):
        with pytest.raises(SpecError, match="nobody could die in between"):
            draw()


def test_nothing_is_extrapolated() -> None:
    table = bb.simulate.blinatumomab_table(1)
    # Relapse is looked for until month 25 only.
    table["relapse_or_death"] = table["relapse_or_death"].where(~(table["rfs_months"] > 25.0), 0.0)
    table["rfs_months"] = table["rfs_months"].clip(upper=25.0)
    cohort = bb.read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
    )
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    last = np.nanmax(fit.person_time.people["exit"].values, axis=1)
    assert last.min() == 25.0
    assert last.max() > 30.0
    default = bb.survival(fit, landmark=8.0)
    assert float(default["time"].max()) == pytest.approx(25.0)
    for function in (bb.survival, bb.hazard, bb.cumulative_hazard):
        with pytest.raises(EstimandError, match="nothing is extrapolated"):
            function(fit, landmark=8.0, times=[9.0, float(last.max())])


def test_numpys_numbers_are_saved(tmp_path: Path) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance",
        eligible_from="consolidation",
        transplant="censor",
        landmark=np.int64(7),  # type: ignore[arg-type]
        lag=np.float32(0.5),  # type: ignore[arg-type]
        endpoints=["os"],  # type: ignore[arg-type]
    )
    numbers: dict[str, Any] = {"seed": np.int64(1), "draws": np.int64(50)}
    fit = bb.fit(cohort, question, tune=100, progress=False, **numbers)
    bb.save(fit, tmp_path / "fit.nc")
    assert bb.load(tmp_path / "fit.nc").question == question


@pytest.mark.parametrize("size", [24, 28, 30, 38, 44, 46, 54])
def test_the_median_is_not_missed_by_rounding(size: int) -> None:
    rows = [{"time": float(t), "event": 1.0, "m": 0.0} for t in range(1, size + 1)]
    question = bb.Question(exposed="m", eligible_from="entry", phase_end="ever")
    curve = bb.simon_makuch(read(rows), question)
    assert median_time(curve[curve["group"] == "m"]) == size / 2


def test_a_ladder_takes_no_other_patients_fit(synthetic_fit: Fit) -> None:
    other, _ = bb.simulate.blinatumomab_cohort(seed=2)
    with pytest.raises(SpecError, match="other patients"):
        bb.classical.bias_ladder(other, QUESTION, fit=synthetic_fit)
    own, _ = bb.simulate.blinatumomab_cohort(seed=1)
    assert "Bayesian" in set(bb.classical.bias_ladder(own, QUESTION, fit=synthetic_fit)["method"])
    with pytest.raises(SpecError, match="landmarks must be a list"):
        bb.classical.bias_ladder(own, QUESTION, landmarks=8.0)  # type: ignore[arg-type]
    for times in (5.0, "x"):
        with pytest.raises(SpecError, match="times must be"):
            bb.numbers_at_risk(own, QUESTION, times)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    cli.write_demo(path, seed=1)
    return path


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[curves]\nlandmark = 1.0\nstarts = [1.0]\n", "a state that a patient must live to"),
        ("[curves]\nlandmark = 8.0\ntimes = [2.0, 9.0]\n", "before the landmark"),
        ("[curves]\nlandmark = 8.0\ntimes = [9.0, 400.0]\n", "nothing is extrapolated"),
        ("[curves]\nlandmark = 8.0\nstarts = [8.0, 8.0]\n", "stands twice"),
        ("[fit]\nseed = 1\ncuts = [6.0, 3.0]\n", "strictly increasing"),
    ],
)
def test_what_run_would_refuse_validate_refuses(
    folder: Path, section: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "study.toml").read_text()
    name = section.partition("\n")[0]
    start = text.index(name)
    end = text.find("\n[", start + 1)
    study = folder / "other.toml"
    study.write_text(text[:start] + section + (text[end:] if end > 0 else ""))
    for arguments in (["validate", str(study)], ["run", str(study), "--out", str(folder / "new")]):
        assert cli.main(arguments) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert "is valid" not in shown.out
    assert not (folder / "new").exists()


def test_endpoints_do_not_share_a_figures_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "study.toml").read_text()
    study = folder / "names.toml"
    study.write_text(
        text.replace("[endpoints.os]", '[endpoints."a b"]')
        .replace("[endpoints.rfs]", "[endpoints.a_b]")
        .replace('includes = ["os"]', 'includes = ["a b"]')
    )
    assert cli.main(["validate", str(study)]) == 2
    assert "would share a figure's file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("phases", "covariates", "message"),
    [
        (bb.Phases(early="s", late="s"), [], "both start with the column 's'"),
        (bb.Phases(late="s"), ["arm", "arm"], "names 'arm' twice"),
    ],
)
def test_nothing_is_named_twice(phases: bb.Phases, covariates: list[str], message: str) -> None:
    table = pd.DataFrame({"id": ["a"], "t": [1.0], "d": [1], "s": [0.5], "arm": ["b"]})
    with pytest.raises(SpecError, match=message):
        bb.read_cohort(
            table,
            patient="id",
            unit="months",
            endpoints={"os": bb.Endpoint(time="t", event="d")},
            phases=phases,
            covariates=covariates,
        )


def test_a_named_reference_is_not_assumed_before_anybody_is_in_it() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance",
        reference="consolidation",
        eligible_from="entry",
        transplant="censor",
        endpoints=("os",),
    )
    fit = bb.fit(cohort, question, seed=1, draws=50, tune=100, chains=2, progress=False)
    for regime in (bb.Never(), bb.WithPhases({"consolidation": 3.0, "maintenance": 8.0})):
        with pytest.raises(EstimandError, match="nobody eligible is in it before"):
            bb.survival(fit, regimes=[regime], times=[6.0], landmark=0.0)
        assert bb.survival(fit, regimes=[regime], times=[12.0], landmark=6.0)["survival"].size
    whole = bb.WithPhases({"before consolidation": 0.0, "consolidation": 3.0, "maintenance": 8.0})
    assert bb.survival(fit, regimes=[whole], times=[6.0], landmark=0.0)["survival"].size


def test_a_phase_whose_lag_outlasts_it_is_never_entered() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="phase", lag=3.0
    )
    fit = bb.fit(cohort, question, seed=1, draws=50, tune=100, chains=2, progress=False)
    both = {"consolidation": 3.0, "maintenance": 8.0, "transplant": 10.0}
    one = {"consolidation": 3.0, "transplant": 10.0}
    first, second = (
        bb.survival(fit, regimes=[bb.WithPhases(path)], times=[12.0, 20.0], landmark=8.0)[
            "survival"
        ].values
        for path in (both, one)
    )
    np.testing.assert_array_equal(first, second)


def test_an_adverse_event_needs_follow_up() -> None:
    rows = [
        {"time": 9.0, "event": 1.0, "c": 1.0, "m": 4.0},
        {"time": 9.0, "event": 1.0, "c": 1.0},
    ]
    table = pd.DataFrame(rows).assign(id=["p0", "p1"], entry=[0.0, 0.0])
    table.loc[1, ["time", "event", "entry", "c"]] = np.nan
    cohort = bb.read_cohort(
        table.assign(other=[9.0, np.nan]),
        patient="id",
        unit="months",
        endpoints={"rfs": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(c="c", m="m"),
    )
    events = pd.DataFrame({"id": ["p0", "p1"], "term": ["fever", "fever"], "start": [2.0, 0.0]})
    with pytest.raises(DataError, match="patients without follow-up") as caught:
        bb.safety.adverse_events(events, cohort, patient="id", term="term", start="start")
    assert "p1" in caught.value.words(show_ids=True)


def steep() -> tuple[np.ndarray, ...]:
    """Delayed entry and a covariate with a log hazard ratio of 14 over its range."""
    random = np.random.default_rng(11)
    x = random.random(1500)
    time = random.exponential(1 / np.exp(14 * (x - 1)))
    entry = np.minimum(random.uniform(0, 0.05, 1500), time / 2)
    return entry, np.minimum(time, 3.0), time <= 3.0, x


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_a_cox_model_does_not_depend_on_a_covariates_unit(unit: float) -> None:
    """R's survival::coxph gives 13.8074497918 (0.9646550689) for these rows, in any unit."""
    entry, stop, event, x = steep()
    found = fit_cox(entry, stop, event, (x * unit)[:, None])
    assert found.converged
    assert found.estimate[0] * unit == pytest.approx(13.8074497918, rel=1e-8)
    assert np.sqrt(found.covariance[0, 0]) * unit == pytest.approx(0.9646550689, rel=1e-7)


def test_landmarks_are_tied_with_times_that_differ_by_noise() -> None:
    """One death at 3.0000000000000004, a unit conversion away from a landmark at 3."""
    noisy = float(np.nextafter(3.0, 4.0))
    rows = [
        {"time": noisy, "event": 1.0},
        {"time": 9.0, "event": 1.0, "m": 1.0, "me": 8.5},
        {"time": 8.0, "event": 0.0},
        {"time": 10.0, "event": 0.0, "m": 2.0, "me": 9.5},
        {"time": 7.0, "event": 1.0},
    ]
    cohort = read(rows)
    asked = {"exposed": "m", "eligible_from": "entry", "phase_end": "ever"}
    question = bb.Question(**asked)  # type: ignore[arg-type]
    own = bb.Question(**asked, landmark=3.0)  # type: ignore[arg-type]
    at, its = (
        bb.simon_makuch(cohort, question, landmark=3.0),
        bb.simon_makuch(cohort, own),
    )
    pd.testing.assert_frame_equal(at, its)
    curve = bb.kaplan_meier(cohort, landmark=3.0)
    assert curve["at_risk"].iloc[0] == 4
    # Who dies at 3 is counted then, but is not there just after it, where the curve starts.
    for landmark, count in ((None, 5), (3.0, 4)):
        risk = bb.numbers_at_risk(cohort, question, [3.0], landmark=landmark)
        assert risk["at_risk"].sum() == count
    table = bb.classical.landmark_analysis(cohort, question, landmarks=[3.0])
    assert int(table["patients"].iloc[0]) == 4


def test_probabilities_of_times_that_some_draws_do_not_reach(synthetic_fit: Fit) -> None:
    median = bb.median_survival(synthetic_fit, regimes=[bb.Never(), bb.From(8.0)], landmark=8.0)
    assert not bool(median["reached"].all())
    horizon = float(median.attrs["horizon"])
    table = bb.probabilities(median, thresholds=[15.0])
    below = ((median["quantile"] < 15.0) & median["reached"]).mean(("chain", "draw"))
    for row in table.to_dict("records"):
        here = below.sel(endpoint=row["endpoint"], regime=row["regime"])
        assert row["probability"] == pytest.approx(float(here), abs=1e-12)
    with pytest.raises(SpecError, match="later times are not known"):
        bb.probabilities(median, thresholds=[horizon + 1.0])


def test_a_start_is_a_number() -> None:
    for wrong in ("3", None, True, float("nan")):
        with pytest.raises(EstimandError, match="a time from 0 on"):
            bb.From(wrong)  # type: ignore[arg-type]
