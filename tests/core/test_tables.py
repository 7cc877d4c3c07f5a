"""Numbers by stated rules; hostile text inert in every format; results show themselves."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from docx import Document

import bayesblina as bb
from bayesblina import tables
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.escaping import latex, markdown, plain
from bayesblina.core.tables import Kind, Table, numbers
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit
from bayesblina.patients.account import Account, Line
from bayesblina.studies.calibration import Calibration
from bayesblina.studies.what_if.reading import Holds, Sensitivity

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    "50 %",
    "snake_case*bold*",
    "# heading",
    "pipe | pipe",
    "back\\slash",
    "two\nlines\r\nhere",
    "\u202eevil\u202c",
    "שלום",
    "🧬 emoji",
    "$x^2$ ~ {y}",
    "[link](https://example.org)",
    "=1+1",
    "quote \" and ' and `",
    "--- ''' ,,",
    "nul\x00bell\x07",
    "x" * 500,
]


class Reader(HTMLParser):
    """Texts of cells, and every element and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def hostile() -> Table:
    return Table(
        title=HOSTILE[0],
        head=("label", "HR", HOSTILE[5]),
        rows=tuple((text, "0.45", text) for text in HOSTILE),
        numeric=(False, True, False),
        notes=(HOSTILE[1], HOSTILE[6]),
    )


# Numbers.


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("ratio", 0.4567, "0.46"),
        ("ratio", 0.0049, "<0.01"),
        ("ratio", 0.0, "0.00"),
        ("ratio", 1.0, "1.00"),
        ("ratio", 250.4, "250"),
        ("ratio", math.inf, "∞"),
        ("ratio", math.nan, "–"),
        ("probability", 0.5, "0.50"),
        ("probability", 0.0994, "0.099"),
        ("probability", 0.1, "0.10"),
        ("probability", 0.9004, "0.900"),
        ("probability", 0.0004, "<0.001"),
        ("probability", 0.9996, ">0.999"),
        ("probability", 1.0, ">0.999"),
        ("percent", 35 / 36, "97.2"),
        ("percent", 1.0, "100.0"),
        ("time", 15.46, "15.5"),
        ("time", -0.01, "0.0"),
        ("time", -3.26, "−3.3"),
        ("time", math.inf, "not reached"),
        ("log density", -172.04, "−172.0"),
        ("number", 0.012345, "0.0123"),
        ("number", 9.9999, "10.0"),
        ("number", 1234.6, "1235"),
        ("number", 1e-9, "0.00000000100"),
        ("number", -7.0, "−7"),
        ("number", 123456.0, "123456"),
    ],
)
def test_numbers(kind: Kind, value: float, text: str) -> None:
    assert numbers.writer(kind)(value) == text


def test_times_by_unit() -> None:
    assert [numbers.time(15.467, unit) for unit in ("days", "weeks", "months", "years")] == [
        "15",
        "15.5",
        "15.5",
        "15.47",
    ]
    with pytest.raises(SpecError, match="Unknown unit 'moons'"):
        numbers.time(1.0, "moons")
    with pytest.raises(SpecError, match="kind must be one of"):
        numbers.writer("hr")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="between 0 and 1"):
        numbers.probability(1.2)


def test_intervals() -> None:
    assert numbers.interval(0.45, 0.2234, 0.91, kind="ratio") == "0.45 (0.22 to 0.91)"
    assert numbers.interval(-1.0, -2.5, 0.5, kind="time") == "−1.0 (−2.5 to 0.5)"
    assert numbers.interval(math.nan, 0.1, 0.2) == "–"


# Formats.


def test_html_shows_the_texts_and_nothing_else() -> None:
    reader = read(hostile().to_html())
    allowed = {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "bdi", "br"}
    assert {tag for tag, _ in reader.tags} <= allowed
    for _, attributes in reader.tags:
        assert set(attributes) <= {"scope", "class", "colspan"}
    shown = [cell.strip() for cell in reader.cells]
    for text in HOSTILE:
        assert plain(text) in shown
    assert "<bdi>שלום</bdi>" in hostile().to_html()


