"""The command line answers, marks what did not converge, and words what is wrong."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.checks.weaknesses import pulls
from bayesblina.hazards.definition import model_names
from bayesblina.inference import storage
from bayesblina.output.report.computation import OFF_DRAWS
from bayesblina.output.result_files import RESULTS, TEXTS, earlier_results

Result = Any

TABLES = ("hazard_ratios.csv", "survival.csv", "diagnostics.csv")
CURVES = {"smooth", "weibull", "gaussian_process", "mixture_cure"}
FIGURES = ("survival_os", "survival_rfs", "hazard_ratio")
# The model has no external patients, and one effect for all time in the phase.
ABSENT = {"borrowing", "hazard_ratios_by_step"}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def short(
    demo: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """A run of the demo's study that is far too short to converge."""
    folder = tmp_path_factory.mktemp("short")
    text = (demo[0] / "study.toml").read_text()
    for name in ("patients.csv", "adverse_events.csv"):
        (folder / name).write_bytes((demo[0] / name).read_bytes())
    (folder / "study.toml").write_text(
        text.replace("[fit]", "[fit]\ndraws = 20\ntune = 50\nchains = 2").replace(
            "[curves]", "[curves]\ntimes = [8.0, 12.0]\nthresholds = [0.8]"
        )
    )
    return folder, call("run", folder / "study.toml", "--out", folder / "out")


