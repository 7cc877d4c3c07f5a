"""Commands from a study file to its answer: demo, run, report, validate, init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesblina.cli.application import (
    ANSWERED,
    MARKED,
    Debug,
    Json,
    Manner,
    Quiet,
    Seed,
    ShowIds,
    StudyPath,
    app,
    examples,
    reported,
    typed,
)
from bayesblina.core import tables
from bayesblina.core.errors import LARGEST_SEED, SpecError
from bayesblina.core.files import write_text
from bayesblina.output.result_files import (
    REPORT,
    SUMMARY,
    require_elsewhere,
    require_folder,
    require_own,
    results_in,
)
from bayesblina.studies import simulate

if TYPE_CHECKING:
    from bayesblina.inference.fitting import Fit
    from bayesblina.output.analysis import Analysis
    from bayesblina.output.report.hiding import Shown

# The files of the demo: a synthetic study, never patient data.
DEMO_MARK = "# The synthetic study of `bayesblina demo`; never patient data.\n"
DEMO_FILES = ("patients.csv", "adverse_events.csv", "study.toml")
DEMO_STUDY = """
schema = 1
title = "Synthetic study: maintenance after consolidation"

[data]
file = "patients.csv"
patient = "patient_id"
unit = "months"
transplant = "transplant_month"
covariates = {{ age_group = "categorical", prior_salvage = "categorical", \
marrow_blasts = "continuous" }}
synthetic = true

[endpoints.os]
time = "os_months"
event = "died"
recorded = "exact"

[endpoints.rfs]
time = "rfs_months"
event = "relapse_or_death"
entry = "remission_month"
recorded = "exact"
# Every death is an event of relapse-free survival too: whoever contradicts it is refused.
includes = ["os"]

[phases]
consolidation = "consolidation_month"
maintenance = "maintenance_month"

[question]
exposed = "maintenance"
eligible_from = "consolidation"
transplant = "censor"

[model]
name = "primary"

[fit]
seed = {seed}

# Survival without maintenance and with maintenance from month 8 on, in those event-free then.
[curves]
landmark = 8.0
starts = [8.0]
# For the report, the same from other months on.
landmarks = [12.0, 16.0]