def test_latex_has_no_command_of_the_data() -> None:
    source = hostile().to_latex()
    for row in source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines():
        # Every special character that is left belongs to an escape.
        bare = re.sub(
            r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|"
            r"textasciigrave|symbol)\{\d*\}|\\[&%$#_{}]|\{[\[\]*]?\}|\{\[\}|\{\]\}",
            "",
            row.removesuffix(r" \\"),
        )
        assert bare.count(" & ") == 2
        assert not set(bare.replace(" & ", "")) & set('\\%$#_{}~^<>|"`[]*')
        assert "--" not in row
        assert "''" not in row
    assert latex("a − b ≥ 0") == r"a \ensuremath{-} b \ensuremath{\geq} 0"
    assert source.count(r"\\") == len(HOSTILE) + 1


def test_markdown_has_no_markup_of_the_data() -> None:
    lines = hostile().to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == len(HOSTILE) + 2
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 5
        assert "<" not in row
    assert markdown("*a* _b_ `c` [d](https://e)") == r"\*a\* \_b\_ \`c\` \[d\](https\://e)"
    assert markdown("1. first") == r"1\. first"
    assert markdown("0.45 (0.22 to 0.91)") == "0.45 (0.22 to 0.91)"


def test_word_holds_the_texts() -> None:
    content = hostile().to_docx()
    document = Document(BytesIO(content))
    (table,) = document.tables
    cells = [[cell.text for cell in row.cells] for row in table.rows]
    assert cells[0] == ["label", "HR", "pipe | pipe"]
    assert [row[0] for row in cells[1:]] == [plain(text) for text in HOSTILE]
    paragraphs = [one.text for one in document.paragraphs]
    assert paragraphs == ["<script>alert(1)</script>", "a & b", "back\\slash"]
    with ZipFile(BytesIO(content)) as parts:
        xml = parts.read("word/document.xml").decode()
    assert "<script>" not in xml
    assert "w:tblHeader" in xml


def test_texts_are_one_line_and_keep_their_direction() -> None:
    assert plain("\u202eevil\u202c \u2066x\u2069") == "evil x"
    assert plain("nul\x00bell\x07\ufffe") == "nulbell"
    assert plain("two\nlines\r\n\tend ") == "two lines end"
    assert plain("שלום 🧬") == "שלום 🧬"
    assert plain("lone \ud800 surrogate") == "lone surrogate"


def test_csv_guards_formulas_and_keeps_numbers() -> None:
    table = pd.DataFrame(
        {
            "term": ["=1+1", "+x", "-y", "@z", "\ttab", "plain", "\uff1dwide"],
            "value": np.linspace(-1.0, 1.0, 7) / 3,
        }
    )
    table.columns = pd.Index(["=term", "value"])
    rows = list(csv.reader(StringIO(tables.to_csv(table))))
    assert rows[0] == ["'=term", "value"]
    guarded = ["'=1+1", "'+x", "'-y", "'@z", "'\ttab", "plain", "'\uff1dwide"]
    assert [row[0] for row in rows[1:]] == guarded
    np.testing.assert_array_equal([float(row[1]) for row in rows[1:]], table["value"])
    twice = pd.DataFrame([["=a", "=b"]], columns=["x", "x"])
    assert tables.to_csv(twice) == "x,x\n'=a,'=b\n"
    assert tables.to_csv(pd.DataFrame()) == "\n"


