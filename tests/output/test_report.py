"""The report tells what the tables say, hides what it must, and asks for nothing from outside."""

import base64
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as setting
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.csv_files import read_csv
from bayesblina.core.episodes import POSITIONS
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.masking import MASK, Masked, Sum, is_small, mask
from bayesblina.core.masking.tables import mask_safety, read_observed
from bayesblina.core.tables.numbers import probability
from bayesblina.output.report import page, read_results, render, write_report
from bayesblina.output.report.flow import account
from bayesblina.output.report.hiding import without_few
from bayesblina.output.report.joining import joined_events
from bayesblina.output.report.results import TEXTS
from bayesblina.output.report.summary import summary
from bayesblina.output.report.wording import PROBABILITY, SURVIVAL, shown
from bayesblina.patients.account import Account, Line
from bayesblina.studies.what_if.running import hash_of_cohort
from bayesblina.studies.what_if.store import Store

VOID = {"meta", "link", "input", "img", "br"}
# Tables whose numbers are shown, and by what their rows are told apart in the report's keys.
KEYS = {
    "hazard_ratios": ("endpoint",),
    "survival_by_landmark": ("endpoint", "landmark", "regime", "time"),
    "restricted_means": ("endpoint", "landmark", "regime"),
    "leave_one_out": ("endpoint",),
}