[adverse_events]
file = "adverse_events.csv"
patient = "patient_id"
term = "term"
start = "month"
grade = "grade"
"""
# A version that was handed on is not taken back by a second one.
LOWERED = (
    "The folder was masked at {own}, and this shows counts from {minimum} on: if that version was "
    "handed on, both together tell what it hid."
)

MinimumCount = Annotated[
    int | None,
    typer.Option(
        "--minimum-count",
        min=1,
        help="Counts of patients or events from 1 up to below this are masked in the report, "
        "tables and figures; 1 shows all. By default what the study file or the folder says, "
        "else 5.",
    ),
]
WithReport = Annotated[
    bool, typer.Option("--report/--no-report", help="Whether to write report.html at the end.")
]


@app.command(epilog=examples("bayesblina demo", "bayesblina demo --out /tmp/demo --seed 7 --json"))
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/demo"),
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the study and of the draws.")
    ] = 1,
    report: WithReport = True,
    minimum_count: MinimumCount = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Analyse the synthetic study, end to end; leaves its data and its study file there too."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json) as manner:
        require_folder(out)
        require_own_demo(out)
        with results_in(out, manner.interrupts) as stage:
            with manner.stage("simulate"):
                write_demo(stage, seed=seed)
            analysis = _run(
                stage / "study.toml",
                stage,
                out,
                manner,
                command=typed("demo", "--out", out, "--seed", str(seed)),
                report=report,
                minimum_count=minimum_count,
            )
        code = _tell(analysis, out, manner, command="demo")
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "bayesblina run study.toml --out results",
        "bayesblina run study.toml --out results --seed 2 --minimum-count 10",
        "bayesblina run study.toml --out results --json > answer.json",
    )
)
def run(
    context: typer.Context,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    seed: Seed = None,
    report: WithReport = True,
    minimum_count: MinimumCount = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Fit a study and write hazard ratios, curves, checks, figures and a report.

    Results appear whole or not at all: what an earlier run left stays until then.
    """
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        with results_in(out, manner.interrupts) as stage:
            analysis = _run(
                study,
                stage,
                out,
                manner,
                command=typed(
                    "run", study, "--out", out, *([] if seed is None else ["--seed", str(seed)])
                ),
                seed=seed,
                report=report,
                minimum_count=minimum_count,
            )
        code = _tell(analysis, out, manner, command="run")
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "bayesblina report results",
        "bayesblina report results --out for_the_board.html --minimum-count 10",
        "bayesblina report results --sensitivity what_if",
    )
)
def report(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What bayesblina run wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="The file; by default report.html in the folder.")
    ] = None,
    minimum_count: MinimumCount = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Folder of scenarios of the same study; by default those in DIR."),
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the report of a folder of results: one HTML file that needs nothing else."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json) as manner:
        from bayesblina.output.report.folder import masking_in_words, report_again, staying

        left = report_again(
            folder,
            out=out,
            minimum_count=minimum_count,
            sensitivity=sensitivity,
            progress=manner,
        )
        fit, target = left.results.fit, folder / REPORT if out is None else out
        stays = staying(folder) if out is None else ()
        manner.say(f"Report: {target}", *masking_in_words(left, stays))
        own = int(left.whole.record.get("minimum_count", 1))
        if left.minimum < own:
            manner.warn(LOWERED.format(own=own, minimum=left.minimum))
        failures = failures_in_words(fit)
        manner.warn(*(f"{words} The report says so beside every number." for words in failures))
        code = MARKED if fit.failed else ANSWERED
        manner.give(
            {
                "command": "report",
                "exit_code": code,
                "report": target,
                "bytes": target.stat().st_size,
                "converged": fit.converged,
                **gates(left),
                "synthetic": left.results.synthetic,
                "minimum_count": left.minimum,
            }
        )
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "bayesblina validate study.toml",
        "bayesblina validate other_patients.csv --study study.toml",
    )
)
def validate(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="STUDY|DATA", help="A study file; or, with --study, a table.")
    ],
    study: Annotated[
        Path | None, typer.Option(help="The study file, when DATA is another table than its own.")
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Check a study file, its data and its question, without fitting; account for all patients."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        from bayesblina.output.request import request_of
        from bayesblina.patients.account import Account
        from bayesblina.patients.cohort import Cohort
        from bayesblina.person_time.follow_up import account_of, find_episodes, roles_of
        from bayesblina.studies.study_file import read_study

        read = read_study(path if study is None else study)
        request = request_of(read, table=None if study is None else path)
        cohort, question, model = request.cohort, request.question, request.model
        period, size = None, cohort.size
        if isinstance(cohort, Cohort):
            period, size = cohort.period, cohort.whole().size
        estimand = question.estimand(period=period)
        valid = {
            "command": "validate",
            "exit_code": ANSWERED,
            "valid": True,
            "patients": size,
            "synthetic": cohort.synthetic,
            "estimand": estimand,
            "model": model.name,
        }
        if not isinstance(cohort, Cohort):
            manner.say(f"{path} is valid.\n  patients: {cohort!r}\n\n{cohort.account()!r}")
            manner.give(valid)
            return
        # The study's events are those of its own patients.
        safety = read.adverse_events(cohort) if study is None else None
        flow = [
            line
            for episodes in find_episodes(cohort, question).values()
            for line in account_of(
                episodes, cohort.whole().patients, roles_of(episodes.phase_names, question)
            )
        ]
        account = cohort.account(cuts=request.sampling["cuts"] or ())
        account += Account(lines=tuple(flow), unit=cohort.unit)
        manner.say(
            f"{path} is valid.\n  patients: {cohort!r}",
            *(f"  {attribute}: {words}" for attribute, words in estimand.items()),
            f"  model: {model.name} ({model.title})\n\n{account!r}",
        )
        if safety is not None:
            manner.say(f"\n  adverse events: {safety!r}\n", safety.account().to_string(index=False))
        lines = [
            {name: getattr(line, name) for name in ("step", "endpoint", "phase", "what")}
            | {"patients": line.size, "events": line.events, "person_time": line.person_time}
            for line in account.lines
        ]
        events = None if safety is None else safety.account().to_dict("records")
        manner.give({**valid, "account": lines, "adverse_events": events})


@app.command(
    epilog=examples("bayesblina init patients.csv", "bayesblina init adsl.xpt --out s.toml")
)
def init(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table, one row per patient.")],
    out: Annotated[Path, typer.Option(help="The study file to write.")] = Path("study.toml"),
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Write a first study file, guessed from the columns of a table, with comments."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        from bayesblina.patients.drafting import draft_study

        if out.exists():
            raise SpecError(f"'{out}' exists: give another file with --out.")
        write_text(out, draft_study(data, relative_to=out.parent))
        manner.say(f"{out}: a draft; check every line, then: bayesblina validate {out}")
        manner.give({"command": "init", "exit_code": ANSWERED, "study": out})


def _run(
    path: Path,
    stage: Path,
    out: Path,
    manner: Manner,
    *,
    command: str,
    seed: int | None = None,
    report: bool,
    minimum_count: int | None,
) -> Analysis:
    """Analyse a study and write all results into the stage."""
    from bayesblina.studies.study_file import read_study

    with manner.stage("read"):
        study = read_study(path)
        require_elsewhere((path, *study.files()), out)
        require_own(out)
        # What is wrong in the file itself is told before tables are loaded.
        from bayesblina.output.request import request_of

        request = request_of(study, seed=seed, minimum_count=minimum_count, command=command)
    manner.say(f"{request.cohort!r}")
    with manner.stage("load libraries"):
        from bayesblina.output.analysis import answer

        # Read before anything is sampled: what is wrong with it is told now.
        events = study.adverse_events(request.cohort)
    if events is not None:
        manner.say(f"{events!r}")
    analysis = answer(request, adverse_events=events, progress=manner, bars=manner.bars)
    analysis.write_into(stage, out, report=report, progress=manner)
    return analysis


def _tell(analysis: Analysis, out: Path, manner: Manner, *, command: str) -> int:
    """Say the answer; return the exit code."""
    from bayesblina.output.report.folder import masking_in_words, staying
    from bayesblina.output.report.hiding import FEW
    from bayesblina.output.report.wording import sentence

    fit, left = analysis.fit, analysis.shown
    rows = analysis.tables["hazard_ratios"].to_dict("records")
    by_step = analysis.tables.get("hazard_ratios_by_step")
    sentences = [sentence(row, fit) for row in rows]
    manner.say(*sentences)
    if left.withheld:
        manner.say(f"{', '.join(left.withheld)}: masked. {FEW}.")
    code = MARKED if fit.failed else ANSWERED
    manner.warn(*(f"{words} The results in {out} are marked." for words in failures_in_words(fit)))
    if (out / REPORT).is_file():
        manner.say(f"Report: {out / REPORT}")
    stays = staying(out)
    results = f"Results: {out / SUMMARY} and the files beside it."
    manner.say(results, *masking_in_words(left, stays))
    manner.give(
        {
            "command": command,
            "exit_code": code,
            "out": out,
            "files": sorted(path.name for path in out.iterdir() if path.is_file()),
            "converged": fit.converged,
            "failures": fit.convergence.failures(),
            **gates(left),
            "synthetic": fit.person_time.synthetic,
            "seed": fit.provenance.seed,
            "hazard_ratios": rows,
            **({} if by_step is None else {"hazard_ratios_by_step": by_step.to_dict("records")}),
            "sentences": sentences,
            "minimum_count": left.minimum,
            "withheld": list(left.withheld),
            "stays": stays,
            "seconds": manner.seconds,
        }
    )
    return code


def failures_in_words(fit: Fit) -> list[str]:
    """Say which gates a fit failed, why, and what to do."""
    words = []
    if not fit.converged:
        words.append(
            f"NOT CONVERGED: {'; '.join(fit.convergence.failures())}. Sample longer ([fit] draws, "
            "tune) before using them."
        )
    if not fit.gate.passed:
        words.append(
            f"THE BASELINE MOVES THE HAZARD RATIO: {'; '.join(fit.gate.failures())}. Give more cut "
            "points ([fit] cuts) about the times at which patients enter the phases, or use the "
            "default ones; the answer without a baseline stands beside the other."
        )
    if fit.event_times is not None and not fit.event_times.passed:
        words.append(f"EVENT TIMES ARE THOSE OF VISITS: {'; '.join(fit.event_times.messages)}.")
    return words


def gates(left: Shown) -> dict[str, Any]:
    """Say how the gates other than convergence came out, for a machine: as it may be shown."""
    from bayesblina.output.report.hiding import about_others
    from bayesblina.output.report.wording import event_times_in_words

    fit = left.whole.fit
    exact = fit.event_times
    # Shares of events, with their number, are counts.
    words = [] if exact is None else event_times_in_words(fit, coarse=left.coarse)
    about_gate = words[: 0 if exact is None else len(exact.messages)]
    state = "not looked at" if exact is None else "passed" if exact.passed else "failed"
    return {
        "baseline": fit.gate.state,
        "baseline_gate": left.gate.to_dict("records"),
        "event_times": state,
        "event_times_found": list(about_others(about_gate, left.withheld)),
    }


def require_own_demo(out: Path) -> None:
    """Refuse to write over anybody's files."""
    study = out / "study.toml"
    ours = study.is_file() and study.read_text("utf-8", errors="replace").startswith(DEMO_MARK)
    for name in DEMO_FILES:
        if (out / name).exists() and not ours:
            raise SpecError(
                f"'{out / name}' exists and is not the demo's: give another folder with --out."
            )


def write_demo(folder: Path, *, seed: int) -> None:
    """Write the synthetic study: its patients, adverse events and study file."""
    write_text(folder / "study.toml", DEMO_MARK + DEMO_STUDY.format(seed=seed))
    write_text(folder / "patients.csv", tables.to_csv(simulate.blinatumomab_table(seed)))
    events = simulate.adverse_events(simulate.blinatumomab_cohort(seed).cohort, seed=seed)
    write_text(folder / "adverse_events.csv", tables.to_csv(events))