@pytest.mark.parametrize("suffix", ["html", "tex", "md", "docx"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    hostile().write(path)
    content = path.read_bytes()
    if suffix == "html":
        reader = read(content.decode())
        assert not {"script", "img", "link", "a"} & {tag for tag, _ in reader.tags}
        assert content.startswith(b"<!DOCTYPE html>")
        assert b'charset="utf-8"' in content
    elif suffix == "docx":
        assert len(Document(BytesIO(content)).tables) == 1
    else:
        assert "שלום" in content.decode()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_unknown_formats_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"must end with \.html, \.tex, \.md, \.docx"):
        hostile().write(tmp_path / "table.xls")
    with pytest.raises(StorageError, match="there is no folder"):
        hostile().write(tmp_path / "nowhere" / "table.md")


def test_rows_must_fit() -> None:
    with pytest.raises(SpecError, match="2 column titles"):
        Table(head=("a", "b"), rows=(("1",),), numeric=(False, True))


def test_empty_tables_have_their_head() -> None:
    table = Table(head=("a", "b"), rows=(), numeric=(False, True))
    assert [cell.strip() for cell in read(table.to_html()).cells] == ["a", "b"]
    assert table.to_markdown().splitlines() == ["| a | b |", "| --- | ---: |"]
    assert len(Document(BytesIO(table.to_docx())).tables[0].rows) == 1


# Tables.


def summary(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": ["os", "rfs"],
            "mean": [0.5, 0.8],
            "median": [0.45, 0.812],
            "sd": [0.1, 0.2],
            "lower": [0.2234, 0.45],
            "upper": [0.91, 1.4],
            "probability_below_1": [0.9841, 0.76],
            "mcse": [0.00123, 0.004],
            "ess_bulk": [3012.4, 2500.0],
            "ess_tail": [2012.4, 2100.0],
            "r_hat": [1.00049, 1.002],
            "converged": True,
            **columns,
        }
    )


def test_estimates() -> None:
    table = tables.estimates(summary(), kind="ratio", quantity="HR", diagnostics=True)
    assert table.head == (
        "endpoint",
        "HR (95% interval)",
        "P(HR < 1)",
        "MCSE",
        "bulk ESS",
        "tail ESS",
        "R-hat",
    )
    assert table.rows[0] == (
        "os",
        "0.45 (0.22 to 0.91)",
        "0.984",
        "0.0012",
        "3012",
        "2012",
        "1.000",
    )
    assert table.rows[1][1:3] == ("0.81 (0.45 to 1.40)", "0.76")
    assert table.numeric == (False, True, True, True, True, True, True)
    assert table.notes == ()


def test_what_did_not_converge_says_so() -> None:
    for table in (
        tables.estimates(summary(converged=False), kind="ratio"),
        tables.estimates(summary(converged=[True, False]), kind="ratio"),
        tables.publish(summary(converged=False)),
    ):
        assert table.notes == (tables.NOT_CONVERGED,)
        assert tables.NOT_CONVERGED in table.to_html()
        assert "NOT CONVERGED" in table.to_latex()
        assert "NOT CONVERGED" in table.to_markdown()
    # Where rows differ, each says which it is.
    mixed = tables.estimates(summary(converged=[True, False]), kind="ratio")
    assert [row[-1] for row in mixed.rows] == ["yes", "no"]


def test_synthetic_patients_are_named_by_attribute_or_argument() -> None:
    found = summary()
    found.attrs["synthetic"] = True
    assert tables.estimates(found, kind="ratio").notes == (tables.SYNTHETIC,)
    assert tables.estimates(summary(), kind="ratio", synthetic=True).notes == (tables.SYNTHETIC,)


def test_times_beyond_the_horizon_are_only_known_to_lie_there() -> None:
    found = pd.DataFrame(
        {
            "endpoint": ["os"],
            "regime": ["from 8"],
            "median": [np.inf],
            "lower": [14.52],
            "upper": [np.inf],
            "probability_reached": [0.4],
        }
    )
    found.attrs["unit"] = "months"
    table = tables.estimates(found, kind="time", quantity="median OS")
    assert table.rows == (("os", "from 8", "not reached (14.5 to not reached)", "0.40"),)


