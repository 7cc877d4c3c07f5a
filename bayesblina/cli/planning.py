"""Commands about what could be otherwise: sensitivity and design."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesblina.cli.application import app
from bayesblina.cli.gates import marked_scenarios
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
)
from bayesblina.core.arguments import LARGEST_SEED
from bayesblina.core.errors import SpecError
from bayesblina.output.figure_files import file_name, require_file_names, write_figure
from bayesblina.output.staging import require_folder, staged

if TYPE_CHECKING:
    import pandas as pd

    from bayesblina.studies.planning.characteristics import SampleSize
    from bayesblina.studies.study_file import Study
    from bayesblina.studies.what_if import Sensitivity

Workers = Annotated[int | None, typer.Option(min=1, help="Local processes; by default one a core.")]


@app.command(
    epilog=examples(
        "bayesblina sensitivity study.toml --out results",
        "bayesblina sensitivity study.toml --out results --resume",
        "bayesblina report results",
    )
)
def sensitivity(
    context: typer.Context,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what an earlier run left in the folder.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; dask: an existing cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The cluster's scheduler.")
    ] = None,
    workers: Workers = None,
    keep_draws: Annotated[
        bool, typer.Option("--keep-draws", help="Keep draws of the log hazard ratios, too.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Seed of all scenarios, in place of the study's own."
        ),
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Run the scenarios of a study's section [sensitivity]; a killed run can be resumed."""
    left = f"finished scenarios are kept in {out}; go on with --resume"
    with reported(
        context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids, left=left
    ) as manner:
        from bayesblina.studies.study_file import read_study

        with manner.stage("read"):
            read = read_study(study)
        if engine not in ("local", "dask"):
            raise SpecError(f"--engine must be local or dask, got '{engine}'.")
        require_folder(out)
        code = _sensitivity(
            read,
            out,
            manner,
            {
                "seed": read.content.fit.seed if seed is None else seed,
                "resume": resume,
                "engine": engine,
                "scheduler": scheduler,
                "workers": workers,
                "keep_draws": keep_draws,
            },
        )
    raise typer.Exit(code)


def _sensitivity(study: Study, out: Path, manner: Manner, how: dict[str, Any]) -> int:
    """Run a study's scenarios and write table and figures; return the exit code."""
    with manner.stage("lay out"):
        cohort = study.cohort()
        what_if = study.scenarios(cohort)
        require_file_names(list(cohort.endpoints))
    manner.say(f"{cohort!r}\n{len(what_if)} scenarios")

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bayesblina.studies.what_if import sensitivity as run_all
    from bayesblina.studies.what_if.layout import BASE_LABEL

    asked, asked_for = study.content.fit, study.content.sensitivity
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeRemainingColumn(),
    )
    with (
        manner.stage("scenarios", bar=True),
        Progress(*columns, transient=True, disable=not manner.bars) as bar,
    ):
        task = bar.add_task("scenarios", total=len(what_if))
        scenarios = run_all(
            cohort,
            what_if,
            out=out,
            draws=asked.draws,
            tune=asked.tune,
            chains=asked.chains,
            direction=None if asked_for is None else asked_for.direction,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **how,
        )
    with manner.stage("figures"):
        conclusions = _write_sensitivity(scenarios, out, manner)
    for conclusion in conclusions:
        manner.say(conclusion)
    complete = bool((scenarios.table["status"] == "converged").all())
    silent = scenarios.table[scenarios.table["status"] != "converged"].drop_duplicates("key")
    for row in silent.to_dict("records"):
        manner.warn(f"{row['scenario']}: {str(row['status']).upper()}: {row['reason']}")
    manner.say(f"Results: {out / 'scenarios.csv'} and the files beside it.")
    if (out / "results.json").is_file():
        manner.say(f"To have them in the report: bayesblina report {out}")
    for words in marked_scenarios(scenarios.table):
        manner.warn(words)
    # Scenarios that are marked stay; the base case is the answer.
    base = scenarios.table[scenarios.table["scenario"] == BASE_LABEL]
    code = ANSWERED if complete and not marked_scenarios(base) else MARKED
    manner.give(
        {
            "command": "sensitivity",
            "exit_code": code,
            "out": out,
            "scenarios": len(what_if),
            "synthetic": cohort.synthetic,
            "conclusions": conclusions,
            "table": scenarios.table.to_dict("records"),
            "seconds": manner.seconds,
        }
    )
    return code


