"""The examples run, and say what the documentation says they do."""

import ast
import re
import runpy
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import bayesblina as bb
from tests.paths import ROOT

HEART = ROOT / "examples" / "stanford_heart.py"
NOTEBOOKS = sorted((ROOT / "examples").glob("*.md"))
# Pages of the documentation that compute what they say.
PAGES = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if "{code-cell}" in path.read_text(encoding="utf-8")
    and not {"_build", "examples"} & {*path.relative_to(ROOT / "docs").parts}
)
# Seconds of computing, so that a busy machine does not make a cell long. From an empty cache on the
# longest took half of it, nearly all of that compiling two models, which are two cells since.
LONGEST_CELL = 60.0
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_heart_table_gives_the_published_comparison() -> None:
    # R 4.2, survival 3.5-3, the table `heart`.
    cohort = bb.read_cohort(
        runpy.run_path(str(HEART))["one_row_per_patient"]().reset_index(),
        patient="patient",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
    )
    question = bb.Question(exposed="transplantation", eligible_from="entry")
    result = bb.mantel_byar(cohort, question).isel(endpoint=0)
    golden = {
        "observed": "45",
        "observed_reference": "30",
        "expected": "43.59582",
        "expected_reference": "31.40418",
        "variance": "11.2615",
        "chi2": "0.17509",
        "peto_odds_ratio": "1.13280",
        "peto_lower": "0.632",
        "peto_upper": "2.031",
        "pike_odds_ratio": "1.08052",
    }
    for name, text in golden.items():
        last_digit = 10.0 ** -len(text.partition(".")[2])
        assert float(result[name]) == pytest.approx(float(text), abs=0.51 * last_digit), name


def test_heart_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stanford_heart.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(HEART), run_name="__main__")
    assert ended.value.code == 0
    ratio = pd.read_csv(tmp_path / "hazard_ratios.csv").iloc[0]
    assert ratio["converged"]
    quoted = re.search(
        r"hazard ratio (\d\.\d\d) \(95 % interval (\d\.\d\d) to (\d\.\d\d)\)", README
    )
    assert quoted is not None
    # Monte-Carlo errors of a 2.5 % and 97.5 % quantile are about three times that of the mean.
    for name, number, errors in zip(
        ("median", "lower", "upper"), quoted.groups(), (5, 15, 15), strict=True
    ):
        assert ratio[name] == pytest.approx(float(number), abs=0.005 + errors * ratio["mcse"]), name
    assert (tmp_path / "survival_os.png").read_bytes().startswith(b"\x89PNG")


@dataclass(frozen=True, slots=True)
class Cell:
    """Code of a notebook, and the line of its file on which it begins."""

    code: str
    line: int


def code_cells(text: str) -> list[Cell]:
    """Take the code out of a notebook in MyST Markdown."""
    cells = []
    for found in re.finditer(
        r"^```\{code-cell\}[^\n]*\n((?::\w+:[^\n]*\n)*)(.*?)^```$", text, re.DOTALL | re.MULTILINE
    ):
        line = text.count("\n", 0, found.start(2))
        cells.append(Cell(code=found.group(2), line=line))
    return cells


def run_cell(cell: Cell, names: dict[str, object], *, file: str) -> None:
    """Run a cell as a notebook does: the last expression is shown."""
    tree = ast.parse(cell.code)
    ast.increment_lineno(tree, cell.line)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, file, "exec"), names)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), file, "eval"), names)
        repr(shown)
        for name in ("_repr_html_", "_repr_png_"):
            show = getattr(shown, name, None)
            if show is not None:
                show()


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_notebook(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, warns of nothing, takes no minute with its compiling, and leaves nothing."""
    # Pages read files beside them; notebooks read none, and may be run anywhere.
    monkeypatch.chdir(path.parent if path in PAGES else tmp_path)
    cells = code_cells(path.read_text(encoding="utf-8"))
    assert len(cells) > 3
    names: dict[str, object] = {"__name__": "notebook"}
    with mpl.rc_context():
        for cell in cells:
            begun = time.process_time()
            run_cell(cell, names, file=str(path))
            assert time.process_time() - begun < LONGEST_CELL, cell.code
    plt.close("all")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_as_a_story(path: Path) -> None:
    """It says what its patients are, holds no outputs, and formats as other code does."""
    text = path.read_text(encoding="utf-8")
    assert text.count("```") % 2 == 0
    assert "format_name: myst" in text.split("---")[1]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert re.search(
        r"\*\*(All patients are synthetic|Everything here is simulated)|Real data", prose
    )
    assert len(prose.split()) > 120


def test_cells_are_found_with_their_lines() -> None:
    text = "a\n\n```{code-cell} ipython3\n:tags: [x]\n\nx = 1\nx\n```\n\n```python\ny\n```\n"
    (cell,) = code_cells(text)
    assert cell == Cell(code="\nx = 1\nx\n", line=4)
    with pytest.raises(ZeroDivisionError):
        run_cell(Cell(code="1 / 0", line=0), {}, file="x")