class Page(HTMLParser):
    """Read a page, and insist that every element is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.data: list[tuple[dict[str, str], str]] = []
        self.text: list[str] = []
        self._datum: dict[str, str] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self._datum = attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if self._datum is not None:
            self.data.append((self._datum, data))
            self._datum = None

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(scope="module")
def text(demo: tuple[Path, Any]) -> str:
    return (demo[0] / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(text: str) -> Page:
    return Page(text)


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


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
    own = bb.bias_ladder(cohort, fit.question, landmarks=[8.0, 12.0, 16.0], fit=fit)
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
    items = [link for link in links if link[1:] in dict(page.SECTIONS)]
    assert len(items) > len(page.SECTIONS)


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


# Small counts.


def test_a_part_that_is_hidden_takes_another_along() -> None:
    counts = {"all": 267, "in": 265, "out": 2}
    assert mask(counts, [("all", ["in", "out"])], minimum=5).hidden == {"in", "out"}
    assert mask(counts, [("all", ["in", "out"])], minimum=1).hidden == frozenset()


def test_two_hidden_parts_of_a_small_rest_are_not_enough() -> None:
    # 90 - 88 = 2 leaves one patient each.
    counts = {"all": 90, "a": 1, "b": 1, "c": 88}
    assert mask(counts, [("all", ["a", "b", "c"])], minimum=5).hidden == {"a", "b", "c"}


def test_equal_counts_are_hidden_together() -> None:
    counts = {"all": 90, "a": 3, "b": 87, "elsewhere": 87}
    assert "elsewhere" in mask(counts, [("all", ["a", "b"])], minimum=5).hidden


@setting(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=4),
    st.lists(st.integers(0, 9), min_size=2, max_size=3),
    st.integers(2, 5),
)
def test_no_sum_gives_a_small_count_away(first: list[int], second: list[int], minimum: int) -> None:
    """Against every value that the hidden counts could have, tried one by one."""
    counts = {f"a{index}": value for index, value in enumerate(first)}
    counts |= {f"b{index}": value for index, value in enumerate(second)}
    counts["a"] = sum(first)
    counts["b"] = sum(second) + first[0]
    sums: list[Sum] = [
        ("a", [f"a{index}" for index in range(len(first))]),
        # The same part in another sum, as a patient left out of two endpoints.
        ("b", ["a0", *(f"b{index}" for index in range(len(second)))]),
    ]
    found = mask(counts, sums, minimum=minimum)
    assert {name for name, value in counts.items() if is_small(value, minimum)} <= found.hidden
    # Wholes that are hidden follow from their parts; so only parts are tried.
    parts = [name for name in sorted(found.hidden) if name not in ("a", "b")]
    if len(parts) > 4:
        return
    known = {name: value for name, value in counts.items() if name not in found.hidden}
    possible: dict[str, set[int]] = {name: set() for name in found.hidden}
    for values in product(range(1, 14), repeat=len(parts)):
        tried = known | dict(zip(parts, values, strict=True))
        totals = {whole: sum(tried[part] for part in of) for whole, of in sums}
        if all(known.get(whole, total) == total for whole, total in totals.items()):
            for name, value in (tried | totals).items():
                if name in possible:
                    possible[name].add(value)
    for name in found.hidden:
        if is_small(counts[name], minimum):
            assert min(possible[name]) == 1 or name in ("a", "b")
            assert max(possible[name]) >= minimum, (counts, found.hidden, name)


def _flow(rows: list[tuple[str, str, str, str, int, int | None, float | None]]) -> pd.DataFrame:
    columns = ["step", "endpoint", "phase", "what", "patients", "events", "person_time"]
    return pd.DataFrame(rows, columns=columns)


def test_the_account_is_masked() -> None:
    table = _flow(
        [
            ("read", "", "", "patients in x", 100, None, None),
            ("observed", "os", "", "under observation", 100, 60, 900.0),
            ("left out", "os", "", "never reached c", 12, None, None),
            ("left out", "os", "", "died before", 2, None, None),
            ("eligible", "os", "", "at risk", 86, 40, 800.0),
            ("in phase", "os", "c", "reference", 86, 37, 500.0),
            ("in phase", "os", "m", "exposed", 30, 3, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    patients = [row["patients"] for row in found.rows]
    # 100 - 12 - 86 = 2, and 40 - 37 = 3, must not follow from what is left.
    assert patients == ["100", "100", MASK, MASK, "86", "86", "30"]
    assert [row["events"] for row in found.rows] == ["", "60", "", "", "40", MASK, MASK]
    # An interval of few events would tell them, whatever is said of the others.
    assert found.few == {"os"}
    assert not found.shows_events("os")
    assert account(table, exposed="m", minimum=1).rows[3]["patients"] == "2"
    (endpoint, steps), *_ = found.chains
    assert (endpoint, steps[-1]["words"]) == ("os", f"ever in m, {MASK} events in it")


def test_those_under_observation_do_not_tell_who_is_left_out() -> None:
    """33 under observation less 30 at risk are 3 who never reached the phase."""
    table = _flow(
        [
            ("read", "", "", "patients in x", 50, None, None),
            ("observed", "rfs", "", "under observation", 33, 27, 371.0),
            ("observed", "rfs", "", "never under observation", 17, None, None),
            ("left out", "rfs", "", "never under observation for this endpoint", 17, None, None),
            ("left out", "rfs", "", "never reached c", 3, None, None),
            ("eligible", "rfs", "", "at risk", 30, 21, 265.0),
        ]
    )
    rows = account(table, exposed="m", minimum=5).rows
    assert rows[4]["patients"] == MASK
    assert MASK in (rows[1]["patients"], rows[5]["patients"])


def test_starts_of_phases_do_not_tell_hidden_ones() -> None:
    """86 - 84 with time at risk, and 88 - 84 - 2 of the other endpoint, must not follow."""
    within, late = POSITIONS["within"], POSITIONS["late"]
    table = _flow(
        [
            ("phase start", "os", "c", within, 84, None, None),
            ("phase start", "os", "c", POSITIONS["boundary"], 2, None, None),
            ("phase start", "os", "m", within, 40, None, None),
            ("phase start", "rfs", "m", within, 37, None, None),
            ("phase start", "rfs", "m", late, 3, None, None),
            ("eligible", "os", "", "at risk", 86, 41, 800.0),
            ("in phase", "os", "c", "reference", 86, 21, 500.0),
            ("in phase", "os", "m", "exposed", 40, 20, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    patients = [row["patients"] for row in found.rows]
    assert [patients[index] for index in (1, 4)] == [MASK, MASK]
    # Without either of these two the small ones would be a difference.
    assert MASK in (patients[0], patients[5])
    assert MASK in (patients[2], patients[3])
    # Late starts are in no phase: 40 of 43 must not be held for all.
    alone = account(table.iloc[[3, 4]], exposed="m", minimum=5)
    assert [row["patients"] for row in alone.rows] == ["37", MASK]


def test_person_time_of_hidden_patients_is_hidden_with_another() -> None:
    table = _flow(
        [
            ("eligible", "os", "", "at risk", 86, 40, 800.0),
            ("in phase", "os", "c", "reference", 86, 37, 500.0),
            ("in phase", "os", "m", "exposed", 3, 3, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    assert [row["person_time"] for row in found.rows].count(MASK) == 2


@pytest.mark.parametrize("minimum", [20, 60])
def test_no_small_count_is_in_the_report(demo: tuple[Path, Any], minimum: int) -> None:
    results = read_results(demo[0])
    text = render(results, minimum_count=minimum)
    flow = re.search(r'<section id="flow".*?</section>', text, flags=re.DOTALL)
    safety = re.search(r'<section id="safety".*?</section>', text, flags=re.DOTALL)
    assert flow is not None
    assert safety is not None
    cells = re.findall(r'<td class="n">([\d,]+)</td>', flow.group(0))
    cells += re.findall(r"<b>([\d,]+)</b>", flow.group(0))
    cells += re.findall(r"(\d+) events", flow.group(0))
    counts = [int(cell.replace(",", "")) for cell in cells]
    # Person-time is no count; the shortest here is 365 months.
    assert all(count >= minimum for count in counts), sorted(counts)
    assert MASK in flow.group(0)
    whole = [int(one) for one in re.findall(r'<td class="n">(\d+)</td>', safety.group(0))]
    assert all(count >= minimum for count in whole)
    at_risk = [
        match
        for drawing in re.findall(r'<svg[^>]*class="chart survival".*?</svg>', text, re.DOTALL)
        for match in re.findall(r'<text [^>]*text-anchor="middle"[^>]*>(\d+)</text>', drawing)
    ]
    # With 60 no curve is left.
    assert (len(at_risk) > 30) == (minimum < 60)
    ticks = {f"{one:g}" for one in read_csv(demo[0] / "at_risk.csv")["time"].unique()}
    # 0 tells of nobody, and is shown.
    assert all(one in ticks or int(one) == 0 or int(one) >= minimum for one in at_risk)


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


def test_curves_whose_steps_would_tell_hidden_events_are_not_drawn(demo: tuple[Path, Any]) -> None:
    """3 events of OS in a further phase hide those of another phase, and of RFS none."""
    results = read_results(demo[0])
    # As if those who began consolidation after a relapse had begun it before: what is hidden of
    # so few would hide more.
    patients = results.tables["patient_flow"]
    late = ("after the end of follow-up", "follow-up ended by the start of eligibility")
    kept = patients[~patients["what"].isin(late)].copy()
    eligible = kept.loc[kept["step"] == "eligible", "patients"]
    kept["patients"] = kept["patients"].replace(eligible.min(), eligible.max())
    reference = (kept["endpoint"] == "os") & (kept["what"] == "reference")
    kept.loc[reference, "events"] -= 3
    further = kept[reference].assign(phase="further", patients=20, events=3, person_time=90.0)
    tables = {**results.tables, "patient_flow": pd.concat([kept, further], ignore_index=True)}
    results = replace(results, tables=tables)
    flow = account(tables["patient_flow"], exposed="maintenance", minimum=5)
    assert flow.few == frozenset()
    assert not flow.shows_events("os")
    assert flow.shows_events("rfs")
    text = render(results, minimum_count=5)
    for found in re.findall(r"<figure data-curves.*?</figure>", text, re.DOTALL):
        hidden = 'data-endpoint="0"' in found
        if not hidden and 'data-landmark="0"' not in found:
            # After later landmarks there are few events anyway.
            continue
        assert (">maintenance (observed)</title>" in found) != hidden
        assert ("dotted: observed" in found) != hidden
        assert ("Observed curves are masked" in found) == hidden
    checks = re.findall(r'<figure id="replicated-\d">.*?</figure>', text, re.DOTALL)
    assert ["Observed curves are masked" in one for one in checks] == [True, False]
    whole = render(results, minimum_count=1)
    assert "Observed curves are masked" not in whole


def test_safety_hides_what_gives_a_count_away(demo: tuple[Path, Any]) -> None:
    results = read_results(demo[0])
    table = results.tables["safety"].iloc[[0, 1, 2, 0, 0, 1]].reset_index(drop=True)
    table["patients"] = [80, 60, 36, 3, 33, 70]
    table["with_event"] = [70, 57, 4, 2, 20, 40]
    table["events"] = [90, 99, 8, 2, 50, 42]
    # Another table hides 33 with a small count.
    masked = Masked(minimum=5, hidden=frozenset({"x"}), values=frozenset({33}))
    shown = mask_safety(table, masked)
    rows = page._safety(replace(results, tables={**results.tables, "safety": shown}))
    assert [row["patients"] for row in rows] == ["80", "60", "36", MASK, MASK, "70"]
    # 60 - 57 and 4 are few; estimates would tell them. So are those who had the two events of
    # 42 beyond one for each of 40.
    assert [row["with_event"] for row in rows] == ["70", MASK, MASK, MASK, MASK, "40"]
    assert [row["share"] is None for row in rows] == [False, True, True, True, True, False]
    assert [row["events"] for row in rows] == ["90", MASK, MASK, MASK, MASK, MASK]
    assert [row["rate"] is None for row in rows] == [False, True, True, True, True, True]


def test_observed_curves_end_with_their_patients(demo: tuple[Path, Any]) -> None:
    results = read_results(demo[0])
    table = results.tables["simon_makuch"]
    times = np.linspace(8.0, 34.0, 53)
    for minimum in (1, 5, 15):
        for group in ("maintenance", "no maintenance"):
            rows = table[
                (table["endpoint"] == "os") & (table["landmark"] == 8.0) & (table["group"] == group)
            ]
            at, values = read_observed(rows, times, minimum=minimum)
            # 15 at risk, and 15 events: few curves have them.
            assert (len(at) > 1) == (minimum < 15)
            assert set(at) <= set(times)
            for time in at:
                assert rows.loc[rows["time"] <= time, "at_risk"].min() >= minimum
            if minimum == 1:
                for time, value in zip(at, values, strict=True):
                    before = rows[rows["time"] <= time]
                    # No finer: a jump is one over the number at risk.
                    assert value == round(before["survival"].iloc[-1], 2)


def test_intervals_are_joined_until_they_hold_enough(demo: tuple[Path, Any]) -> None:
    fit = bb.load(demo[0] / "fit.nc")
    events = bb.replicated_events(fit, seed=1).sel(endpoint="os")
    whole = joined_events(events, minimum=0)
    table = read_results(demo[0]).tables["predictive"]
    table = table[table["endpoint"] == "os"]
    np.testing.assert_array_equal(whole["observed"], table["observed"])
    np.testing.assert_allclose(whole["expected"], table["expected"])
    joined = joined_events(events, minimum=5)
    assert joined["observed"].min() >= 5
    assert joined["observed"].sum() == table["observed"].sum()
    assert joined["expected"].sum() == pytest.approx(table["expected"].sum())
    assert math.isinf(joined["interval_stop"].iloc[-1])
    np.testing.assert_array_equal(joined["interval_start"][1:], joined["interval_stop"][:-1])


@pytest.mark.parametrize("minimum", [0, -1, 2.5, True, "5"])
def test_a_minimum_is_a_whole_number(demo: tuple[Path, Any], minimum: Any) -> None:
    with pytest.raises(SpecError, match="whole number from 1 on"):
        write_report(demo[0], minimum_count=minimum)


# What belongs together.


def test_changed_results_are_refused(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    path = folder / "hazard_ratios.csv"
    before = (folder / "report.html").read_bytes()
    path.write_text(path.read_text().replace("os,0.", "os,1."))
    with pytest.raises(StorageError, match="was changed after the analysis"):
        write_report(folder)
    path.unlink()
    with pytest.raises(StorageError, match="is missing, which belongs"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is not a record"),
        ('{"format": "bayesblina results", "schema": 2}', "has schema 2"),
        ('{"format": "bayesblina results", "schema": 1}', "lacks cohort_sha256, command"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(StorageError, match=message):
        read_results(tmp_path)


def test_a_record_names_results_only(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    record = json.loads((folder / "results.json").read_text())
    record["sha256"]["../a/fit.nc"] = record["sha256"]["fit.nc"]
    (folder / "results.json").write_text(json.dumps(record))
    with pytest.raises(StorageError, match="names files that are no results"):
        read_results(folder)


def test_every_file_that_was_read_has_its_hash(demo: tuple[Path, Any], text: str) -> None:
    read = json.loads((demo[0] / "results.json").read_text())["data_sha256"]
    assert read == {
        shown: hashlib.sha256((demo[0] / name).read_bytes()).hexdigest()
        for shown, name in (
            ("patients.csv", "patients.csv"),
            ("adverse_events.csv (adverse events)", "adverse_events.csv"),
        )
    }
    for name, digest in read.items():
        assert f"{name}: {digest}" in text


def test_what_is_not_there_is_said(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    record = json.loads((folder / "results.json").read_text())
    for name in set(TEXTS) - {"hazard_ratios", "survival", "diagnostics"}:
        record["sha256"].pop(f"{name}.csv", None)
        record["notes"][name] = f"<i>no {name}</i>"
    (folder / "results.json").write_text(json.dumps(record))
    text = write_report(folder).read_text(encoding="utf-8")
    Page(text)
    for name in ("bias_ladder", "predictive", "prior_sensitivity", "patient_flow"):
        assert f"Not computed: <bdi>&lt;i&gt;no {name}" in text
    assert "not computed for this model or folder" in text


# Scenarios.


def _scenarios(folder: Path, demo: Path, *, data: str | None = None, shift: float = 0.0) -> None:
    """Store two scenarios as a study of sensitivity does, the base case with the demo's numbers."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    folder.mkdir(exist_ok=True)
    store = Store(folder=folder)
    header = {"what": "scenarios", "data": data or hash_of_cohort(cohort), "synthetic": True}
    store.begin(header, resume=False)
    ratios = pd.read_csv(demo / "hazard_ratios.csv")
    for key, label, settings, factor in (
        ("a", "base case", {}, 1.0),
        ("b", "transplant = ignore", {"transplant": "ignore"}, 1.2),
    ):
        results = [
            {
                "endpoint": row["endpoint"],
                **{
                    name: row[name] * factor + shift
                    for name in ("mean", "median", "lower", "upper")
                },
                "sd": row["sd"],
                "probability_below_1": 0.98 / factor,
                "mcse": row["mcse"],
                "ess_bulk": 3000.0,
                "mean_log": math.log(row["median"] * factor),
                "sd_log": 0.3,
                "patients": 86,
                "events": 39.0,
                "events_exposed": 9.0,
            }
            for row in ratios.to_dict("records")
        ]
        record = {"key": key, "label": label, "settings": settings, "status": "converged"}
        store.append({**record, "reason": "", "seed": 1, "results": results})
    store.append(
        {
            **{"key": "c", "label": "lag = 900.0", "settings": {"lag": 900.0}, "seed": 1},
            **{"status": "failed", "reason": "SYN-0001 has none", "results": []},
        }
    )


def test_scenarios_in_the_folder_are_shown(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    _scenarios(folder, demo[0])
    text = write_report(folder).read_text(encoding="utf-8")
    Page(text)
    part = re.search(r'<section id="sensitivity".*?</section>', text, flags=re.DOTALL)
    assert part is not None
    assert "3 scenarios: 2 converged, 1 failed" in part.group(0)
    assert "that the hazard is lower (P(HR &lt; 1) at least 0.975)" in part.group(0)
    assert "holds in 1 of 2 scenarios" in part.group(0)
    assert part.group(0).count("<svg") == 4
    # Reasons may name patients.
    assert "SYN-0" not in text
    assert "run bayesblina sensitivity" not in text


def test_scenarios_of_others_are_not_shown(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    _scenarios(folder, demo[0], data="0" * 64)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "Not shown: <bdi>the scenarios are of other patients" in text
    _scenarios(tmp_path / "b", demo[0], shift=0.2)
    with pytest.raises(StorageError, match="base case is another analysis"):
        write_report(folder, sensitivity=tmp_path / "b")
    with pytest.raises(StorageError, match=r"there is no scenarios\.jsonl"):
        write_report(folder, sensitivity=tmp_path)


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
