"""The documentation is made from the code, its links lead somewhere, its examples are true."""

import ast
import importlib
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.files import write_text
from tests.paths import ROOT

DOCS = ROOT / "docs"
SOURCES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    if not {"_build", "generated"} & {*path.parts} and path.parent != DOCS / "examples"
)
TUTORIAL = DOCS / "tutorial" / "first_study.md"


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Modules that make pages; they are no part of the package."""
    names = ("api_reference", "cli_reference", "file_reference", "generated", "mathml")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


# Pages made from the code.


def test_every_public_name_has_a_place(extensions: dict[str, ModuleType]) -> None:
    groups = extensions["api_reference"].public_names()
    listed = [name for names in groups.values() for name in names]
    assert sorted(listed) == sorted(
        name
        for name in dir(bb)
        if name != "__version__" and not inspect.ismodule(getattr(bb, name))
    )
    # A module without a group would hide its names at the end.
    assert "Others" not in groups
    page = extensions["api_reference"].api_page()
    for name in [*listed, *bb.plots.__all__, "blinatumomab_cohort", "DataError"]:
        assert re.search(rf"^   {name}$", page, re.MULTILINE), name
    assert "   np\n" not in page


def test_the_command_line_is_told_in_full(extensions: dict[str, ModuleType]) -> None:
    page = extensions["cli_reference"].cli_page()

    def walk(command: object, words: str) -> None:
        assert f"## {words}\n" in page
        for parameter in getattr(command, "params", []):
            if not getattr(parameter, "hidden", False):
                name = parameter.metavar if parameter.param_type_name == "argument" else None
                assert f"`{(name or parameter.opts[0]).replace('|', chr(92) + '|')}" in page
        for name, one in getattr(command, "commands", {}).items():
            walk(one, f"{words} {name}")

    walk(typer.main.get_command(cli.app), "bayesblina")
    assert "`results/demo`" in page
    assert "required" in page


@pytest.mark.parametrize("kind", ["STUDY", "DESIGN", "MODEL"])
def test_every_key_of_a_file_is_explained(extensions: dict[str, ModuleType], kind: str) -> None:
    module = extensions["file_reference"]
    text = module.file_page(getattr(module, kind))
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    keys = {key for key, *_ in rows}

    def walk(schema: type[BaseModel]) -> None:
        for name, field in schema.model_fields.items():
            assert (field.alias or name) in keys
            for one in module._schemas(field.annotation):
                walk(one)

    walk(getattr(module, kind).schema)
    assert [key for key, _, _, meaning in rows if not meaning.strip() and key != "kind"] == []
    assert [key for key, value, *_ in rows if value == "any value"] == []


def test_types_are_said_in_words(extensions: dict[str, ModuleType]) -> None:
    module = extensions["file_reference"]
    page = module.file_page(module.STUDY)
    for row in (
        '| `unit` | `"days"`, `"weeks"`, `"months"` or `"years"` | required |',
        "| `draws` | whole number ≥ 4, ≤ 1000000 | `1000` |",
        "| `lag` | number ≥ 0 | `0.0` |",
        "| `phases` | [lower, upper], or table (a hazard ratio) |  |",
        "| `file` | text | required |",
    ):
        assert row in page, row


# Links and code.


def link_targets(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|mailto:|#", target):
            yield target.partition("#")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    # Notebooks are read as pages of docs/examples, and examples as pages of the documentation.
    folder = DOCS / "examples" if path.parent == ROOT / "examples" else path.parent
    for target in link_targets(path):
        found = Path(os.path.normpath(folder / target))
        if found.is_relative_to(DOCS / "examples"):
            found = ROOT / "examples" / found.name
        made = found.is_relative_to(DOCS / "reference" / "generated")
        assert made or found.exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_is_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        ast.parse(code)
    for code in re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        tomllib.loads(code)


def test_formulas_are_understood(extensions: dict[str, ModuleType]) -> None:
    formulas = [
        formula
        for path in SOURCES
        for formula in re.findall(r"^\$\$\n(.*?)\n\$\$", path.read_text("utf-8"), re.DOTALL | re.M)
    ]
    assert len(formulas) > 3
    for formula in [*formulas, "a &= b \\\\ c &= d"]:
        made = extensions["mathml"]._convert(formula, None, block=True)
        assert made.startswith("<math"), formula
    assert extensions["mathml"]._convert(r"\nothing", None, block=False).startswith("<code>")


def test_pages_name_no_other_places() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/", text), path


# The tutorial.


def test_the_tutorials_draft_is_what_init_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = re.findall(
        r"^```toml\n(schema = 1\n.*?)^```", TUTORIAL.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    table = tmp_path / "heart.csv"
    example = ROOT / "examples" / "stanford_heart.py"
    monkeypatch.setattr(sys, "argv", [str(example), "--table", str(table)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(example), run_name="__main__")
    assert ended.value.code == 0
    lines = re.findall(r"^patient,days.*?(?=^```)", TUTORIAL.read_text("utf-8"), re.DOTALL | re.M)
    assert table.read_text("utf-8").startswith(lines[0])
    study = tmp_path / "study.toml"
    made = CliRunner().invoke(cli.app, ["init", str(table), "--out", str(study)])
    assert made.exit_code == 0, made.output
    assert study.read_text("utf-8").endswith(shown)
    valid = CliRunner().invoke(cli.app, ["validate", str(study)])
    told = " ".join(valid.stdout.split())
    for line in ("at risk 103 75 31954", "reference 103 30 5955.5", "exposed 69 45 25998.5"):
        assert line in told
        assert line in " ".join(TUTORIAL.read_text("utf-8").split())


def test_the_tutorials_answer(tmp_path: Path) -> None:
    """What it quotes is what comes out, to within Monte-Carlo error."""
    text = " ".join(TUTORIAL.read_text("utf-8").split())
    quoted = re.search(
        r"transplantation (\d\.\d\d) \(posterior median; 95 % interval (\d\.\d\d) to (\d\.\d\d); "
        r"probability that it is below 1: (\d\.\d+)\)",
        text,
    )
    assert quoted is not None
    table = tmp_path / "heart.csv"
    write_text(table, heart_table().to_csv())
    study, out = tmp_path / "study.toml", tmp_path / "results"
    CliRunner().invoke(cli.app, ["init", str(table), "--out", str(study)])
    ran = CliRunner().invoke(cli.app, ["run", str(study), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    row = pd.read_csv(out / "hazard_ratios.csv").iloc[0]
    for name, number, errors in zip(
        ("median", "lower", "upper"), quoted.groups(), (5, 15, 15), strict=False
    ):
        assert row[name] == pytest.approx(float(number), abs=0.005 + errors * row["mcse"]), name
    assert row["probability_below_1"] == pytest.approx(float(quoted.group(4)), abs=0.06)
    for name in re.findall(r"`([\w.]+\.(?:csv|md|png|nc))`", text):
        if name not in {"heart.csv"}:
            assert (out / name).is_file(), name


def heart_table() -> pd.DataFrame:
    example = runpy.run_path(str(ROOT / "examples" / "stanford_heart.py"))
    table: pd.DataFrame = example["one_row_per_patient"]()
    return table


# What takes minutes.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["survival", "pammtools", "rstanarm"])
def test_r_gives_the_stored_numbers(name: str, tmp_path: Path) -> None:
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is not installed")
    code = tmp_path / "docs" / "moving" / "code"
    code.mkdir(parents=True)
    shutil.copy(DOCS / "moving" / "code" / f"{name}.R", code)
    data = tmp_path / "tests" / "data"
    data.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "data" / "stanford_jasa1.csv", data)
    ran = subprocess.run(
        [rscript, f"{name}.R"], cwd=code, capture_output=True, text=True, check=False
    )
    if "there is no package called" in ran.stderr:
        pytest.skip(f"R has no package {name}")
    assert ran.returncode == 0, ran.stderr
    stored = pd.read_csv(DOCS / "moving" / "code" / f"{name}.csv", index_col="name")["value"]
    again = pd.read_csv(code / f"{name}.csv", index_col="name")["value"]
    tolerance = 0.02 if name == "rstanarm" else 1e-6
    pd.testing.assert_series_equal(again, stored, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_the_documentation_builds(tmp_path: Path) -> None:
    """Warnings are errors; notebooks run; no page asks another place for anything."""
    built = tmp_path / "html"
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, built],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|iframe)[^>]+src=\"https?://", text), page
        assert not re.search(r"<link[^>]+rel=\"stylesheet\"[^>]+href=\"https?://", text), page
