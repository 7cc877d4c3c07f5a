"""What scenarios say together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.studies.what_if.reading import Sensitivity


def label_of(settings: dict[str, str]) -> str:
    varied = [f"{axis} = {value}" for axis, value in settings.items() if value != "base"]
    return "; ".join(varied) or "base case"


def sheet(rows: list[tuple[dict[str, str], float, float]], *, failed: int = 0) -> Sensitivity:
    records = [
        {
            "label": "; ".join(f"{k} = {v}" for k, v in settings.items() if v != "base")
            or "base case",
            "status": "converged",
            "reason": "",
            "settings": settings,
            "key": str(index),
            "results": [
                {
                    "endpoint": "os",
                    "mean_log": log,
                    "median": float(np.exp(log)),
                    "lower": float(np.exp(log - 0.5)),
                    "upper": float(np.exp(log + 0.5)),
                    "probability_below_1": certain,
                }
            ],
        }
        for index, (settings, log, certain) in enumerate(rows)
    ]
    records += [
        {
            "label": f"lag = {9 + index}",
            "status": "failed",
            "reason": "why",
            "settings": {"lag": str(9 + index), "model": "base"},
            "key": f"f{index}",
            "results": [],
        }
        for index in range(failed)
    ]
    return Sensitivity.of({"synthetic": True}, records)


def at(lag: str, model: str) -> dict[str, str]:
    return {"lag": lag, "model": model}


FULL = [
    (at("base", "base"), -0.7, 0.99),
    (at("1", "base"), -0.5, 0.98),
    (at("base", "weibull"), -0.6, 0.985),
    (at("1", "weibull"), -0.1, 0.60),
]


def test_conclusions_are_counted_and_exceptions_named() -> None:
    found = sheet(FULL, failed=1)
    holds = found.holds("os")
    assert (holds.holds, holds.of) == (3, 4)
    assert holds.not_in == ("lag = 1; model = weibull",)
    assert holds.without_answer == ("lag = 9",)
    assert str(holds) == (
        "os: the base case's conclusion, that the hazard is lower (P(HR < 1) at least 0.975), "
        "holds in 3 of 4 scenarios; not in: lag = 1; model = weibull; without an answer: lag = 9."
    )
    assert found.holds("os", probability=0.51).holds == 4
    assert found.holds("os", probability=0.51, ratio=0.56).holds == 2
    with pytest.raises(SpecError, match="No endpoint"):
        found.holds("pfs")
    with pytest.raises(SpecError, match=r"between 0\.5 and 1"):
        found.holds("os", probability=1.0)


def test_a_conclusion_has_the_base_cases_direction() -> None:
    """Harm in every scenario is a stable conclusion, and so is what stays open."""
    harm = sheet([(lags, -one, 1 - share) for lags, one, share in FULL])
    holds = harm.holds("os")
    assert (holds.direction, holds.holds, holds.of) == ("higher", 3, 4)
    assert str(holds).startswith(
        "os: the base case's conclusion, that the hazard is higher (P(HR > 1) at least 0.975), "
        "holds in 3 of 4 scenarios; not in: lag = 1; model = weibull"
    )
    assert harm.conclusion("os") == str(holds)
    # What is asked for wins; the ratio of harm is the inverse.
    assert harm.holds("os", direction="lower").holds == 0
    assert harm.holds("os", probability=0.51, ratio=0.56).holds == 2
    told = replace(harm, direction="lower")
    assert str(told.holds("os")).startswith("os: the conclusion, that the hazard is lower")
    middling = sheet([(FULL[0][0], -0.1, 0.7), (FULL[1][0], 0.1, 0.4), (FULL[2][0], -0.9, 0.99)])
    assert (middling.holds("os").direction, middling.holds("os").holds) == ("open", 2)
    assert "that it is open whether the hazard is lower or higher" in middling.conclusion("os")
    silent = sheet(FULL[1:])
    with pytest.raises(SpecError, match="base case has no answer"):
        silent.holds("os")
    assert "the base case has no answer" in silent.conclusion("os")
    assert silent.holds("os", direction="lower").holds == 2
    with pytest.raises(SpecError, match="direction must be"):
        harm.holds("os", direction="worse")  # type: ignore[arg-type]


def test_a_harmful_phases_tornado_has_probabilities() -> None:
    """Probabilities of 0.0002 and 0: the panel shows them, and none that cannot be."""
    rows = [(at("base", "base"), 0.8, 0.0002), (at("1", "base"), 0.7, 0.0)]
    figure = bb.plots.tornado(sheet(rows), "os")
    _, right = figure.axes
    low, high = right.get_xlim()
    assert 0.0 <= low < high <= 1.0
    assert high - low >= 0.009
    ends = [float(end) for line in right.lines for end in np.ravel(line.get_xdata())]
    assert ends == [0.0, 0.0002]
    assert all(low <= one <= high for one in ends)


def test_effects_of_axes_and_pairs_by_hand() -> None:
    effects = sheet(FULL).effects("os").set_index("axis")
    # Full design: means over the other axis.
    lag = effects.loc["lag"]
    assert (lag["low"], lag["high"]) == ("base", "1")
    assert lag["log_ratio_low"] == pytest.approx((-0.7 - 0.6) / 2)
    assert lag["log_ratio_range"] == pytest.approx((-0.5 - 0.1) / 2 - (-0.7 - 0.6) / 2)
    assert lag["probability_range"] == pytest.approx((0.99 + 0.985) / 2 - (0.98 + 0.60) / 2)
    pair = effects.loc["lag x model"]
    assert pair["high"] == "lag = 1, model = weibull"
    assert pair["log_ratio_range"] == pytest.approx(-0.1 - (-0.5 - 0.6 + 0.7))
    assert pair["probability_range"] == pytest.approx(0.60 - (0.98 + 0.985 - 0.99))
    # One at a time: against the base case.
    alone = sheet(FULL[:3]).effects("os").set_index("axis")
    assert list(alone.index) == ["lag", "model"]
    assert alone.loc["lag", "log_ratio_range"] == pytest.approx(0.2)
    assert alone.loc["model", "log_ratio_range"] == pytest.approx(0.1)


def test_figures_of_scenarios() -> None:
    found = sheet(FULL)
    curve = bb.plots.specification_curve(found, "os")
    top, bottom = curve.axes
    assert len(top.containers) == 2
    assert [label.get_text() for label in bottom.get_yticklabels()] == [
        "lag: base",
        "lag: 1",
        "model: base",
        "model: weibull",
    ]
    dots = [line.get_xdata() for line in bottom.lines]
    assert sorted(np.concatenate(dots).tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert curve.get_suptitle() == "synthetic patients"
    assert len(bb.plots.tornado(found, "os").axes) == 4
    assert len(bb.plots.tornado(sheet(FULL[:3]), "os").axes) == 2
    shown = bb.plots.scenario_map(found, "os", "lag", "model").axes[0]
    assert [text.get_text() for text in shown.texts] == ["0.50", "0.55", "0.61", "0.90"]
    with pytest.raises(SpecError, match="too many"):
        bb.plots.specification_curve(found, "os", largest=3)
    with pytest.raises(SpecError, match="Nothing was varied"):
        bb.plots.tornado(sheet(FULL[:1]), "os")
    for rows, columns, words in (
        ("lag", "lag", "two different"),
        ("lag", "x", "No axis 'x'"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.plots.scenario_map(found, "os", rows, columns)
    with pytest.raises(SpecError, match="No column"):
        bb.plots.scenario_map(found, "os", "lag", "model", value="x")