def _write_sensitivity(scenarios: Sensitivity, out: Path, manner: Manner) -> list[str]:
    """Write tables and figures, all or none; return what holds, endpoint by endpoint."""
    from bayesblina.core.csv_files import to_csv
    from bayesblina.core.files import write_text
    from bayesblina.output import plots

    conclusions = []
    with staged(out, manner.interrupts) as stage:
        write_text(stage / "scenarios.csv", to_csv(scenarios.table))
        for name in map(str, scenarios.table["endpoint"].dropna().unique()):
            rows = scenarios.table[scenarios.table["endpoint"] == name]
            if not (rows["status"] == "converged").any():
                continue
            figure = plots.specification_curve(scenarios, name)
            write_figure(figure, stage, f"specification_{file_name(name)}")
            effects = scenarios.effects(name)
            write_text(stage / f"effects_{file_name(name)}.csv", to_csv(effects))
            if len(effects):
                write_figure(plots.tornado(scenarios, name), stage, f"tornado_{file_name(name)}")
            conclusions.append(scenarios.conclusion(name))
    return conclusions


@app.command(
    epilog=examples(
        "bayesblina design design.toml --out planned",
        "bayesblina design design.toml --out planned --seed 3 --resume",
    )
)
def design(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="DESIGN", help="A design file (TOML).")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; made if missing.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the grid that an earlier run left.")
    ] = False,
    workers: Workers = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Seed of the simulations, in place of the file's own."
        ),
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Simulate a planned study: bias, coverage, power or assurance, sample size, grids."""
    left = f"finished designs of a grid are kept in {out}; go on with --resume"
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, left=left) as manner:
        from bayesblina.core.csv_files import to_csv
        from bayesblina.core.files import write_text
        from bayesblina.studies.planning.characteristics import (
            operating_characteristics,
            sample_size,
        )
        from bayesblina.studies.planning.designs import StudyDesign
        from bayesblina.studies.study_file import read_design
        from bayesblina.studies.what_if import design_grid

        with manner.stage("read"):
            read = read_design(path)
            planned, asked = StudyDesign(**dict(read.design)), read.analysis
        require_folder(out)
        same: dict[str, Any] = {
            "seed": asked.seed if seed is None else seed,
            "replications": asked.replications,
            "success": asked.success,
            "prior": read.prior,
            "effect": read.effect,
        }
        tables = {}
        with manner.stage("simulate"):
            tables["operating_characteristics"] = operating_characteristics(
                planned, analysis=asked.method, model=asked.model, **same
            )
        row = tables["operating_characteristics"].iloc[0]
        manner.say(_in_words(row, planned.patients, assurance=read.effect is not None))
        sample = None
        if read.sample_size is not None:
            with manner.stage("sample size"):
                size = sample_size(planned, power=read.sample_size.power, model=asked.model, **same)
            sample = _sample_size(size, tables, manner)
        if read.grid:
            with manner.stage("grid"):
                tables["grid"] = design_grid(
                    planned,
                    read.grid,
                    out=out / "grid",
                    resume=resume,
                    workers=workers,
                    analysis=asked.method,
                    model=asked.model,
                    **same,
                )
        with staged(out, manner.interrupts) as stage:
            for name, table in tables.items():
                write_text(stage / f"{name}.csv", to_csv(table))
        manner.say(f"Results: the tables in {out}.")
        manner.give(
            {
                "command": "design",
                "exit_code": ANSWERED,
                "out": out,
                "seconds": manner.seconds,
                **{name: table.to_dict("records") for name, table in tables.items()},
                "sample_size": sample,
            }
        )
    raise typer.Exit(ANSWERED)


def _sample_size(
    size: SampleSize, tables: dict[str, pd.DataFrame], manner: Manner
) -> dict[str, float]:
    """Say a sample size, and put it and what was tried among the tables."""
    import pandas as pd

    sample = {
        "power": size.power,
        "patients": size.patients,
        "lower": size.lower,
        "upper": size.upper,
    }
    tables["sample_size"] = pd.DataFrame([sample])
    tables["sizes_tried"] = size.table
    manner.say(
        f"{size.power:.0%} is reached with {size.patients} patients (95 % Monte-Carlo range "
        f"{size.lower} to {size.upper})."
    )
    return sample


def _in_words(row: pd.Series, patients: int, *, assurance: bool) -> str:
    """Say what a design's operating characteristics are."""
    words = (
        f"{patients} patients, {row['events']:.0f} events, {row['exposed']:.0f} exposed on "
        f"average.\n{'Assurance' if assurance else 'Probability of success'}: "
        f"{row['success']:.1%} (Monte-Carlo error {row['success_mcse']:.1%}); bias of the log "
        f"hazard ratio {row['bias']:+.3f}, coverage {row['coverage']:.1%}, in "
        f"{row['replications']:.0f} simulated cohorts."
    )
    missing = int(row["replications"] - row["analysed"])
    if missing:
        words += (
            f"\n{missing} of them had no event, or nobody in the phase or out of it: no success, "
            "and left out of bias and coverage."
        )
    if row["converged"] < 1:
        words += f"\n{row['converged']:.1%} of the fits converged; all were counted."
    return words