def test_account_masks_small_counts() -> None:
    account = Account(
        unit="months",
        synthetic=True,
        lines=(
            Line(step="read", what="patients", patients=("A-1",) * 50),
            Line(
                step="in phase",
                endpoint="os",
                phase="maintenance",
                what="exposed",
                patients=("A-1",) * 12,
                events=3,
                person_time=123.456,
            ),
            Line(step="left out", endpoint="os", what="never", patients=("A-1",) * 2),
        ),
    )
    plainly = tables.account(account.table, unit="months", synthetic=account.synthetic)
    assert plainly.head[-3:] == ("patients", "events", "person-months")
    assert [row[-3:] for row in plainly.rows] == [
        ("50", "", ""),
        ("12", "3", "123.5"),
        ("2", "", ""),
    ]
    assert plainly.notes == (tables.SYNTHETIC,)
    masked = tables.account(account.table, unit="months", minimum=5)
    assert [row[-3:] for row in masked.rows] == [("50", "", ""), ("12", "*", "*"), ("*", "", "")]
    assert "A-1" not in plainly.to_html()
    # 40 less 37 are 3: another count goes with them, and none of the two is a small one.
    rows = [("eligible", "", "at risk", 60, 40), ("in phase", "m", "exposed", 30, 3)]
    rows.append(("in phase", "c", "reference", 60, 37))
    columns = ["step", "phase", "what", "patients", "events"]
    sums = pd.DataFrame(rows, columns=columns).assign(endpoint="os", person_time=9.0)
    sums = sums[["step", "endpoint", *columns[1:], "person_time"]]
    cells = [row[-2] for row in tables.account(sums, unit="months", minimum=5).rows]
    assert cells == ["40", "*", "*"]
    with pytest.raises(SpecError, match="minimum must be at least 1"):
        tables.account(account.table, unit="months", minimum=0)


def test_bias_ladder_keeps_its_warnings() -> None:
    rows = [
        ("os", "ever against never", 0.25, 0.12, 0.5, 86, 39, "biased: exposed before"),
        ("os", "landmark at 8", np.nan, np.nan, np.nan, 60, 20, "no finite estimate"),
        ("os", "Bayesian", 0.45, 0.23, 0.93, 86, 39, "NOT CONVERGED"),
    ]
    columns = ["endpoint", "method", "estimate", "lower", "upper", "patients", "events", "note"]
    table = tables.bias_ladder(pd.DataFrame(rows, columns=columns))
    assert table.head[2] == "hazard ratio (95% interval)"
    assert table.rows[0] == (
        "os",
        "ever against never",
        "0.25 (0.12 to 0.50)",
        "86",
        "39",
        "biased: exposed before",
    )
    assert table.rows[1][2] == "–"
    assert table.notes == (tables.NOT_CONVERGED,)


def criteria(passed: bool = True) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "criterion": ["largest R-hat", "divergences"],
            "value": [1.0049, 0.0 if passed else 3.0],
            "limit": ["< 1.01", "0"],
            "passed": [True, passed],
        }
    )


def test_convergence() -> None:
    assert tables.convergence(criteria()).rows[0] == ("largest R-hat", "1.005", "< 1.01", "yes")
    failed = tables.convergence(criteria(False))
    assert failed.rows[1] == ("divergences", "3", "0", "FAILED")
    assert failed.notes == (tables.NOT_CONVERGED,)


def test_scenarios_show_no_numbers_that_did_not_converge() -> None:
    found = pd.DataFrame(
        {
            "scenario": ["base case", "lag = 1", "lag = 99"],
            "status": ["converged", "not converged", "failed"],
            "reason": ["", "largest R-hat is 1.2", "no events"],
            "endpoint": ["os", "os", None],
            "median": [0.5, 0.6, np.nan],
            "lower": [0.3, 0.4, np.nan],
            "upper": [0.8, 0.9, np.nan],
            "probability_below_1": [0.98, 0.97, np.nan],
        }
    )
    table = tables.scenarios(found, synthetic=True)
    assert table.rows == (
        ("base case", "os", "0.50 (0.30 to 0.80)", "0.980", "converged"),
        ("lag = 1", "os", "–", "–", "not converged: largest R-hat is 1.2"),
        ("lag = 99", "", "–", "–", "failed: no events"),
    )


