"""The baseline gate: its limits by hand, and what a fit that fails it looks like when stored."""

import dataclasses
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import ndtri

import bayesblina as bb
from bayesblina.checks import refit
from bayesblina.core.arrays import Floats
from bayesblina.inference.baseline_gate import (
    BaselineGate,
    exposed_sds,
    gate_of,
    judge,
    not_compared,
    worst,
)
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit

SIZE = 4000


def normal(mean: float, sd: float, *, seed: int, chains: int = 4, size: int = SIZE) -> Floats:
    """Draws of exactly this mean and sd, in any order; shape (chain, draw, 1)."""
    values = ndtri((np.arange(size) + 0.5) / size)
    values = mean + sd * values / values.std(ddof=1)
    order = np.random.default_rng(seed).permutation(size)
    return values[order].reshape(chains, -1, 1)


def state(mean: float, sd: float, other: tuple[float, float] = (0.0, 1.0), **more: float) -> str:
    found = judge(normal(mean, sd, seed=1), normal(*other, seed=2, chains=1), **more)
    assert found["shift"].iloc[0] == pytest.approx((mean - other[0]) / other[1], abs=1e-9)
    assert found["sd_ratio"].iloc[0] == pytest.approx(sd / other[1], rel=1e-9)
    return str(found["state"].iloc[0])


def test_limits_by_hand() -> None:
    # Means in sds of the companion: a quarter, a half.
    assert state(0.249, 1.0) == "passed"
    assert state(0.251, 1.0) == "told"
    assert state(-0.251, 1.0) == "told"
    # The error of the difference is sqrt(2 / 4000) = 0.022 when both are independent draws, and two
    # of them must not fail a fit.
    assert state(0.49, 1.0) == "told"
    assert state(0.51, 1.0) == "told"
    assert state(0.60, 1.0) == "failed"
    assert state(-0.60, 1.0) == "failed"
    # It is the companion's sd that counts.
    assert state(0.60, 1.0, (0.0, 3.0)) == "told"
    assert state(0.10, 0.5, (0.0, 0.45)) == "passed"
    # Sds that differ by more than a quarter, of means that differ at all.
    assert state(0.02, 1.24) == "passed"
    assert state(0.02, 1.26) == "told"
    assert state(0.02, 0.76) == "passed"
    assert state(0.02, 0.74) == "told"
    assert state(0.009, 1.5) == "passed"


def test_a_difference_of_a_hundredth_is_none() -> None:
    assert state(0.0099, 0.001, (0.0, 0.001)) == "passed"
    # Whatever the sd; 0.0102 less two errors of 0.0000224 is still above 0.01.
    assert state(0.0102, 0.001, (0.0, 0.001)) == "failed"
    assert state(0.0102, 0.03, (0.0, 0.03)) == "told"


def test_the_companions_own_error_is_told() -> None:
    assert state(0.8, 1.0, error=0.79) == "failed"
    assert state(0.8, 1.0, error=0.81) == "told"
    assert state(0.3, 1.0, error=0.81) == "told"
    assert state(0.1, 1.0, error=0.81) == "passed"
    found = judge(normal(0.8, 1.0, seed=1), normal(0.0, 1.0, seed=2), error=0.81)
    assert found["reason"].iloc[0] == "within the companion's own error of 0.81"


def test_few_effective_draws_fail_nothing() -> None:
    """A companion worth 16 draws has a mean that is a quarter of an sd off by chance."""
    assert state(0.9, 1.0, effective=1e6) == "failed"
    assert state(0.9, 1.0, effective=16.0) == "told"
    assert state(1.2, 1.0, effective=16.0) == "failed"