def test_demo_answers(demo: tuple[Path, Result]) -> None:
    out, result = demo
    assert result.exit_code == 0, result.output
    assert "OS: hazard ratio of maintenance" in result.stdout
    expected = {*TABLES, "fit.nc", "summary.md", "report.html", "results.json"}
    expected |= {"patients.csv", "adverse_events.csv", "study.toml"}
    # The model has no external patients.
    expected |= {f"{name}.csv" for name in TEXTS if name not in ABSENT}
    expected |= {f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")}
    assert expected <= {item.name for item in out.iterdir()}
    assert not [item.name for item in out.iterdir() if item.name.startswith(".")]
    assert all(item.stat().st_size > 0 for item in out.iterdir())


def test_hazard_ratios(demo: tuple[Path, Result]) -> None:
    table = pd.read_csv(demo[0] / "hazard_ratios.csv")
    assert list(table.columns) == [
        "endpoint",
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "probability_below_1",
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
        "baseline_pull",
        "prior_pull",
        "without_prior_median",
        "covariate_prior_pull",
        "without_covariate_priors_median",
        "converged",
    ]
    assert table["endpoint"].tolist() == ["os", "rfs"]
    assert table["converged"].all()
    assert (table["lower"] < table["median"]).all()


def test_curves_and_diagnostics(demo: tuple[Path, Result]) -> None:
    curves = pd.read_csv(demo[0] / "survival.csv")
    assert set(curves["regime"]) == {"never", "from 8"}
    assert curves["time"].min() == 8.0
    assert curves["mean"].between(0, 1).all()
    diagnostics = pd.read_csv(demo[0] / "diagnostics.csv")
    assert diagnostics["kind"].value_counts()["criterion"] == 5
    assert "log_hazard_ratio[os, maintenance]" in set(diagnostics["name"])


def test_saved_fit_gives_the_same_numbers(demo: tuple[Path, Result]) -> None:
    table = bb.summary(bb.hazard_ratio(storage.load(demo[0] / "fit.nc")))
    written = pd.read_csv(demo[0] / "hazard_ratios.csv", float_precision="round_trip")
    pulled = pulls(storage.load(demo[0] / "fit.nc"))
    pd.testing.assert_frame_equal(table, written[table.columns], check_exact=True)
    more = [name for name in written if name not in table]
    pd.testing.assert_frame_equal(pulled[more], written[more], check_exact=True)


def test_summary_tells_all_but_patients(demo: tuple[Path, Result]) -> None:
    summary = (demo[0] / "summary.md").read_text()
    for words in (
        "SYNTHETIC",
        "OS: hazard ratio of maintenance",
        "RFS: hazard ratio of maintenance",
        "The convergence checks passed",
        "Before the data",
        "never reached consolidation",
        "267 patients",
        "seed 1",
    ):
        assert words in summary
    for item in demo[0].iterdir():
        tables = item.suffix == ".csv" and item.name not in ("patients.csv", "adverse_events.csv")
        if item.suffix in (".md", ".svg", ".html", ".json") or tables:
            assert "SYN-0" not in item.read_text(), item


def test_run_repeats_the_demo(demo: tuple[Path, Result], tmp_path: Path) -> None:
    again = str(tmp_path / "again")
    result = call("run", demo[0] / "study.toml", "--out", again, "--quiet", "--no-report")
    assert result.exit_code == 0, result.output
    assert result.output == ""
    # These tell how long it took, or what was typed.
    differ = ("fit.nc", "report.html", "results.json")
    for item in demo[0].iterdir():
        if item.name not in ("patients.csv", "adverse_events.csv", "study.toml", *differ):
            assert (tmp_path / "again" / item.name).read_bytes() == item.read_bytes(), item.name


def test_not_converged_is_marked_everywhere(short: tuple[Path, Result]) -> None:
    folder, result = short
    assert result.exit_code == 1
    assert "NOT CONVERGED" in result.stderr
    assert "NOT CONVERGED: do not use" in result.stdout
    out = folder / "out"
    assert (out / "summary.md").read_text().count("NOT CONVERGED") >= 3
    for name in (*TABLES, *(f"{name}.csv" for name in OFF_DRAWS)):
        assert not pd.read_csv(out / name)["converged"].any(), name
    assert not storage.load(out / "fit.nc").converged
    assert "probability_below_0.8" in pd.read_csv(out / "hazard_ratios.csv")
    assert sorted(pd.read_csv(out / "survival.csv")["time"].unique()) == [8.0, 12.0]


def test_validate(demo: tuple[Path, Result]) -> None:
    result = call("validate", demo[0] / "study.toml")
    assert result.exit_code == 0, result.output
    assert "is valid" in result.stdout
    assert "patients who reached consolidation" in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[fit]", "[fitt]", "fitt: unknown key. Nearest: fit."),
        ("os_months", "os_month", "os_month: no such column. Nearest: os_months"),
        ('name = "primary"', 'name = "primry"', "No model 'primry'. Nearest: primary."),
        ('exposed = "maintenance"', 'exposed = "x"', "exposed: the cohort has no phase 'x'."),
        ('"censor"', '"cencor"', "question.transplant"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_bad_input(
    demo: tuple[Path, Result], tmp_path: Path, command: str, old: str, new: str, message: str
) -> None:
    text = (demo[0] / "study.toml").read_text().replace(old, new)
    text = text.replace('"patients.csv"', f"'{demo[0] / 'patients.csv'}'")
    (tmp_path / "study.toml").write_text(text)
    more = ["--out", str(tmp_path / "out")] if command == "run" else []
    result = call(command, tmp_path / "study.toml", *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout.count("is valid") == 0
    debugged = call("--debug", command, tmp_path / "study.toml", *more)
    assert debugged.exit_code == 2
    assert "Traceback" in debugged.stderr
    assert message in debugged.stderr


def test_impossible_folders(demo: tuple[Path, Result], tmp_path: Path) -> None:
    study = demo[0] / "study.toml"
    (tmp_path / "file").write_text("")
    result = call("run", study, "--out", tmp_path / "file")
    assert (result.exit_code, "is a file; expected a folder" in result.stderr) == (2, True)
    (tmp_path / "patients.csv").write_text("mine")
    result = call("demo", "--out", tmp_path)
    assert (result.exit_code, "is not the demo's" in result.stderr) == (2, True)
    assert (tmp_path / "patients.csv").read_text() == "mine"
    (tmp_path / "survival.csv").write_text("mine")
    text = study.read_text().replace("patients.csv", "survival.csv")
    (tmp_path / "study.toml").write_text(text)
    result = call("run", tmp_path / "study.toml", "--out", tmp_path)
    assert (result.exit_code, "would be overwritten" in result.stderr) == (2, True)


def test_undefined_curves_are_bad_input(demo: tuple[Path, Result], tmp_path: Path) -> None:
    text = (demo[0] / "study.toml").read_text().replace("[8.0]", "[0.5]")
    text = text.replace("landmark = 8.0", "landmark = 0.0")
    text = text.replace('"patients.csv"', f"'{demo[0] / 'patients.csv'}'")
    text = text.replace("[fit]", "[fit]\ndraws = 10\ntune = 20\nchains = 2")
    (tmp_path / "study.toml").write_text(text)
    result = call("run", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "'from 0.5' is not defined here" in result.stderr


def test_fault_is_told_apart(demo: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("bayesblina.studies.study_file.read_study", fail)
    result = call("validate", demo[0] / "study.toml")
    assert result.exit_code == cli.FAULT
    assert "fault in bayesblina" in result.stderr
    assert "Traceback" in call("validate", demo[0] / "study.toml", "--debug").stderr


def test_models() -> None:
    for arguments in (["models"], ["models", "list"]):
        result = call(*arguments)
        assert result.exit_code == 0
        heads, *lines = (
            [part.strip() for part in re.split(r"  +", line)] for line in result.stdout.splitlines()
        )
        assert heads == ["name", "for"]
        assert lines[0] == ["primary", "hazard ratios", bb.load_model("primary").title]
        assert sorted(line[0] for line in lines) == list(model_names())
        curves = {name for name, purpose, _ in lines if purpose == "curves"}
        assert curves == CURVES
        assert all(
            title.startswith("A model of curves") == (name in CURVES) for name, _, title in lines
        )
    result = call("models", "show", "primary")
    assert result.exit_code == 0
    assert "[baseline]" in result.stdout
    wrong = call("models", "show", "primry")
    assert wrong.exit_code == 2
    assert "Nearest: primary." in wrong.stderr


@pytest.mark.parametrize("name", model_names())
def test_what_models_show_is_a_model_file(name: str, tmp_path: Path) -> None:
    result = call("models", "show", name)
    assert result.exit_code == 0
    copy = tmp_path / f"{name}.toml"
    copy.write_text(result.stdout, encoding="utf-8")
    assert bb.load_model(copy) == bb.load_model(name)
    for part in ("# log h[e, i](t) = ", "# Likelihood", "# Baseline", "# Phases", "# Covariates"):
        assert part in result.stdout
    prior = bb.load_model(name).phases.prior
    assert f"95% in {prior.hazard_ratio[0]:g} to {prior.hazard_ratio[1]:g}" in result.stdout


def test_models_prior_is_what_the_file_states(tmp_path: Path) -> None:
    result = call("models", "prior", "primary", "--out", str(tmp_path), "--draws", "2000")
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.stdout
    table = pd.read_csv(tmp_path / "prior.csv")
    table = table[table["quantity"] == "hazard ratio of the exposed phase"].set_index("endpoint")
    stated = bb.load_model("primary").phases.prior
    for endpoint in ("os", "rfs"):
        # The sd of a normal's 2.5 % quantile from 2000 draws is 0.06 of its sd.
        slack = 4 * 0.06 * stated.sd
        for column, end in zip(("lower", "upper"), stated.hazard_ratio, strict=True):
            got = float(table[column].loc[endpoint])
            assert math.log(got) == pytest.approx(math.log(end), abs=slack)
    assert (tmp_path / "prior.png").stat().st_size > 10_000


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["run", "--help"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from bayesblina.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "heavy = {'numpy', 'pandas', 'xarray', 'scipy', 'pymc', 'nutpie', 'arviz', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


def test_validate_imports_no_sampler(demo: tuple[Path, Result]) -> None:
    program = (
        "import sys\n"
        "from bayesblina.cli import app\n"
        f"app(['validate', {str(demo[0] / 'study.toml')!r}], standalone_mode=False)\n"
        "heavy = {'xarray', 'scipy', 'pymc', 'nutpie', 'arviz', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


def test_validate_another_table(demo: tuple[Path, Result], tmp_path: Path) -> None:
    lines = (demo[0] / "patients.csv").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.csv").write_text("".join(lines[:120]))
    study = demo[0] / "study.toml"
    result = call("validate", tmp_path / "fewer.csv", "--study", study)
    assert result.exit_code == 0, result.output
    assert "patients in fewer.csv" in result.stdout
    assert "SYN-0" not in result.output
    (tmp_path / "broken.csv").write_text("patient_id\n1\n")
    result = call("validate", tmp_path / "broken.csv", "--study", study)
    assert result.exit_code == 2
    assert "11 problems in broken.csv" in result.stderr


def test_validate_asks_for_what_the_model_needs(tmp_path: Path) -> None:
    assert call("demo", "--out", str(tmp_path), "--help").exit_code == 0
    bb.simulate.blinatumomab_table(seed=1).to_csv(tmp_path / "patients.csv", index=False)
    study = (
        'schema = 1\n[data]\nfile = "patients.csv"\npatient = "patient_id"\nunit = "months"\n'
        'covariates = ["age_group"]\ntransplant = "transplant_month"\n'
        '[endpoints.os]\ntime = "os_months"\nevent = "died"\n'
        '[endpoints.rfs]\ntime = "rfs_months"\nevent = "relapse_or_death"\n'
        'entry = "remission_month"\n[phases]\nconsolidation = "consolidation_month"\n'
        'maintenance = "maintenance_month"\n[question]\nexposed = "maintenance"\n'
        'eligible_from = "consolidation"\ntransplant = "censor"\n[model]\n{model}\n'
    )
    path = tmp_path / "study.toml"
    for model, message in (
        ('name = "frailty"', "needs a covariate as its group"),
        ('name = "frailty"\ngroup = "age"', "no categorical covariate 'age'"),
        ('name = "primary"\ngroup = "age_group"', "has no group"),
        ('name = "frailty"\ngroup = "age_group"', ""),
        ('name = "illness_death"', ""),
    ):
        path.write_text(study.replace("{model}", model), encoding="utf-8")
        result = call("validate", str(path))
        assert result.exit_code == (2 if message else 0), result.output
        assert message in result.output


def test_results_are_one_list(demo: tuple[Path, Result]) -> None:
    """What a run writes is what the next one knows to replace."""
    own = {"patients.csv", "adverse_events.csv", "study.toml"}
    names = {item.name for item in demo[0].iterdir()} - own
    assert names <= earlier_results(demo[0])
    figures = {f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")}
    assert {*RESULTS, *figures} - names == {f"{name}.csv" for name in ABSENT}


def test_data_give_the_terminal_no_commands(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("id,months,died,start\n\x1b[2J\x1b]0;p\x07,-1,1,\nb,2,0,\u202e1\n")
    study = tmp_path / "study.toml"
    study.write_text(
        'schema = 1\n[data]\nfile = "patients.csv"\npatient = "id"\nunit = "months"\n'
        '[endpoints.os]\ntime = "months"\nevent = "died"\n[phases]\nm = "start"\n'
        '[question]\nexposed = "m"\neligible_from = "entry"\n[fit]\nseed = 1\n'
    )
    result = call("validate", study)
    assert result.exit_code == cli.BAD_INPUT
    said = result.stdout + result.stderr
    assert "problems in" in said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)


def test_json_is_the_answer(demo: tuple[Path, Result]) -> None:
    result = call("report", demo[0], "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["report"] == str(demo[0] / "report.html")
    assert (told["converged"], told["synthetic"], told["exit_code"]) == (True, True, 0)
    result = call("validate", demo[0] / "study.toml", "--json")
    told = json.loads(result.stdout)
    assert told["patients"] == 267
    assert told["account"][0]["patients"] == 267
    assert "SYN-0" not in result.stdout


def test_json_is_the_error(tmp_path: Path) -> None:
    result = call("--json", "validate", tmp_path / "none.toml")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["error"]["kind"] == "SpecError"
    assert "No study file" in told["error"]["message"]
    assert "No study file" in result.stderr


def test_json_of_models() -> None:
    told = json.loads(call("models", "list", "--json").stdout)
    assert sorted(told["models"]) == list(model_names())
    assert {name for name, one in told["models"].items() if one["for"] == "curves"} == CURVES
    shown = json.loads(call("models", "show", "primary", "--json").stdout)
    assert shown["definition"]["name"] == "primary"


def test_seed_and_json_of_run(short: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = short
    result = call("run", folder / "study.toml", "--out", tmp_path / "x", "--seed", "9", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["seed"], told["converged"], told["synthetic"]) == (9, False, True)
    assert told["failures"]
    table = pd.read_csv(tmp_path / "x" / "hazard_ratios.csv", float_precision="round_trip")
    assert [row["median"] for row in told["hazard_ratios"]] == table["median"].tolist()
    other = pd.read_csv(folder / "out" / "hazard_ratios.csv")
    assert table["median"].iloc[0] != other["median"].iloc[0]
    assert set(told["seconds"]) >= {"read", "fit", "curves", "figures", "tables", "report"}
    assert "report.html" in told["files"]
    record = json.loads((tmp_path / "x" / "results.json").read_text())
    # No folder of this machine is in it.
    assert record["command"] == "bayesblina run study.toml --out x --seed 9"
    assert storage.load(tmp_path / "x" / "fit.nc").provenance.seed == 9


def test_stages_tell_their_times(demo: tuple[Path, Result]) -> None:
    for stage in ("read", "fit", "curves", "checks", "figures", "report"):
        line = next(one for one in demo[1].stderr.splitlines() if one.split()[:1] == [stage])
        assert line.endswith(" s")
        assert float(line.split()[-2]) >= 0


@pytest.mark.parametrize(
    "command",
    [
        [],
        *([name] for name in ("demo", "run", "report", "validate", "init")),
        *([name] for name in ("sensitivity", "design", "models")),
        ["models", "show"],
        ["models", "prior"],
    ],
)
def test_help_has_examples(command: list[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    _, _, examples = result.stdout.partition("Examples:\n")
    assert examples.strip().startswith(f"bayesblina {' '.join(command)}".strip())


def test_completion() -> None:
    # What the shell asks for after `bayesblina models show il<TAB>`.
    asked = {
        "_BAYESBLINA_COMPLETE": "complete_bash",
        "COMP_WORDS": "bayesblina models show il",
        "COMP_CWORD": "3",
    }
    program = "from bayesblina.cli import app; app(prog_name='bayesblina')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["illness_death"]


def test_report_needs_results(tmp_path: Path) -> None:
    result = call("report", tmp_path)
    assert result.exit_code == 2
    assert "expected a folder that bayesblina run wrote" in result.stderr
    assert not list(tmp_path.iterdir())


def test_landmarks_are_checked_before_the_fit(demo: tuple[Path, Result], tmp_path: Path) -> None:
    text = (demo[0] / "study.toml").read_text().replace("[12.0, 16.0]", "[12.0, 400.0]")
    text = text.replace('"patients.csv"', f"'{demo[0] / 'patients.csv'}'")
    (tmp_path / "study.toml").write_text(text)
    result = call("validate", tmp_path / "study.toml")
    assert result.exit_code == 2
    assert "nobody is at risk at the landmark 400" in result.stderr


def test_adverse_events_are_checked_before_the_fit(
    demo: tuple[Path, Result], tmp_path: Path
) -> None:
    text = (demo[0] / "study.toml").read_text().replace('term = "term"', 'term = "trem"')
    for name in ("patients.csv", "adverse_events.csv"):
        text = text.replace(f'"{name}"', f"'{demo[0] / name}'")
    (tmp_path / "study.toml").write_text(text)
    result = call("validate", tmp_path / "study.toml")
    assert result.exit_code == 2
    assert "trem: no such column. Nearest: term" in result.stderr


def test_nobody_has_to_listen_to_the_end(demo: tuple[Path, Result]) -> None:
    """As with `| head -1`: what is left unsaid is no error, and no work is given up for it."""
    words = [sys.executable, "-m", "bayesblina", "validate", str(demo[0] / "study.toml")]
    for more in ([], ["--json"]):
        gone, ours = os.pipe()
        os.close(gone)
        ran = subprocess.run(
            [*words, *more], stdout=ours, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(ours)
        assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_in_a_line(demo: tuple[Path, Result]) -> None:
    words = [sys.executable, "-m", "bayesblina", "validate", str(demo[0] / "study.toml"), "--json"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == (
        "bayesblina: Cannot write to standard output: there is no space left for it; free some and "
        "try again.\n"
    )