def test_shares_and_densities() -> None:
    events = pd.DataFrame(
        {
            "phase": ["maintenance"],
            "patients": [36],
            "with_event": [26],
            "share": [26 / 36],
            "events": [40],
            "person_time": [400.04],
        }
    )
    table = tables.adverse_events(events, unit="months")
    assert table.head[2:4] == ("with an event", "share, %")
    assert table.rows == (("maintenance", "36", "26", "72.2", "40", "400.0"),)
    loo = pd.DataFrame(
        {"endpoint": ["os"], "patients": [86], "elpd": [-172.04], "se": [15.1], "reliable": [True]}
    )
    assert tables.leave_one_out(loo).rows == (("os", "86", "−172.0", "15.1", "yes"),)
    # How many were left out stands there where it is a sample.
    every = loo.assign(evaluated=86, sampling_se=0.0)
    assert tables.leave_one_out(every).head == tables.leave_one_out(loo).head
    some = tables.leave_one_out(loo.assign(evaluated=20, sampling_se=2.5))
    assert some.head[-2:] == ("evaluated", "SE of sampling")
    ranked = pd.DataFrame(
        {
            "model": ["primary"],
            "rank": [0],
            "elpd": [-172.04],
            "elpd_difference": [0.0],
            "weight": [0.8],
        }
    )
    assert tables.models(ranked).rows == (("primary", "0", "−172.0", "0.0", "0.80"),)
    stated = pd.DataFrame({"statement": ["hazard_ratio < 0.8"], "probability": [0.936]})
    assert tables.probabilities(stated).rows == (("hazard_ratio < 0.8", "0.936"),)


@pytest.mark.parametrize("name", ["patient", "USUBJID", "patient_id"])
def test_identifiers_are_refused(name: str) -> None:
    table = pd.DataFrame({name: ["A-1"], "value": [1.0]})
    with pytest.raises(SpecError, match="may identify patients"):
        tables.publish(table)
    assert tables.publish(table, columns=["value"]).rows == (("1",),)


def test_wrong_tables_are_refused() -> None:
    other = pd.DataFrame({"x": [1]})
    calls: list[Any] = [
        lambda: tables.estimates(other, kind="ratio"),
        lambda: tables.account(other, unit="days"),
        lambda: tables.bias_ladder(other),
        lambda: tables.convergence(other),
        lambda: tables.leave_one_out(other),
        lambda: tables.models(other),
        lambda: tables.adverse_events(other, unit="days"),
        lambda: tables.scenarios(other),
        lambda: tables.probabilities(other),
    ]
    for call in calls:
        with pytest.raises(SpecError, match="found columns x"):
            call()
    with pytest.raises(SpecError, match="No column 'y'"):
        tables.publish(other, columns=["y"])


# Results show themselves.


def failing(fit: Fit) -> Fit:
    gate = Convergence(table=fit.convergence.table, criteria=criteria(False))
    return dataclasses.replace(fit, convergence=gate)


def test_a_fit_shows_itself(synthetic_fit: Fit) -> None:
    shown = synthetic_fit._repr_html_()
    assert "86 synthetic patients" in shown
    assert "<td>passed</td>" in shown
    assert "NOT CONVERGED" not in shown
    failed = failing(synthetic_fit)._repr_html_()
    assert "NOT CONVERGED, do not use: divergences is 3 (must be 0)" in failed


def test_checks_show_themselves(synthetic_fit: Fit) -> None:
    checks = bb.check(synthetic_fit)
    assert checks.passed
    # A patient's Pareto k lies so near the limit that another processor's draws decide.
    checks = dataclasses.replace(
        checks, loo=checks.loo.assign(reliable=True), weaknesses=checks.weaknesses[:1]
    )
    assert repr(checks) == (
        "Checks(converged; the baseline does not move the hazard ratio; 3 of 3 LOO estimates "
        "reliable; 1 weakness; 1 note)"
    )
    told = re.match(
        r"os: the prior of the hazard ratio moves it from (\d\.\d\d) to (\d\.\d\d) ",
        checks.weaknesses[0],
    )
    assert told is not None
    without, with_prior = map(float, told.groups())
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    # Cox has neither prior, and a mode for a median: apart by less than a tenth of the sd of 0.5.
    wanted = bb.cox(cohort, synthetic_fit.question, adjusted=True).set_index("endpoint")["estimate"]
    assert abs(np.log(without / wanted["os"])) < 0.05
    median = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")["companion_median"]
    assert with_prior == pytest.approx(median["os"], abs=0.01)
    assert "nothing is declared of how events are recorded" in checks.notes[0]
    shown = checks._repr_html_()
    # Convergence, baseline, event times, pulls, leave one out, events by interval.
    assert shown.count("<table>") == 6
    assert "Convergence: passed" in shown
    failed = dataclasses.replace(
        checks, convergence=failing(synthetic_fit).convergence, notes=("<b>", "left out")
    )
    assert repr(failed).startswith("Checks(NOT CONVERGED; the baseline does not move")
    assert not failed.passed
    assert "NOT CONVERGED" in failed._repr_html_()
    assert "&lt;b&gt;" in failed._repr_html_()
    assert repr(failed.convergence) == ("Convergence(NOT CONVERGED; divergences is 3 (must be 0))")