def test_chance_of_the_draws_fails_no_fit() -> None:
    """Chains that mix slowly are judged by their effective size, not by their length."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(200):
        noise = rng.normal(size=(4, 500, 1))
        slow = np.zeros_like(noise)
        for step in range(1, 500):
            slow[:, step] = 0.95 * slow[:, step - 1] + np.sqrt(1 - 0.95**2) * noise[:, step]
        exact = rng.normal(size=(1, 100_000, 1))
        # The true shift is 0.45 sds.
        failed += judge(slow + 0.45, exact)["state"].iloc[0] == "failed"
    # Of about 50 effective draws, 66 of 200 would fail without the two errors.
    assert failed <= 10


def test_what_has_no_spread_is_not_compared() -> None:
    fixed = np.zeros((1, 100, 1))
    assert judge(normal(0.0, 1.0, seed=1), fixed)["state"].iloc[0] == "not compared"
    assert judge(normal(0.0, 1.0, seed=1), fixed * np.nan)["state"].iloc[0] == "not compared"
    # A fit that never moved is compared all the same.
    assert judge(fixed + 2.0, normal(0.0, 1.0, seed=1))["state"].iloc[0] == "failed"


def test_rows_are_named() -> None:
    rng = np.random.default_rng(0)
    coords = {"endpoint": ["os", "rfs"], "effect": ["late", "early"], "subgroup": ["young", "old"]}
    shape = (2, 500, 2)
    posterior = xr.Dataset(
        {
            "log_hazard_ratio": (
                ("chain", "draw", "endpoint", "effect"),
                rng.normal(size=(*shape, 2)),
            ),
            "log_hazard_ratio_by_subgroup": (
                ("chain", "draw", "endpoint", "subgroup"),
                rng.normal(size=(*shape, 2)),
            ),
            "log_baseline": (("chain", "draw", "endpoint"), rng.normal(size=shape)),
        },
        coords=coords,
    )
    # Dimensions in another order, an endpoint that is far off.
    companion = posterior.drop_vars("log_hazard_ratio_by_subgroup").isel(chain=[0])
    away = xr.DataArray([0.0, 1.0], coords={"endpoint": ["os", "rfs"]})
    moved = (companion["log_hazard_ratio"] + away).transpose("effect", "draw", "endpoint", "chain")
    gate = gate_of(posterior, companion.assign(log_hazard_ratio=moved))
    table = gate.table.set_index(["endpoint", "effect"])["state"]
    assert table["os", "late"] == table["os", "early"] == "passed"
    assert table["rfs", "late"] == table["rfs", "early"] == "failed"
    assert table["os", "subgroup old"] == "not compared"
    assert [gate.state_of(name) for name in ("os", "rfs")] == ["not compared", "failed"]
    assert not gate.passed
    assert len(gate.failures()) == 2
    assert gate.failures()[0].startswith("rfs, late: log hazard ratio ")
    assert "THE BASELINE MOVES THE HAZARD RATIO" in repr(gate)
    assert "FAILED" in gate._repr_html_()


def test_worst_comes_first() -> None:
    assert worst(pd.Series(["passed", "not compared"])) == "not compared"
    assert worst(pd.Series(["passed", "not compared", "told"])) == "told"
    assert worst(pd.Series(["told", "failed"])) == "failed"
    gate = not_compared("there is none", ("os", "rfs"))
    # What cannot be compared is told, and does not fail.
    assert gate.passed
    assert gate.reason == "there is none"
    assert gate.told() == gate.failures() == []


def drawn(means: list[float], seed: int, endpoints: list[str]) -> xr.Dataset:
    values = np.stack([normal(mean, 1.0, seed=seed + at) for at, mean in enumerate(means)], axis=2)
    return xr.Dataset(
        {"log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), values)},
        coords={"endpoint": endpoints, "effect": ["late"]},
    )


def test_what_a_companion_says_of_itself_counts_for_its_endpoint() -> None:
    names = ["os", "rfs"]
    posterior, companion = drawn([0.8, 0.8], 1, names), drawn([0.0, 0.0], 11, names)
    assert gate_of(posterior, companion).table["state"].tolist() == ["failed", "failed"]
    for column, values in (("error", [np.nan, 0.81]), ("effective_draws", [1e6, 16.0])):
        stated = pd.DataFrame({"endpoint": ["rfs", "os"], column: values})
        found = gate_of(posterior, companion, stated=stated)
        assert [found.state_of(name) for name in names] == ["told", "failed"]
    # Without a companion every endpoint says why.
    none = gate_of(posterior, None, reason="not compared: too few events")
    assert none.table["endpoint"].tolist() == names
    assert none.table["reason"].tolist() == ["too few events"] * 2
    assert "Baseline gate: " in none._repr_html_()
    sds = exposed_sds(posterior)
    assert sds == {
        name: pytest.approx(posterior["log_hazard_ratio"].values[:, :, at, 0].std(ddof=1))
        for at, name in enumerate(names)
    }


def test_a_fit_has_its_companion(synthetic_fit: Fit) -> None:
    assert synthetic_fit.companion.draws is not None
    assert list(synthetic_fit.gate.table["endpoint"]) == ["os", "rfs"]
    assert list(synthetic_fit.gate.table["effect"]) == ["maintenance", "maintenance"]
    assert synthetic_fit.gate.passed
    assert synthetic_fit.failed == ()
    draws = synthetic_fit.posterior["log_hazard_ratio"].sel(endpoint="os")
    row = synthetic_fit.gate.table.iloc[0]
    assert row["mean"] == pytest.approx(float(draws.mean()), rel=1e-12)
    assert row["sd"] == pytest.approx(float(draws.std(ddof=1)), rel=1e-12)
    other = synthetic_fit.companion.draws["log_hazard_ratio"].sel(endpoint="os")
    assert row["companion_mean"] == pytest.approx(float(other.mean()), rel=1e-12)
    assert "companion" in synthetic_fit.provenance.seconds


def same(one: Fit, other: Fit) -> None:
    pd.testing.assert_frame_equal(one.gate.table, other.gate.table)
    assert one.gate.against == other.gate.against
    pd.testing.assert_frame_equal(one.companion.table, other.companion.table)
    assert one.companion.reason == other.companion.reason
    assert one.event_times is not None
    assert other.event_times is not None
    pd.testing.assert_frame_equal(one.event_times.table, other.event_times.table)
    assert one.event_times.notes == other.event_times.notes


def test_stored_and_loaded(synthetic_fit: Fit, tmp_path: Path) -> None:
    bb.save(synthetic_fit, tmp_path / "fit.nc")
    again = bb.load(tmp_path / "fit.nc")
    same(synthetic_fit, again)
    assert again.companion.draws is not None
    assert synthetic_fit.companion.draws is not None
    xr.testing.assert_identical(again.companion.draws, synthetic_fit.companion.draws)
    assert set(again.draws.children) == set(synthetic_fit.draws.children)
    before, after = (bb.summary(bb.hazard_ratio(one)) for one in (synthetic_fit, again))
    pd.testing.assert_frame_equal(before, after)


def test_nothing_to_compare_with_is_stored_too(synthetic_fit: Fit, tmp_path: Path) -> None:
    table = synthetic_fit.companion.table.assign(method="none", error=np.nan)
    alone = dataclasses.replace(
        synthetic_fit,
        companion=Companion(draws=None, table=table, reason="not compared: there is none"),
        gate=not_compared("there is none", ("os", "rfs")),
    )
    bb.save(alone, tmp_path / "fit.nc")
    again = bb.load(tmp_path / "fit.nc")
    same(alone, again)
    assert again.companion.draws is None
    assert again.gate.state == "not compared"
    assert set(bb.hazard_ratio(again)["baseline"].values) == {"not compared"}
    assert "companion_median" not in bb.summary(bb.hazard_ratio(again))


def test_files_of_earlier_versions_have_none_of_it(synthetic_fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    bb.save(synthetic_fit, path)
    # A file without them, sealed as the earlier version sealed it.
    from bayesblina.inference.storage import COMPANION, LATER, SEAL, SEAL_LENGTH

    path.write_bytes(path.read_bytes()[:-SEAL_LENGTH])
    with h5py.File(path, "a") as file:
        for name in LATER:
            del file.attrs[name]
        del file[COMPANION]
    import hashlib

    content = path.read_bytes()
    path.write_bytes(content + SEAL + hashlib.sha256(content).hexdigest().encode())
    old = bb.load(path)
    assert old.gate.state == "not compared"
    assert old.event_times is None
    assert old.failed == ()
    assert bool((bb.hazard_ratio(old)["baseline"] == "not compared").all())


def test_gate_is_made_of_frozen_values(synthetic_fit: Fit) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        synthetic_fit.gate.against = "nothing"  # type: ignore[misc]
    assert isinstance(synthetic_fit.gate, BaselineGate)


def test_what_a_fit_passed_against_is_said_where_it_is_weaker() -> None:
    """Two smooth fits alike say less than the partial likelihood."""
    draws = xr.Dataset(
        {
            "log_hazard_ratio": (
                ("chain", "draw", "endpoint", "effect"),
                np.random.default_rng(1).normal(size=(2, 500, 1, 1)),
            )
        },
        coords={"endpoint": ["os"], "effect": ["b"]},
    )
    assert gate_of(draws, draws).words() == "the baseline does not move the hazard ratio"
    weaker = gate_of(draws, draws, against="itself with more cuts")
    assert weaker.passed
    assert weaker.words().endswith("hazard ratio: compared with itself with more cuts")


def test_draws_that_cannot_be_read_clear_no_baseline(
    synthetic_fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fit is the first again: passed if it converged, and else not compared."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    criteria = synthetic_fit.convergence.criteria
    wrong = dataclasses.replace(
        synthetic_fit.convergence, criteria=criteria.assign(passed=[False] * len(criteria))
    )
    failed = dataclasses.replace(synthetic_fit, convergence=wrong)
    seen: list[tuple[Any, ...]] = []
    for again, state in ((synthetic_fit, "passed"), (failed, "not compared")):

        def second(*given: object, again: Fit = again, **_: object) -> Fit:
            seen.append(given)
            return again

        monkeypatch.setattr(refit, "fit_person_time", second)
        gate = refit.compare_with_refit(synthetic_fit, cohort)
        assert gate.state == state
        assert "itself with twice the cuts" in gate.words()
    definition, person_time, _ = seen[0]
    assert definition.baseline.step.sd == pytest.approx(3.0)
    assert person_time.cuts.size > synthetic_fit.person_time.cuts.size
