"""Every model against its reference posterior, and calibration in small."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

import bayesblina as bb
from bayesblina.checks.replicates import first_event, flow_of
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import BuiltModel, build_model, draw_prior
from bayesblina.hazards.definition import model_names, parse_model
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.sampling import sample
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.cells.people import Lazily
from bayesblina.studies.calibration import (
    calibrate,
    least_probability,
    narrowed,
    page_name,
    synthetic_setting,
)
from bayesblina.studies.calibration import main as calibration_main
from bayesblina.studies.reference import moments, totals
from tests.paths import ROOT
from tests.studies import calibrations

# A baseline of jumps has no prior to draw from, and no density to sample.
SAMPLED = sorted({*model_names()} - {"free"})


def load_reference(name: str) -> dict[str, Any]:
    """Load the reference posterior of a shipped model."""
    path = files("bayesblina.models").joinpath(f"{name}.reference.json")
    if not path.is_file():
        raise SpecError(f"No reference posterior of '{name}'.")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def compare_with_reference(posterior: xr.Dataset, reference: dict[str, Any]) -> pd.DataFrame:
    """Hold draws against a reference.

    `posterior`: draws over (chain, draw, ...).
    Result: one row per parameter: ``parameter``, ``distance_mean`` and ``distance_sd``, the
    differences of means and of sds in combined Monte-Carlo standard errors.
    """
    own = moments(posterior).set_index("parameter")
    stored = pd.DataFrame.from_dict(reference["moments"], orient="index", columns=own.columns)
    if list(own.index) != list(stored.index):
        raise SpecError("The parameters are not those of the reference posterior.")
    distances = {
        f"distance_{name}": (own[name] - stored[name]).abs()
        / np.hypot(own[f"mcse_{name}"], stored[f"mcse_{name}"])
        for name in ("mean", "sd")
    }
    return pd.DataFrame(distances).rename_axis("parameter").reset_index()


@pytest.mark.parametrize("name", SAMPLED)
def test_a_normal_run_is_the_reference_posterior(name: str) -> None:
    definition, person_time = synthetic_setting(name)
    reference = load_reference(name)
    assert totals(person_time) == {
        endpoint: pytest.approx(values, rel=1e-9) for endpoint, values in reference["data"].items()
    }
    assert parse_model(reference["definition"], source=name) == definition
    # One endpoint says little of the sd of patients: errors are known from long chains only.
    long = 8 if name == "patient_frailty" else 1
    settings = SamplerSettings(draws=1000 * long, tune=1000, chains=4)
    tree, _ = sample(build_model(definition, person_time), seed=5, settings=settings)
    distance = compare_with_reference(tree["posterior"].to_dataset(), reference)
    assert distance["distance_mean"].max() < 4
    assert distance["distance_sd"].max() < 4.5


def exchanged(person_time: PersonTime, names: list[str], one: int, other: int) -> PersonTime:
    """Two patients with some of what is known of them exchanged."""
    held = person_time.patients()
    order = np.arange(held.people.sizes["patient"])
    order[[one, other]] = order[[other, one]]
    moved = {name: held.people[name].isel(patient=order).variable for name in names}
    people = held.people.assign(moved)
    return replace(person_time, patients=Lazily.of(replace(held, people=people)))


def test_data_of_a_reference_are_told_from_others() -> None:
    """Whatever leaves the plain sums alone: patients or cells exchanged; noise is not told."""
    _, person_time = synthetic_setting("primary")
    stored = totals(person_time)

    def same(other: PersonTime) -> bool:
        return all(
            values == pytest.approx(stored[name], rel=1e-9)
            for name, values in totals(other).items()
        )

    people = person_time.people
    one, other = 0, int(np.flatnonzero(people["pattern"].values != people["pattern"].values[0])[0])
    for names in (["begin"], ["exit"], ["pattern", "category"], ["begin", "exit", "event"]):
        assert not same(exchanged(person_time, names, one, other)), names
    died = people["event"].values[0]
    assert not same(exchanged(person_time, ["event"], int(died.argmax()), int((~died).argmax())))
    table = person_time.table
    for name in ("events", "person_time"):
        turned = table[name].copy(data=table[name].values[:, ::-1])
        assert not same(replace(person_time, table=table.assign({name: turned})))
    # As much as processors differ in: the last bits of every time.
    random = np.random.default_rng(1)
    noise = 1.0 + 1e-15 * random.integers(-9, 10, table["person_time"].shape)
    assert same(replace(person_time, table=table.assign(person_time=table["person_time"] * noise)))


def test_a_wrong_posterior_is_noticed() -> None:
    definition, person_time = synthetic_setting("primary")
    narrow = definition.with_priors(phases=bb.HazardRatioPrior(hazard_ratio=(0.3, 3.0)))
    settings = SamplerSettings(draws=1000, tune=1000, chains=4)
    tree, _ = sample(build_model(narrow, person_time), seed=5, settings=settings)
    distance = compare_with_reference(tree["posterior"].to_dataset(), load_reference("primary"))
    ratio = distance[distance["parameter"].str.startswith("log_hazard_ratio")]
    assert ratio["distance_mean"].max() > 4
    with pytest.raises(SpecError, match="parameters are not those"):
        compare_with_reference(tree["posterior"].to_dataset(), load_reference("weibull"))
    with pytest.raises(SpecError, match="No reference posterior of 'none'"):
        load_reference("none")


@pytest.mark.parametrize(
    ("name", "replications"),
    [
        ("primary", 40),
        pytest.param("weibull", 40, marks=pytest.mark.slow),
        pytest.param("by_subgroup", 40, marks=pytest.mark.slow),
    ],
)
def test_calibration_in_small(name: str, replications: int) -> None:
    definition, person_time = synthetic_setting(name)
    found = calibrate(narrowed(definition), person_time, seed=11, replications=replications)
    assert found.ranks.sizes["replication"] == replications
    assert found.passed, found.table.sort_values("p_value").head()


def test_calibration_notices_a_wrong_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truths from a wide prior, a posterior under a narrow one: ranks pile up at the ends."""
    # Few intervals: else the parameters are many to look at.
    definition = narrowed(bb.load_model("primary"))
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    person_time = bb.person_time(cohort, question, cuts=[4.0, 6.0, 9.0, 14.0])
    narrow = definition.with_priors(phases=bb.HazardRatioPrior(hazard_ratio=(0.8, 1.25)))
    wide = build_model(definition, person_time)

    def from_the_wide_one(_: BuiltModel, *, seed: int, draws: int) -> xr.Dataset:
        return draw_prior(wide, seed=seed, draws=draws)

    monkeypatch.setattr("bayesblina.studies.calibration.draw_prior", from_the_wide_one)
    found = calibrate(narrow, person_time, seed=3, replications=60)
    assert not found.passed
    table = found.table.set_index("parameter")
    assert float(table["coverage_95"].loc["log_hazard_ratio[os, maintenance]"]) < 0.8


