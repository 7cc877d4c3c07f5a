"""Commands from a study file to its answer: demo, run, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayesblina.cli.application import app
from bayesblina.cli.demo_study import require_own_demo, write_demo
from bayesblina.cli.gates import failures_in_words, gates
from bayesblina.cli.manner import (
    ANSWERED,
    MARKED,
    Debug,
    Json,
    Manner,
    Quiet,
    ShowIds,
    StudyPath,
    examples,
    reported,
    typed,
)
from bayesblina.core.arguments import LARGEST_SEED
from bayesblina.output.result_files import (
    REPORT,
    SUMMARY,
    require_elsewhere,
    require_folder,
    require_own,
    results_in,
)

if TYPE_CHECKING:
    from bayesblina.output.analysis import Analysis

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
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draws, in place of the study's own."),
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
        own = [] if seed is None else ["--seed", str(seed)]
        with results_in(out, manner.interrupts) as stage:
            analysis = _run(
                study,
                stage,
                out,
                manner,
                command=typed("run", study, "--out", out, *own),
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
        manner.say(f"Report: {target}")
        for words in masking_in_words(left, staying(folder) if out is None else ()):
            manner.say(words)
        own = int(left.whole.record.get("minimum_count", 1))
        if left.minimum < own:
            manner.warn(LOWERED.format(own=own, minimum=left.minimum))
        for words in failures_in_words(fit):
            manner.warn(f"{words} The report says so beside every number.")
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
    sentences = [sentence(row, fit) for row in rows]
    for words in sentences:
        manner.say(words)
    if left.withheld:
        manner.say(f"{', '.join(left.withheld)}: masked. {FEW}.")
    code = MARKED if fit.failed else ANSWERED
    for words in failures_in_words(fit):
        manner.warn(f"{words} The results in {out} are marked.")
    results = f"Results: {out / SUMMARY} and the files beside it."
    page = out / REPORT
    manner.say(f"Report: {page}\n{results}" if page.is_file() else results)
    stays = staying(out)
    for words in masking_in_words(left, stays):
        manner.say(words)
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
            "sentences": sentences,
            "minimum_count": left.minimum,
            "withheld": list(left.withheld),
            "stays": stays,
            "seconds": manner.seconds,
        }
    )
    return code
