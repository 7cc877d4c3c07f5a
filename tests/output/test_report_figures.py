"""Figures in the page: the panels of `output.plots` as SVG that takes its colours from the page."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from bayesblina.output.report import figures
from tests.output.plots.examples import sensitivity

TIMES = np.linspace(8.0, 24.0, 9)
COLOURS = {"maintenance": 1, "no maintenance": 0}
HOSTILE = "</svg><script>1</script> $x$ \u202ea\x00b \U0001f9ec " + "m" * 90


def survival(**changes: Any) -> tuple[figures.Figure, dict[str, Any]]:
    parts = []
    for regime, rate in (("never", 0.06123), ("from 8", 0.03045)):
        alive = np.exp(-rate * (TIMES - 8.0))
        bands = {"median": alive, "lower": alive**1.3, "upper": alive**0.7}
        parts.append(pd.DataFrame({"regime": regime, "time": TIMES, **bands}))
    settings: dict[str, Any] = {
        "regimes": ["never", "from 8"],
        "observed": {
            "maintenance": (TIMES[:4], np.array([1.0, 0.9, 0.8, 0.7])),
            "no maintenance": (TIMES[:1], np.array([1.0])),
        },
        "at_risk": {"maintenance": [(8.0, "30"), (16.0, "*")]},
        "colours": COLOURS,
        "known_until": {"never": 14.0},
        "title": "os: survival",
        "unit": "months",
        "landmark": 8.0,
    }
    return figures.survival("survival-0-0", pd.concat(parts), **{**settings, **changes})


def drawn_of_each() -> dict[str, figures.Figure]:
    """Draw one figure of each kind."""
    rung = {"estimate": 0.5, "lower": 0.2, "upper": 1.4, "absent": "masked"}
    rows = pd.DataFrame(
        {
            "interval_stop": [4.0, np.inf],
            "observed": [7.0, 9.0],
            "expected": [6.5, 9.25],
            "lower": [2.0, 4.0],
            "upper": [12.0, 16.0],
        }
    )
    curves = pd.DataFrame({"group": "maintenance", "time": TIMES, "lower": 0.4, "upper": 0.7})
    found = sensitivity()
    scenarios = found.of_endpoint("os").sort_values("median").reset_index(drop=True)
    draws = np.random.default_rng(1).normal(-0.5, 0.3, 400)
    return {
        "survival": survival()[0],
        "density": figures.density(
            "density-0",
            draws,
            prior=(0.0, 0.8),
            interval=(0.35, 1.1),
            median=0.6,
            thresholds=[1.0, 99.0],
            title="os",
            axis=HOSTILE,
        ),
        "forest": figures.forest(
            "ladder-0",
            [
                {"label": HOSTILE, "kind": "biased", **rung},
                {"label": "Cox", "kind": "other", **rung},
                {"label": "Bayesian", "kind": "own", **rung},
                {"label": "landmark", "kind": "other", **rung, "estimate": np.nan},
            ],
            title="os",
        ),
        "events": figures.events("events-0", rows, title="os", unit="months"),
        "bands": figures.bands(
            "replicated-0",
            curves.assign(median=0.5),
            observed={"maintenance": (TIMES, np.linspace(1.0, 0.4, 9))},
            colours=COLOURS,
            title="os",
            axis="months",
        ),
        "specification": figures.specification("specification-0", found, scenarios, title="os"),
        "tornado": figures.tornado("tornado-0", found.effects("os"), title="os"),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, figures.Figure]:
    return drawn_of_each()


def tree(figure: figures.Figure) -> ElementTree.Element:
    return ElementTree.fromstring(str(figure.svg))


def test_equal_results_give_equal_text(drawn: dict[str, figures.Figure]) -> None:
    again = drawn_of_each()
    assert {name: one.svg for name, one in again.items()} == {
        name: one.svg for name, one in drawn.items()
    }


def test_every_colour_is_the_pages(drawn: dict[str, figures.Figure]) -> None:
    css = files("bayesblina.output.report").joinpath("templates/report.css").read_text("utf-8")
    known = set(re.findall(r"(--\w+):", css))
    seen = set()
    for name, figure in drawn.items():
        for element in tree(figure).iter():
            for key in ("fill", "stroke", "color"):
                value = element.get(key, "none")
                variable = re.fullmatch(r"var\((--\w+)\)", value)
                assert value == "none" or (variable and variable[1] in known), (name, value)
                seen.add(value)
    assert {"var(--c0)", "var(--c1)", "var(--ink)", "var(--soft)", "var(--paper)"} <= seen


def test_nothing_in_it_needs_a_style_or_leaves_the_page(drawn: dict[str, figures.Figure]) -> None:
    for figure in drawn.values():
        for element in tree(figure).iter():
            assert element.tag in {
                *("svg", "g", "path", "text", "title", "desc"),
                *("use", "defs", "clipPath", "rect"),
            }
            assert not {"style", "font-family"} & set(element.attrib)
            assert element.get("href", "#").startswith("#")


def test_ids_do_not_clash_and_lead_somewhere(drawn: dict[str, figures.Figure]) -> None:
    other = figures.events(
        "events-1",
        pd.DataFrame(
            [{"interval_stop": 4.0, "observed": 7, "expected": 6.5, "lower": 2, "upper": 9}]
        ),
        title="os",
        unit="months",
    )
    ids: list[str] = []
    for figure in (*drawn.values(), other):
        root = tree(figure)
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        named = set(root.attrib["aria-labelledby"].split())
        for element in root.iter():
            if "href" in element.attrib:
                named.add(element.attrib["href"].removeprefix("#"))
            if "clip-path" in element.attrib:
                named.add(element.attrib["clip-path"].removeprefix("url(#").removesuffix(")"))
        assert named <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_ids_are_no_hashes_of_unrounded_places(drawn: dict[str, figures.Figure]) -> None:
    for figure in drawn.values():
        ids = [one.attrib["id"] for one in tree(figure).iter() if "id" in one.attrib]
        own = re.compile(rf"{figure.name}-(\d+|title|words)")
        assert len(ids) > 2
        assert all(own.fullmatch(name) for name in ids), ids


def test_places_tell_nothing_finer_than_two_decimals(drawn: dict[str, figures.Figure]) -> None:
    for figure in drawn.values():
        for element in tree(figure).iter():
            for value in element.attrib.values():
                assert not re.search(r"\.\d{3}", value), value


def test_names_from_the_data_are_text(drawn: dict[str, figures.Figure]) -> None:
    for name in ("density", "forest"):
        svg = str(drawn[name].svg)
        assert "<script" not in svg
        assert not re.search("[\x00\u202e]", svg)
        # What is cut is told in full.
        told = [one.text or "" for one in tree(drawn[name]).iter("title")][1:]
        assert [text.endswith(" " + "m" * 90) for text in told] == [True]
        assert "$x$" in told[0]


def test_regimes_and_observed_curves_can_be_chosen() -> None:
    figure, _ = survival()
    groups = [one for one in tree(figure).iter("g") if one.get("class")]
    assert [(one.get("class"), one.get("data-regime")) for one in groups] == [
        ("regime", "0"),
        ("regime", "1"),
        ("observed", None),
    ]
    never, later, observed = groups
    # A band and a line, and both again in grey where too few are at risk.
    assert len(list(never.iter("path"))) == 4
    assert len(list(later.iter("path"))) == 2
    assert len(list(observed.iter("path"))) == 1
    assert [one.text for one in observed.iter("title")] == ["maintenance (observed)"]


def test_readings_lie_on_the_curves() -> None:
    """Where the script puts its dots is where the line is."""
    figure, data = survival(known_until={})
    for curve, group in zip(
        data["curves"],
        [one for one in tree(figure).iter("g") if one.get("data-regime")],
        strict=True,
    ):
        line = next(one for one in group.iter("path") if one.get("fill") == "none")
        places = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", line.attrib["d"]), dtype=float)
        np.testing.assert_allclose(places, np.c_[data["x"], curve["y"]], atol=0.011)
    # And where the values say: 1.02 is at the panel's top, 0 at its bottom.
    tall = data["bottom"] - data["top"]
    for curve in data["curves"]:
        expected = data["bottom"] - tall * np.array(curve["median"]) / 1.02
        np.testing.assert_allclose(curve["y"], expected, atol=0.011)
    assert data["x"][0] == figures.LEFT
    assert data["x"][-1] == pytest.approx(data["width"] - figures.RIGHT)


def test_survival_is_drawn_of_rounded_numbers() -> None:
    """A place of two decimals would tell more of survival than the three decimals shown."""
    rows, _ = survival()
    near = pd.DataFrame({"regime": "never", "time": TIMES, "median": 0.5, "lower": 0.4})
    near["upper"] = 0.6
    drawn = [
        figures.survival(
            "survival-0-0",
            near.assign(median=near["median"] + shift),
            regimes=["never"],
            observed={},
            at_risk={},
            colours=COLOURS,
            known_until={},
            supported=False,
            title="os",
            unit="months",
            landmark=8.0,
        )[0].svg
        for shift in (0.0, 0.0004, 0.001)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert rows.description.startswith("os: survival. Posterior survival with 95 % bands")


def test_numbers_at_risk_and_masks_stand_below_their_times() -> None:
    figure, data = survival()
    texts = {one.text: float(one.attrib["x"]) for one in tree(figure).iter("text") if one.text}
    assert texts["*"] == pytest.approx(data["x"][4], abs=0.02)
    assert texts["30"] == pytest.approx(data["x"][0], abs=0.02)
    assert "at risk, by phase" in texts


def test_scenarios_are_told_when_they_are_pointed_at(drawn: dict[str, figures.Figure]) -> None:
    told = [one.text for one in tree(drawn["specification"]).iter("title")][1:]
    rows = sensitivity().of_endpoint("os").sort_values("median")
    expected = [
        f"{row['scenario']}: {row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        for row in rows.to_dict("records")
    ]
    assert told == [*expected, *expected]


def test_letters_that_no_font_has_are_no_trouble() -> None:
    rung = {"kind": "own", "estimate": 0.5, "lower": 0.2, "upper": 1.4, "absent": ""}
    figure = figures.forest("ladder-0", [{"label": "患者 \U0001f9ec", **rung}], title="患者")
    assert "患者 \U0001f9ec" in str(figure.svg)
