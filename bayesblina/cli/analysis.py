"""Commands from a study file to its answer: demo, run, report, validate, init."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesblina.cli.application import app
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
from bayesblina.cli.output import require_file_names
from bayesblina.core.arguments import LARGEST_SEED
from bayesblina.core.errors import SpecError
from bayesblina.output.staging import require_folder, staged

if TYPE_CHECKING:
    from bayesblina.inference.fitting import Fit
    from bayesblina.output.report import Analysis
    from bayesblina.output.report.hiding import Shown
    from bayesblina.patients.cohort import Cohort
    from bayesblina.patients.scan import CohortScan
    from bayesblina.person_time.onsets import AdverseEvents
    from bayesblina.studies.study_file import Study

RECORD = "results.json"
RESULTS = frozenset(
    {
        "at_risk.csv",
        "bias_ladder.csv",
        "classical.csv",
        "curve_shift.csv",
        "diagnostics.csv",
        "fit.nc",
        "hazard_ratios.csv",
        "leave_one_out.csv",
        "patient_flow.csv",
        "predictive.csv",
        "predictive_curves.csv",
        "prior_predictive.csv",
        "prior_sensitivity.csv",
        "report.html",
        "restricted_means.csv",
        RECORD,
        "borrowing.csv",
        "safety.csv",
        "simon_makuch.csv",
        "summary.md",
        "survival.csv",
        "survival_by_landmark.csv",
        "unmasked.json",
    }
)
# A version that was handed on is not taken back by a second one.
LOWERED = (
    "The folder was masked at {own}, and this shows counts from {minimum} on: if that version was "
    "handed on, both together tell what it hid."
)
DEMO_MARK = "# The synthetic study of `bayesblina demo`; never patient data.\n"
DEMO_FILES = ("patients.csv", "adverse_events.csv", "study.toml")

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
        _require_own_demo(out)
        with _results_in(out, manner) as stage:
            with manner.stage("simulate"):
                write_demo(stage, seed=seed)
            command = typed("demo", "--out", out, "--seed", str(seed))
            result = _run(
                stage / "study.toml",
                stage,
                out,
                manner,
                command=command,
                report=report,
                minimum_count=minimum_count,
            )
        code = _tell(result, out, manner, command="demo")
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
        command = typed("run", study, "--out", out, *own)
        with _results_in(out, manner, study=study) as stage:
            result = _run(
                study,
                stage,
                out,
                manner,
                command=command,
                seed=seed,
                report=report,
                minimum_count=minimum_count,
            )
        code = _tell(result, out, manner, command="run")
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
        from bayesblina.core.files import write_text
        from bayesblina.output.report.folder import least_count, staying, write_again
        from bayesblina.output.report.hiding import without_few
        from bayesblina.output.report.page import REPORT, render_shown
        from bayesblina.output.report.results import read_results
        from bayesblina.output.report.summary import masking_in_words

        with manner.stage("read"):
            results = read_results(folder, sensitivity=sensitivity)
        with manner.stage("report"):
            minimum = least_count(results, minimum_count)
            left = without_few(results, minimum=minimum)
            target = folder / REPORT if out is None else out
            page = None if out is None else render_shown(left)
            if page is None:
                write_again(folder, left, manner.interrupts)
            else:
                with manner.interrupts.held():
                    write_text(target, page)
        manner.say(f"Report: {target}")
        for words in masking_in_words(left, staying(folder) if out is None else ()):
            manner.say(words)
        own = int(results.record.get("minimum_count", 1))
        if minimum < own:
            manner.warn(LOWERED.format(own=own, minimum=minimum))
        for words in failures_in_words(results.fit):
            manner.warn(f"{words} The report says so beside every number.")
        code = MARKED if results.fit.failed else ANSWERED
        manner.give(
            {
                "command": "report",
                "exit_code": code,
                "report": target,
                "bytes": target.stat().st_size,
                "converged": results.fit.converged,
                **gates(left),
                "synthetic": results.synthetic,
                "minimum_count": minimum,
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
        from bayesblina.patients.account import Account
        from bayesblina.patients.cohort import Cohort
        from bayesblina.person_time.follow_up import account_of, find_episodes, roles_of
        from bayesblina.studies.study_file import read_study

        read = read_study(path if study is None else study)
        question, model = read.question(), read.model()
        cohort = read.patients(None if study is None else path)
        _require_curves(read, cohort)
        read.require_adverse_events()
        # The study's events are those of its own patients.
        own = study is None and isinstance(cohort, Cohort)
        safety = read.adverse_events(cohort) if own else None
        if not isinstance(cohort, Cohort):
            manner.say(f"{path} is valid.\n  patients: {cohort!r}\n")
            manner.say(repr(cohort.account()))
            manner.give(
                {
                    "command": "validate",
                    "exit_code": ANSWERED,
                    "valid": True,
                    "patients": cohort.size,
                    "synthetic": cohort.synthetic,
                    "estimand": question.estimand(),
                    "model": model.name,
                }
            )
            return
        episodes = find_episodes(cohort, question)
        before = cohort.account(cuts=read.content.fit.cuts or ())
        flow = [
            line
            for found in episodes.values()
            for line in account_of(found, cohort.patients, roles_of(found.phases, question))
        ]
        account = before + Account(lines=tuple(flow), unit=cohort.unit)
        manner.say(f"{path} is valid.")
        manner.say(f"  patients: {cohort!r}")
        for attribute, words in question.estimand().items():
            manner.say(f"  {attribute}: {words}")
        manner.say(f"  model: {model.name} ({model.title})\n")
        manner.say(repr(account))
        if safety is not None:
            manner.say(f"\n  adverse events: {safety!r}\n")
            manner.say(safety.account().to_string(index=False))
        manner.give(
            {
                "command": "validate",
                "exit_code": ANSWERED,
                "valid": True,
                "patients": cohort.size,
                "synthetic": cohort.synthetic,
                "estimand": question.estimand(),
                "model": model.name,
                "account": [
                    {
                        "step": line.step,
                        "endpoint": line.endpoint,
                        "phase": line.phase,
                        "what": line.what,
                        "patients": line.size,
                        "events": line.events,
                        "person_time": line.person_time,
                    }
                    for line in account.lines
                ],
                "adverse_events": None if safety is None else safety.account().to_dict("records"),
            }
        )


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
        from bayesblina.core.files import write_text
        from bayesblina.patients.drafting import draft_study

        if out.exists():
            raise SpecError(f"'{out}' exists: give another file with --out.")
        write_text(out, draft_study(data, relative_to=out.parent))
        manner.say(f"{out}: a draft; check every line, then: bayesblina validate {out}")
        manner.give({"command": "init", "exit_code": ANSWERED, "study": out})


def _results_in(out: Path, manner: Manner, *, study: Path | None = None) -> Any:
    """Stage a folder of results; figures of an earlier run are removed with its tables."""
    old = set(RESULTS)
    if out.is_dir():
        figures = (*out.glob("survival_*.png"), *out.glob("survival_*.svg"))
        old |= {path.name for path in (*figures, *out.glob("hazard_ratio.*"))}
    if study is not None and study.resolve().parent == out.resolve() and study.name in old:
        raise SpecError(f"'{study}' would be overwritten by a result: give another --out.")
    return staged(out, manner.interrupts, old=old, last=RECORD)


def _require_own_demo(out: Path) -> None:
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
    from bayesblina.core.csv_files import to_csv
    from bayesblina.core.files import write_text
    from bayesblina.studies.simulate import adverse_events, blinatumomab_cohort, blinatumomab_table

    write_text(folder / "study.toml", DEMO_MARK + DEMO_STUDY.format(seed=seed))
    write_text(folder / "patients.csv", to_csv(blinatumomab_table(seed)))
    events = adverse_events(blinatumomab_cohort(seed).cohort, seed=seed)
    write_text(folder / "adverse_events.csv", to_csv(events))


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
) -> tuple[Fit, Shown]:
    """Fit a study and write all results into the stage."""
    from bayesblina.studies.study_file import read_study

    started = datetime.now(UTC).isoformat(timespec="seconds")
    with manner.stage("read"):
        study = read_study(path)
        question, model, regimes = study.question(), study.model(), study.regimes()
        _keep_inputs(study, out)
        cohort = study.patients()
        _require_curves(study, cohort)
        study.require_adverse_events()
    manner.say(f"{cohort!r}")
    with manner.stage("load libraries"):
        from bayesblina.checks.refit import with_refit
        from bayesblina.core.files import write_text
        from bayesblina.inference.fitting import fit
        from bayesblina.inference.storage import save
        from bayesblina.output.report import Curves, analyse, make_record
        from bayesblina.output.report.folder import write_figures, write_shown
        from bayesblina.output.report.hiding import without_few
        from bayesblina.output.report.page import REPORT, render_shown
        from bayesblina.output.report.results import Results, read_results
        from bayesblina.patients.cohort import Cohort

        # Read before anything is sampled: what is wrong with it is told now.
        safety = study.adverse_events(cohort)
        if safety is not None:
            manner.say(f"{safety!r}")
    asked, curves = study.content.fit, study.content.curves
    with manner.stage("fit", bar=True):
        fitted = fit(
            cohort,
            question,
            model=model,
            seed=asked.seed if seed is None else seed,
            cuts=asked.cuts,
            phase_cuts=asked.phase_cuts,
            landmarks=[one for one in (curves.landmark, *(curves.landmarks or ())) if one],
            draws=asked.draws,
            tune=asked.tune,
            chains=asked.chains,
            cores=asked.cores,
            progress=manner.bars,
        )
    if isinstance(cohort, Cohort) and fitted.companion.draws is None:
        with manner.stage("baseline again"):
            fitted = with_refit(fitted, cohort)
    with manner.stage("save"):
        save(fitted, stage / "fit.nc")
    found = _analyse(
        analyse,
        fitted,
        cohort,
        manner,
        Curves(
            regimes=regimes,
            landmark=curves.landmark,
            times=curves.times,
            landmarks=None if curves.landmarks is None else tuple(curves.landmarks),
            thresholds=tuple(curves.thresholds),
        ),
        safety,
    )
    title = study.content.title or study.path.stem
    minimum = least_shown(minimum_count, study.content.report.minimum_count)
    with manner.stage("tables"):
        told = {"title": title, "source": cohort.source, "notes": found.notes}
        results = Results(fit=fitted, tables=found.tables, record=told)
        left = without_few(results, minimum=minimum)
        write_shown(stage, left)
    with manner.stage("figures"):
        write_figures(stage, left, found.curves)
    with manner.stage("record"):
        record = make_record(
            stage,
            title=title,
            command=command,
            source=cohort.source,
            cohort=cohort,
            seconds=manner.seconds,
            started=started,
            notes=left.results.record["notes"],
            starts=study.content.curves.starts,
            minimum_count=minimum,
            safety=safety,
        )
        write_text(stage / RECORD, record)
    if report:
        with manner.stage("report"):
            # Read back: what is in the folder is what the report tells.
            whole = read_results(stage, beside=out)
            write_text(stage / REPORT, render_shown(without_few(whole, minimum=minimum)))
    return fitted, left


def least_shown(asked: int | None, of_study: int | None) -> int:
    """Settle the smallest count that is shown: the command line's, else the study file's."""
    from bayesblina.core.masking import MINIMUM_COUNT

    return next(count for count in (asked, of_study, MINIMUM_COUNT) if count is not None)


def _analyse(
    analyse: Any,
    fitted: Fit,
    cohort: Cohort | CohortScan,
    manner: Manner,
    curves: Any,
    safety: AdverseEvents | None,
) -> Analysis:
    """Compute all tables, telling each stage as it begins."""
    from contextlib import ExitStack

    with ExitStack() as running:

        def begin(name: str) -> None:
            running.pop_all().close()
            running.enter_context(manner.stage(name))

        found: Analysis = analyse(fitted, cohort, curves=curves, safety=safety, stage=begin)
    return found


def _keep_inputs(study: Study, out: Path) -> None:
    """Refuse to write results over what they are made from."""
    for path in (study.path, *study.files()):
        if path.resolve().parent == out.resolve() and path.name in RESULTS:
            raise SpecError(f"'{path}' would be overwritten by a result: give another --out.")


def _tell(result: tuple[Fit, Shown], out: Path, manner: Manner, *, command: str) -> int:
    """Say the answer; return the exit code."""
    from bayesblina.output.report.folder import staying
    from bayesblina.output.report.hiding import FEW
    from bayesblina.output.report.summary import masking_in_words
    from bayesblina.output.report.wording import sentence

    fitted, left = result
    rows = left.results.tables["hazard_ratios"].to_dict("records")
    sentences = [sentence({str(key): row[key] for key in row}, fitted) for row in rows]
    for words in sentences:
        manner.say(words)
    if left.withheld:
        manner.say(f"{', '.join(left.withheld)}: masked. {FEW}.")
    code = MARKED if fitted.failed else ANSWERED
    for words in failures_in_words(fitted):
        manner.warn(f"{words} The results in {out} are marked.")
    page = out / "report.html"
    manner.say(
        f"Report: {page}\nResults: {out / 'summary.md'} and the files beside it."
        if page.is_file()
        else f"Results: {out / 'summary.md'} and the files beside it."
    )
    for words in masking_in_words(left, staying(out)):
        manner.say(words)
    manner.give(
        {
            "command": command,
            "exit_code": code,
            "out": out,
            "files": sorted(path.name for path in out.iterdir() if path.is_file()),
            "converged": fitted.converged,
            "failures": fitted.convergence.failures(),
            **gates(left),
            "synthetic": fitted.person_time.synthetic,
            "seed": fitted.provenance.seed,
            "hazard_ratios": rows,
            "sentences": sentences,
            "minimum_count": left.minimum,
            "withheld": list(left.withheld),
            "stays": staying(out),
            "seconds": manner.seconds,
        }
    )
    return code


def _require_curves(study: Study, cohort: Cohort | CohortScan) -> None:
    """Refuse what could only fail after sampling: cuts, regimes, landmarks, times, file names."""
    from bayesblina.core.intervals import validate_cuts
    from bayesblina.estimands.regimes import From, Never, observation, require_curves
    from bayesblina.hazards.definition import require_roles
    from bayesblina.hazards.parts import IllnessDeath
    from bayesblina.patients.cohort import Cohort
    from bayesblina.person_time.follow_up import find_episodes, require_comparison
    from bayesblina.person_time.question import bind
    from bayesblina.person_time.transitions import find_transitions

    question, asked, cuts = study.question(), study.content.curves, study.content.fit.cuts
    if cuts is not None:
        validate_cuts(cuts)
    if not isinstance(cohort, Cohort):
        # Who is at risk is known when the engine has added up.
        levels = {one.name: one.levels for one in cohort.covariates if one.kind == "categorical"}
        require_roles(study.model(), levels)
        require_file_names(bind(question, cohort))
        return
    episodes = find_episodes(cohort, question)
    require_comparison(episodes, question)
    observed = observation(episodes, unit=cohort.unit)
    require_curves(
        observed,
        question,
        regimes=tuple(study.regimes()),
        landmark=asked.landmark,
        times=asked.times,
    )
    for landmark in asked.landmarks or ():
        question.require_landmark(landmark)
        require_curves(observed, question, regimes=(Never(), From(landmark)), landmark=landmark)
    definition = study.model()
    levels = {
        name: one.levels for name, one in cohort.covariates.items() if one.kind == "categorical"
    }
    require_roles(definition, levels)
    if isinstance(definition.endpoints, IllnessDeath):
        joint = definition.endpoints
        find_transitions(cohort, question, death=joint.death, relapse_free=joint.relapse_free)
    require_file_names(list(episodes))


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
