"""Hazard ratios by hand: of phases, sets of them and covariates, averaged over events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.estimands import ratios
from bayesblina.estimands.ratios import _averaged, _current_members
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit


def test_hazard_ratio_is_the_exponential(synthetic_fit: Fit) -> None:
    ratio = bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
    log_ratio = synthetic_fit.posterior["log_hazard_ratio"].sel(effect="maintenance")
    # Exponentials may differ by roundings between arrays that lie differently in memory.
    np.testing.assert_allclose(ratio.values, np.exp(log_ratio.values), rtol=1e-14)
    table = bb.summary(bb.hazard_ratio(synthetic_fit), thresholds=(1.0, 0.8))
    assert list(table.columns) == [
        "endpoint",
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "probability_below_1",
        "probability_below_0.8",
        "mcse",
        "ess_bulk",
        "ess_tail",
        "r_hat",
        "companion_median",
        "companion_lower",
        "companion_upper",
        "companion_probability_below_1",
        "baseline",
        "baseline_shift",
        "event_times",
        "converged",
    ]
    flat = ratio.sel(endpoint="os").values.ravel()
    assert table.loc[0, "probability_below_0.8"] == pytest.approx((flat < 0.8).mean())
    assert table.loc[0, "upper"] == pytest.approx(np.quantile(flat, 0.975))


def test_each_phase_has_its_effect() -> None:
    """Two phases in turn, against the hazard put together by hand."""
    table = bb.simulate.blinatumomab_table(3)
    cohort = bb.read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="os_months", event="died")},
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
    )
    question = bb.Question(
        exposed="maintenance", reference="consolidation", eligible_from="entry", transplant="phase"
    )
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, chains=2, progress=False)
    regimes: list[Regime] = [bb.Never(), bb.WithPhases({"maintenance": 8.0, "transplant": 10.0})]
    rate = bb.hazard(fit, regimes=regimes, landmark=7.0, times=[7.5, 9.0, 11.0])["hazard"]
    never, phases = (rate.sel(regime=one.label, endpoint="os") for one in regimes)
    effect = fit.posterior["log_hazard_ratio"].sel(endpoint="os")
    np.testing.assert_allclose(phases.sel(time=7.5), never.sel(time=7.5))
    for time, phase in ((9.0, "maintenance"), (11.0, "transplant")):
        expected = never.sel(time=time).values * np.exp(effect.sel(effect=phase).values)
        np.testing.assert_allclose(phases.sel(time=time), expected)


def test_ratio_between_covariates(synthetic_fit: Fit) -> None:
    got = bb.hazard_ratio(
        synthetic_fit, exposed={"marrow_blasts": 70.0}, reference={"marrow_blasts": 50.0}
    )
    names = list(synthetic_fit.design.term_names)
    scale = synthetic_fit.design.scale[names.index("marrow_blasts")]
    slope = synthetic_fit.posterior["coefficient"].sel(term="marrow_blasts")
    np.testing.assert_allclose(
        got["hazard_ratio"].values, np.exp(20.0 / scale * slope.values), rtol=1e-12
    )
    assert got.attrs["reference"] == "marrow_blasts 50.0"
    level = bb.hazard_ratio(
        synthetic_fit, exposed={"age_group": "55+"}, reference={"age_group": "35-54"}
    )["hazard_ratio"]
    coefficient = synthetic_fit.posterior["coefficient"]
    expected = coefficient.sel(term="age_group[55+]") - coefficient.sel(term="age_group[35-54]")
    np.testing.assert_allclose(level.values, np.exp(expected.values), rtol=1e-12)


def test_ratio_between_sets_of_phases() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(
        exposed="maintenance",
        eligible_from="consolidation",
        reference="consolidation",
        transplant="phase",
    )
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    beta = fit.posterior["log_hazard_ratio"]
    plain = bb.hazard_ratio(fit)["hazard_ratio"]
    np.testing.assert_allclose(
        plain.values, np.exp(beta.sel(effect="maintenance").values), rtol=1e-12
    )
    swapped = bb.hazard_ratio(fit, exposed="consolidation", reference="maintenance")
    np.testing.assert_allclose(swapped["hazard_ratio"].values, 1 / plain.values, rtol=1e-12)
    mixed = bb.hazard_ratio(
        fit, exposed=["maintenance", "transplant"], reference="consolidation", over="interval"
    )["hazard_ratio"]
    average = bb.hazard_ratio(
        fit, exposed=["maintenance", "transplant"], reference="consolidation"
    )["hazard_ratio"]
    table = fit.person_time.table
    for endpoint in ("os", "rfs"):
        time = table["person_time"].sel(endpoint=endpoint).sum("pattern")
        one = beta.isel(chain=0, draw=9).sel(endpoint=endpoint)
        ratios = {
            name: float(np.exp(one.sel(effect=name))) for name in ("maintenance", "transplant")
        }
        whole = {name: float(time.sel(phase=name).sum()) for name in ratios}
        logs = []
        for interval in range(time.sizes["interval"]):
            spent = {name: float(time.sel(phase=name)[interval]) for name in ratios}
            spent = spent if sum(spent.values()) > 0 else whole
            expected = sum(spent[n] * ratios[n] for n in ratios) / sum(spent.values())
            value = mixed.sel(endpoint=endpoint).isel(chain=0, draw=9, interval=interval)
            assert float(value) == pytest.approx(expected, rel=1e-12)
            logs.append(np.log(expected))
        events = table["events"].sel(endpoint=endpoint).sum(("phase", "pattern")).values
        assert float(average.sel(endpoint=endpoint).isel(chain=0, draw=9)) == pytest.approx(
            float(np.exp(np.average(logs, weights=events))), rel=1e-12
        )
    for exposed, reference, message in (
        (["maintenance"], ["maintenance"], "stands on both sides"),
        ("maintenance", {"age_group": "55+"}, "phases with phases"),
        ([], "consolidation", "empty set"),
        (3, "consolidation", "Expected a phase"),
        (["maintenance", "maintenance"], "consolidation", "stands twice"),
        ("maintenence", "consolidation", "Nearest: maintenance"),
    ):
        with pytest.raises(EstimandError, match=message):
            bb.hazard_ratio(fit, exposed=exposed, reference=reference)  # type: ignore[arg-type]


def test_phases_that_share_a_hazard_are_not_told_apart() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="ignore")
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    shared = [
        str(name)
        for name, role in zip(
            fit.person_time.table["treatment"].values,
            fit.person_time.table["role"].values,
            strict=True,
        )
        if role == "reference"
    ]
    assert "consolidation" in shared
    assert len(shared) == 2
    (first,) = (name for name in shared if name != "consolidation")
    for exposed, reference in (
        (["consolidation", "maintenance"], first),
        ("maintenance", "consolidation"),
        ("consolidation", first),
    ):
        with pytest.raises(EstimandError, match=r"one hazard for .* names the reference"):
            bb.hazard_ratio(fit, exposed=exposed, reference=reference)
    whole = bb.hazard_ratio(fit, exposed="maintenance", reference=shared)["hazard_ratio"]
    np.testing.assert_allclose(whole.values, bb.hazard_ratio(fit)["hazard_ratio"].values)


def test_averages_over_events() -> None:
    values = np.array([[[1.0, 3.0], [2.0, 2.0]], [[0.0, 8.0], [5.0, 5.0]]])
    weights = np.array([[3.0, 1.0], [0.1, 0.2]])
    found = _averaged(values, weights, axis=2)
    assert found.shape == (2, 2, 1)
    # Exactly the value where it is one.
    assert found[..., 0].tolist() == [[1.5, 2.0], [2.0, 5.0]]
    # Without events all count alike, in each endpoint for itself.
    # Memory that nothing has been written to holds no shares.
    held = [np.full((2, 2), np.nan) for _ in range(20)]
    del held
    none = _averaged(values, np.array([[0.0, 0.0], [1.0, 0.0]]), axis=2)
    assert none[..., 0].tolist() == [[2.0, 2.0], [4.0, 5.0]]
    single = values[:, :, :1]
    assert _averaged(single, weights[:, :1], axis=2) is single
    over_endpoints = _averaged(values, weights, axis=1)
    assert over_endpoints[0, 0].tolist() == pytest.approx(
        [(3.0 * 1 + 0.1 * 2) / 3.1, (1.0 * 3 + 0.2 * 2) / 1.2]
    )


def test_classes_hold_current_patients_only() -> None:
    design: Any = SimpleNamespace(
        current_classes=2,
        member=np.arange(3)[:, None] == [0, 1, 0, 2],
        is_current=np.array([True, True, False, False]),
        sources=("trial",),
    )
    assert _current_members(design).astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    design.sources = ()
    assert _current_members(design).astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]


def test_the_companions_ratio_is_asked_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def ratio(fit: Any, exposed: Any, reference: Any, *, over: str, by: str | None) -> Any:
        asked.append((fit, exposed, reference, over, by))
        return SimpleNamespace(values=len(asked))

    monkeypatch.setattr(ratios, "require_kind", lambda *_: None)
    monkeypatch.setattr(ratios, "without_baseline", lambda fit: None if fit == "alone" else "bare")
    monkeypatch.setattr(ratios, "_ratio", ratio)
    monkeypatch.setattr(ratios, "_dataset", lambda fit, _, other: (fit, other))
    fit: Any = "fit"
    found: Any = ratios.hazard_ratio(fit, exposed="a", reference="b", over="interval", by="site")
    assert found == ("fit", 2)
    assert asked == [(one, "a", "b", "interval", "site") for one in ("fit", "bare")]
    alone: Any = "alone"
    assert ratios.hazard_ratio(alone) == ("alone", None)