def test_stored_calibrations_are_of_the_models_that_ship() -> None:
    folder = ROOT / "docs" / "validation" / "calibration"
    stored = {path.stem for path in folder.glob("*.json")}
    # A power prior weights patients: it draws no data.
    assert calibrations.calibrated_models() == sorted(set(SAMPLED) - {"power_prior"})
    assert stored == {
        page_name(*run) for run in calibrations.runs(calibrations.calibrated_models())
    }
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        assert content["passed"] is True, path.stem
        counts = np.array(list(content["ranks"].values()))
        assert (counts.sum(axis=1) >= 200).all()
        page = path.with_suffix(".md").read_text()
        assert "**passed**" in page
        assert content["command"] in page


def test_all_calibrations_leave_finished_pages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        ran.append(arguments)
        return int("--pilot" in arguments)

    monkeypatch.setattr("bayesblina.studies.calibration.main", run)
    (tmp_path / "primary.json").write_text("{}")
    given = ["--out", str(tmp_path), "--model", "weibull", "--model", "primary"]
    # The one that fails is told by the exit code; the others have run all the same.
    assert calibrations.main([*given, "--replications", "20"]) == 1
    named = ["--replications", "20", "--seed", "1", "--out", str(tmp_path)]
    assert ran == [["weibull", *named], ["primary", *named, "--pilot"]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_simulated_events_are_exponential(seed: int) -> None:
    """Whatever the pieces: cumulative hazards at events, and censoring, are as they must be."""
    _, person_time = synthetic_setting("primary")
    flow = flow_of(person_time, ("os",))
    generator = np.random.default_rng(seed)
    rate = generator.uniform(0.01, 0.5, flow.patient.size)
    died, length = first_event(flow, rate, generator)
    group = np.cumsum(flow.first) - 1
    passed = np.bincount(group, rate * length)
    whole = np.bincount(group, rate * flow.length)
    event = np.bincount(group, died)
    assert set(np.unique(event)) <= {0.0, 1.0}
    assert ((length >= 0) & (length <= flow.length + 1e-12)).all()
    # Without an event all of the follow-up is at risk; with one, less.
    np.testing.assert_allclose(passed[event == 0], whole[event == 0])
    # Given its limit, 1 - exp(-passed) of an event is uniform up to that of the whole.
    share = (1 - np.exp(-passed[event == 1])) / (1 - np.exp(-whole[event == 1]))
    assert kstest(share, "uniform").pvalue > 1e-6


def test_the_bands_hold_their_level() -> None:
    generator = np.random.default_rng(1)
    reference = np.sort(least_probability(generator.random((100, 4000))))
    again = least_probability(generator.random((100, 2000)))
    level = np.searchsorted(reference, again) / 4000
    share = float((level < 0.05).mean())
    assert share == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 * (1 / 2000 + 1 / 4000)))
    # A shift is noticed.
    assert (least_probability(generator.random((100, 5)) ** 2) < reference[40]).all()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["primary", "--replications", "12", "--out", str(tmp_path)]
    assert calibration_main(arguments) in (0, 1)
    page = (tmp_path / "primary.md").read_text()
    assert "12 replications" in page
    assert "python -m bayesblina.studies.calibration primary --replications 12 --seed 1" in page
    assert json.loads((tmp_path / "primary.json").read_text())["model"] == "primary"
    capsys.readouterr()
    with pytest.raises(SpecError, match="10 replications"):
        calibrate(*synthetic_setting("primary"), seed=1, replications=3)
    with pytest.raises(SpecError, match="draws no data"):
        calibrate(*synthetic_setting("power_prior"), seed=1)