def test_predictions_show_no_patients(synthetic_fit: Fit) -> None:
    prediction = bb.loo(synthetic_fit)
    compared = bb.compare({"a": synthetic_fit, "b": synthetic_fit})
    error = float(compared["se"].iloc[0])
    for text in (repr(prediction), prediction._repr_html_()):
        assert "SYN-" not in text
        assert "86 synthetic patients" in text
        assert f"SE {error:.1f}" in text
    assert "NOT CONVERGED" in dataclasses.replace(prediction, converged=False)._repr_html_()


def test_summaries_know_that_patients_are_synthetic(synthetic_fit: Fit) -> None:
    ratios = bb.hazard_ratio(synthetic_fit)
    found = bb.summary(ratios)
    assert found.attrs == {"synthetic": True, "unit": "months"}
    assert bb.probabilities(ratios, thresholds=[0.8]).attrs["synthetic"] is True
    table = tables.estimates(found, kind="ratio", quantity="HR")
    assert table.notes == (tables.SYNTHETIC,)
    for text, row in zip(table.rows, found.to_dict("records"), strict=True):
        shown = f"{row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        assert text[1] == shown


def test_scenarios_show_themselves() -> None:
    rows = [
        {
            "scenario": f"lag = {index}<b>",
            "status": "converged",
            "reason": "",
            "endpoint": "os",
            "median": 0.5,
            "lower": 0.3,
            "upper": 0.8,
            "probability_below_1": 0.98,
            "key": str(index),
        }
        for index in range(50)
    ]
    found = Sensitivity(table=pd.DataFrame(rows), axes=("lag",), synthetic=True)
    shown = found._repr_html_()
    assert "the first 40 rows and 10 more" in shown
    assert "synthetic patients" in shown
    assert "<b>" not in shown
    holds = Holds(
        endpoint="<i>",
        direction="higher",
        source="given",
        probability=0.975,
        ratio=0.8,
        holds=1,
        of=2,
        not_in=("lag = 1",),
        without_answer=(),
    )
    assert holds._repr_html_().startswith(
        "<p>&lt;i&gt;: the conclusion, that the hazard is higher (P(HR &gt; 1) at least 0.975, "
        "median &gt; 1.25), holds in 1 of 2"
    )


def test_other_results_show_themselves() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    table = bb.simulate.adverse_events(cohort, seed=1)
    events = bb.adverse_events(
        table, cohort, patient="patient_id", term="term", start="month", transplant="ignore"
    )
    weighted = bb.starting_weights(cohort, question, endpoint="os")
    for value in (events, weighted):
        shown = value._repr_html_()
        assert "Synthetic patients." in shown
        assert "SYN-" not in shown
    import xarray as xr

    calibration = Calibration(
        ranks=xr.DataArray(np.zeros((7, 1)), dims=("replication", "parameter")),
        kept=99,
        table=pd.DataFrame({"parameter": ["level<os>"], "p_value": [0.0005]}),
        divergent=2,
    )
    assert repr(calibration) == (
        "Calibration(FAILED; 7 replications of 1 parameters; 2 with divergent transitions)"
    )
    assert "level&lt;os&gt;" in calibration._repr_html_()
