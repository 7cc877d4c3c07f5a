"""The report tells what the tables say, hides what it must, and asks for nothing from outside."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.tables.numbers import probability
from bayesblina.core.tables.table import read_csv
from bayesblina.output.report.folder import summary
from bayesblina.output.report.hiding import without_few
from bayesblina.output.report.page import SECTIONS, render
from bayesblina.output.report.results import read_results
from bayesblina.output.report.wording import PROBABILITY, SURVIVAL, shown
from bayesblina.output.result_files import TEXTS
from bayesblina.patients.account import Account, Line
from tests.output.pages import Page

# Tables whose numbers are shown, and by what their rows are told apart in the report's keys.
KEYS = {
    "hazard_ratios": ("endpoint",),
    "survival_by_landmark": ("endpoint", "landmark", "regime", "time"),
    "restricted_means": ("endpoint", "landmark", "regime"),
    "leave_one_out": ("endpoint",),
}


@pytest.fixture(scope="module")
def text(demo: tuple[Path, Any]) -> str:
    return (demo[0] / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(text: str) -> Page:
    return Page(text)


# One set of numbers.


def test_numbers_are_those_of_the_tables(demo: tuple[Path, Any], read: Page) -> None:
    seen = dict.fromkeys(KEYS, 0)
    tables = {name: read_csv(demo[0] / f"{name}.csv", texts=TEXTS[name]) for name in KEYS}
    for attributes, shown_text in read.data:
        name, *labels, column = attributes.get("data-key", "/").split("/")
        if name not in KEYS:
            continue
        table = tables[name]
        rows = np.ones(len(table), dtype=bool)
        for label, key in zip(labels, KEYS[name], strict=True):
            known = table[key]
            words = known.map("{:.4g}".format) if known.dtype.kind == "f" else known.astype(str)
            rows &= (words == label).to_numpy()
        assert rows.sum() == 1, attributes
        value = float(table.loc[rows, column].iloc[0])
        # Nothing finer than what is shown goes with it.
        bare = shown_text.lstrip("<>")
        assert float(attributes["value"]) == float(bare)
        assert float(bare) == pytest.approx(value, abs=0.5 if column == "ess_bulk" else 0.051)
        seen[name] += 1
    assert all(count > 0 for count in seen.values()), seen


def test_answers_are_the_hazard_ratios(demo: tuple[Path, Any], read: Page) -> None:
    table = read_csv(demo[0] / "hazard_ratios.csv", texts=["endpoint"]).set_index("endpoint")
    words = " ".join(" ".join(read.text).split())
    for endpoint, row in table.iterrows():
        assert (
            f"{str(endpoint).upper()}: hazard ratio of maintenance against every eligible moment "
            f"without maintenance {row['median']:.2f} (posterior median; 95 % interval "
            f"{row['lower']:.2f} to {row['upper']:.2f} ; probability that it is below 1: "
            f"{probability(row['probability_below_1'])} )"
        ).replace(" ;", ";").replace(" )", ")") in words.replace(" ;", ";").replace(" )", ")")


def test_curves_are_those_of_the_table(demo: tuple[Path, Any], text: str) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    data = json.loads(found.group(1))
    table = read_csv(demo[0] / "survival_by_landmark.csv", texts=TEXTS["survival_by_landmark"])
    endpoints = list(dict.fromkeys(table["endpoint"]))
    landmarks = sorted(set(table["landmark"]))
    assert landmarks == [8.0, 12.0, 16.0]
    count = 0
    for name, drawn in data["curves"].items():
        _, endpoint, landmark = name.split("-")
        rows = table[
            (table["endpoint"] == endpoints[int(endpoint)])
            & (table["landmark"] == landmarks[int(landmark)])
        ]
        for curve in drawn["curves"]:
            own = rows[rows["regime"] == curve["label"]]
            np.testing.assert_allclose(drawn["times"], own["time"], atol=0.0051)
            for column in ("median", "lower", "upper"):
                np.testing.assert_allclose(curve[column], own[column], atol=0.00051)
            count += len(own)
    assert count == len(table)


def test_first_landmark_is_the_studys(demo: tuple[Path, Any]) -> None:
    own = read_csv(demo[0] / "survival.csv", texts=TEXTS["survival"])
    every = read_csv(demo[0] / "survival_by_landmark.csv", texts=TEXTS["survival_by_landmark"])
    both = own.merge(every, on=["endpoint", "regime", "time"])
    both = both[both["landmark"] == 8.0]
    assert len(both) == len(own)
    for column in ("median", "lower", "upper"):
        np.testing.assert_array_equal(both[f"{column}_x"], both[f"{column}_y"])


def test_the_ladder_ends_with_the_answer(demo: tuple[Path, Any]) -> None:
    ladder = read_results(demo[0]).tables["bias_ladder"]
    ratios = read_csv(demo[0] / "hazard_ratios.csv", texts=["endpoint"])
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    fit = bb.load(demo[0] / "fit.nc")
    own = bb.classical.bias_ladder(cohort, fit.question, landmarks=[8.0, 12.0, 16.0], fit=fit)
    pd.testing.assert_frame_equal(ladder, own, check_exact=False, rtol=1e-12)
    last = ladder.groupby("endpoint", sort=False).last()
    assert last["estimate"].tolist() == ratios["median"].tolist()


def test_restricted_means_are_differences(demo: tuple[Path, Any]) -> None:
    fit = bb.load(demo[0] / "fit.nc")
    table = read_results(demo[0]).tables["restricted_means"]
    row = table[(table["endpoint"] == "os") & (table["landmark"] == 8.0)].iloc[0]
    assert row["regime"] == "from 8"
    means = bb.rmst(fit, horizon=row["horizon"], regimes=[bb.Never(), bb.From(8.0)], landmark=8.0)[
        "rmst"
    ]
    gain = means.sel(endpoint="os", regime="from 8") - means.sel(endpoint="os", regime="never")
    assert float(gain.median()) == pytest.approx(row["median"], rel=1e-12)


# What must not be overlooked, and what must not be seen.


def test_synthetic_is_said_everywhere(read: Page, text: str) -> None:
    assert "<title>SYNTHETIC: " in text
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", text, flags=re.DOTALL)
    assert len(captions) > 20
    for _, caption in captions:
        assert "Synthetic patients." in caption or "Reporting Guidelines" in caption, caption
    assert "This is never evidence" in " ".join(read.text)
    assert "NOT CONVERGED" not in text


def test_not_converged_stands_beside_every_number(hostile: Path) -> None:
    text = (hostile / "report.html").read_text(encoding="utf-8")
    assert "<title>NOT CONVERGED: " in text
    assert text.index("NOT CONVERGED: do not use these numbers") < text.index("<nav")
    mark = '</data> <span class="nc">NOT CONVERGED</span>'
    keyed = re.findall(r'<data value="[^"]*" data-key="([^"]*)">[^<]*(</data>.{0,45})', text)
    assert len(keyed) > 100
    for key, after in keyed:
        own = key.startswith("bias_ladder/") and not key.startswith("bias_ladder/Bayesian")
        free = own or key.startswith(("diagnostics", "prior_predictive", "safety"))
        assert after.startswith(mark) is not free, (key, after)
    assert " NOT CONVERGED" in json.loads(_data_of(text))["mark"]


def _data_of(text: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    return found.group(1)


def test_no_patient_is_in_it(text: str, hostile: Path) -> None:
    assert "SYN-0" not in text
    assert "SYN-0" not in (hostile / "report.html").read_text(encoding="utf-8")


def test_hostile_names_are_inert(hostile: Path, hostile_names: dict[str, str]) -> None:
    text = (hostile / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert sum(1 for _ in found.all("script")) == 2
    assert not list(found.all("img"))
    assert not list(found.all("b")) or "<b>age</b>" not in text
    for attributes in (one for _, one in found.elements):
        assert not [name for name in attributes if name.startswith("on")]
    words = "".join(found.text)
    assert hostile_names["os"] in words
    assert hostile_names["title"] in words
    assert "{{ 7 * 7 }}" in words
    assert hostile_names["maintenance"] in words
    # Text of another direction is kept apart from what follows.
    assert f"<bdi>{hostile_names['rfs']}" in text
    assert "<" not in _data_of(text)


def test_the_policy_allows_the_pages_own_parts_only(read: Page, text: str) -> None:
    policy = next(
        one["content"]
        for one in read.all("meta")
        if one.get("http-equiv", "").startswith("Content")
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(hashlib.sha256(inside.group(1).encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not {"connect-src", "frame-src", "font-src", "object-src"} & set(rules)
    for _, attributes in read.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
        assert "style" not in attributes
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_size(demo: tuple[Path, Any]) -> None:
    assert (demo[0] / "report.html").stat().st_size < 1_000_000


# For everybody.


def test_links_lead_somewhere(read: Page) -> None:
    ids = [one["id"] for _, one in read.elements if "id" in one]
    assert len(ids) == len(set(ids))
    links = [one["href"] for one in read.all("a")]
    assert {link[1:] for link in links} <= set(ids)
    items = [link for link in links if link[1:] in dict(SECTIONS)]
    assert len(items) > len(SECTIONS)


def test_figures_have_words(read: Page) -> None:
    drawings = list(read.all("svg"))
    assert len(drawings) == 14
    ids = {one["id"] for _, one in read.elements if "id" in one}
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= ids
    assert all("scope" in one for one in read.all("th"))


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _palettes() -> dict[str, dict[str, str]]:
    css = (
        files("bayesblina.output.report")
        .joinpath("templates/report.css")
        .read_text(encoding="utf-8")
    )
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast_is_enough(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for graphics."""
    colours = _palettes()[scheme]
    for text_colour in ("ink", "soft", "link", "good", "bad", "note"):
        for ground in ("paper", "tint"):
            assert _contrast(colours[text_colour], colours[ground]) >= 4.5, (text_colour, ground)
    assert _contrast(colours["bad"], colours["badtint"]) >= 4.5
    assert _contrast(colours["note"], colours["notetint"]) >= 4.5
    for index in range(5):
        assert _contrast(colours[f"c{index}"], colours["paper"]) >= 3.0, index


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_differ_for_the_colour_blind(scheme: str) -> None:
    """The colours that stand beside each other, as people without M or L cones see them.

    Viénot, Brettel and Mollon (1999), Color Research and Application 24, 243-252.
    """
    colours = _palettes()[scheme]
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])

    def seen(colour: str, cones: Any) -> Any:
        parts = np.array([int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return np.clip(cones @ linear, 0, 1) ** (1 / 2.4)

    for cones in (deutan, protan):
        for one, other in (("c0", "c1"), ("c0", "c2"), ("c0", "soft"), ("c1", "soft")):
            apart = np.linalg.norm(seen(colours[one], cones) - seen(colours[other], cones))
            assert apart > 0.12, (one, other, apart)


def test_nothing_of_the_data_is_markup_in_the_summary(demo: tuple[Path, Any]) -> None:
    results, evil = read_results(demo[0]), "<img src=x> ![a](http://b.c) *d* | e\x00\u202e"
    lines = (Line(step="read", what=evil, patients=("P-1",), endpoint="<script>"),)
    tables = {
        "hazard_ratios": read_csv(demo[0] / "hazard_ratios.csv").assign(endpoint=["<b>", "[x](y)"]),
        "patient_flow": Account(lines=lines, unit="months").table,
    }
    record = {**results.record, "title": evil, "source": evil}
    left = without_few(
        replace(results, tables={**results.tables, **tables}, record=record), minimum=1
    )
    text = summary(left)
    assert not re.search(r"<[a-z/!]", text)
    assert not re.search(r"(?<!\\)[\[\]]", text)
    assert "\x00" not in text
    assert "\u202e" not in text
    assert text.count("&lt;img src=x") == 4


def test_control_characters_are_not_in_the_report(demo: tuple[Path, Any]) -> None:
    results = read_results(demo[0])
    text = render(replace(results, record={**results.record, "title": "a\x00\x1b\ud800b"}))
    assert "<bdi>ab</bdi>" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text)


# Small parts.


def test_numbers_that_would_be_zero() -> None:
    assert shown(0.0, ".2f") == "0.00"
    assert shown(0.004, ".2f") == "<0.01"
    assert shown(-0.004, ".2f") == "0.00"
    assert shown(0.00001, PROBABILITY) == "<0.001"
    assert shown(1.0, PROBABILITY) == ">0.999"
    assert shown(1.0, SURVIVAL) == "1"
    assert shown(math.inf, ".2f") == "–"


def test_templates_are_installed() -> None:
    folder = files("bayesblina.output.report").joinpath("templates")
    for name in ("report.html", "report.css", "report.js"):
        assert len(folder.joinpath(name).read_text(encoding="utf-8")) > 1000
