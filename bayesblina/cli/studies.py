"""Commands about what could be otherwise: sensitivity, design, weigh."""

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
    ShowIds,
    StudyPath,
    app,
    examples,
    reported,
)
from bayesblina.core import tables
from bayesblina.core.errors import LARGEST_SEED, SpecError
from bayesblina.core.files import write_text
from bayesblina.output import plots
from bayesblina.output.result_files import (
    file_name,
    require_file_names,
    require_folder,
    staged,
    write_figure,
)
from bayesblina.studies import planning, weighting

if TYPE_CHECKING:
    import pandas as pd

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

    asked, varied = study.content.fit, study.content.sensitivity
    with (
        manner.stage("scenarios", bar=True),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed} of {task.total}"),
            TimeRemainingColumn(),
            transient=True,
            disable=not manner.bars,
        ) as bar,
    ):
        task = bar.add_task("scenarios", total=len(what_if))
        scenarios = run_all(
            cohort,
            what_if,
            out=out,
            draws=asked.draws,
            tune=asked.tune,
            chains=asked.chains,
            direction=None if varied is None else varied.direction,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **how,
        )
    with manner.stage("figures"):
        conclusions = _write_sensitivity(scenarios, out, manner)
    manner.say(*conclusions)
    complete = bool((scenarios.table["status"] == "converged").all())
    silent = scenarios.table[scenarios.table["status"] != "converged"].drop_duplicates("key")
    manner.warn(
        *(
            f"{row['scenario']}: {str(row['status']).upper()}: {row['reason']}"
            for row in silent.to_dict("records")
        )
    )
    manner.say(f"Results: {out / 'scenarios.csv'} and the files beside it.")
    if (out / "results.json").is_file():
        manner.say(f"To have them in the report: bayesblina report {out}")
    manner.warn(*marked_scenarios(scenarios.table))
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
    conclusions = []
    with staged(out, manner.interrupts) as stage:
        write_text(stage / "scenarios.csv", tables.to_csv(scenarios.table))
        for name in map(str, scenarios.table["endpoint"].dropna().unique()):
            rows = scenarios.table[scenarios.table["endpoint"] == name]
            if not (rows["status"] == "converged").any():
                continue
            file, effects = file_name(name), scenarios.effects(name)
            write_figure(plots.specification_curve(scenarios, name), stage, f"specification_{file}")
            write_text(stage / f"effects_{file}.csv", tables.to_csv(effects))
            if len(effects):
                write_figure(plots.tornado(scenarios, name), stage, f"tornado_{file}")
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
        import pandas as pd

        from bayesblina.studies.study_file import read_design
        from bayesblina.studies.what_if import design_grid

        with manner.stage("read"):
            read = read_design(path)
            planned, asked = planning.StudyDesign(**read.design.arguments()), read.analysis
        require_folder(out)
        same: dict[str, Any] = {
            "seed": asked.seed if seed is None else seed,
            "replications": asked.replications,
            "success": asked.success,
            "prior": read.prior,
            "effect": read.effect,
        }
        with manner.stage("simulate"):
            characteristics = planning.operating_characteristics(
                planned, analysis=asked.method, model=asked.model, **same
            )
        row, assurance = characteristics.iloc[0], read.effect is not None
        manner.say(_in_words(row, planned.patients, assurance=assurance))
        results, sample = {"operating_characteristics": characteristics}, None
        if read.sample_size is not None:
            with manner.stage("sample size"):
                size = planning.sample_size(
                    planned, power=read.sample_size.power, model=asked.model, **same
                )
            sample = {name: getattr(size, name) for name in ("power", "patients", "lower", "upper")}
            results |= {"sample_size": pd.DataFrame([sample]), "sizes_tried": size.table}
            manner.say(
                f"{size.power:.0%} is reached with {size.patients} patients (95 % Monte-Carlo "
                f"range {size.lower} to {size.upper})."
            )
        if read.grid:
            with manner.stage("grid"):
                results["grid"] = design_grid(
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
            for name, table in results.items():
                write_text(stage / f"{name}.csv", tables.to_csv(table))
        manner.say(f"Results: the tables in {out}.")
        manner.give(
            {
                "command": "design",
                "exit_code": ANSWERED,
                "out": out,
                "seconds": manner.seconds,
                **{name: table.to_dict("records") for name, table in results.items()},
                "sample_size": sample,
            }
        )


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


@app.command(epilog=examples("bayesblina weigh study.toml --out weighted"))
def weigh(
    context: typer.Context,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Seed of the bootstrap, in place of the study's own."
        ),
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Emulate a trial, or weight by who starts, as a study's section [weighting] says."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        from bayesblina.studies.study_file import read_study

        with manner.stage("read"):
            read = read_study(study)
            require_folder(out)
            cohort = read.cohort()
        with manner.stage("weights"):
            weighted = read.weighted(cohort)
            require_file_names(list(weighted))
        section = read.content.weighting
        assert section is not None
        chosen = read.content.fit.seed if seed is None else seed
        manner.say(f"{cohort!r}")
        with manner.stage("bootstrap"):
            effects = {
                name: weighting.weighted_effect(
                    weights,
                    seed=chosen,
                    draws=section.draws,
                    times=section.times,
                    horizon=section.horizon,
                )
                for name, weights in weighted.items()
            }
        with manner.stage("tables and figures"), staged(out, manner.interrupts) as stage:
            for name, effect in effects.items():
                _write_weighted(stage, file_name(name), weighted[name], effect)
        for name, effect in effects.items():
            _say_weighted(name, weighted[name], effect, manner)
        manner.say(f"Results: the tables and figures in {out}.")
        manner.give(
            {
                "command": "weigh",
                "exit_code": ANSWERED,
                "out": out,
                "synthetic": cohort.synthetic,
                "seed": chosen,
                "estimand": {name: dict(effect.estimand) for name, effect in effects.items()},
                "effects": {name: e.table.to_dict("records") for name, e in effects.items()},
                "weights": {name: w.summary.to_dict("records") for name, w in weighted.items()},
                "seconds": manner.seconds,
            }
        )


def _write_weighted(
    stage: Path, name: str, weighted: weighting.Weighted, effect: weighting.WeightedEffect
) -> None:
    """Write an endpoint's tables and figures."""
    for part, table in (
        ("weighted_effect", effect.table),
        ("balance", weighted.balance),
        ("weights", weighted.summary),
    ):
        write_text(stage / f"{part}_{name}.csv", tables.to_csv(table))
    write_figure(plots.balance(weighted.balance), stage, f"balance_{name}")
    if effect.survival is not None:
        write_figure(plots.survival(effect.survival), stage, f"arms_{name}")


def _say_weighted(
    name: str, weighted: weighting.Weighted, effect: weighting.WeightedEffect, manner: Manner
) -> None:
    """Say what was estimated, curves first, and what became of the weights."""
    table, unit = effect.table, weighted.cohort.unit
    manner.say(f"{name}: {effect.estimand['compared']}.")
    if "rmst_difference" in set(table["quantity"]):
        row = table.set_index("quantity").loc["rmst_difference"]
        manner.say(
            f"  Difference of the mean time event-free: {row['estimate']:.2f} {unit} "
            f"({row['lower']:.2f} to {row['upper']:.2f}), up to {row['time']:g}"
        )
    row = table.set_index("quantity").loc["hazard_ratio"]
    manner.say(
        f"  Hazard ratio: {row['estimate']:.2f} ({row['lower']:.2f} to {row['upper']:.2f}), "
        f"{effect.estimand['hazard ratio']}"
    )
    sums = weighted.summary.iloc[0]
    manner.say(
        f"  {sums['starts']:.0f} starts; weights from {sums['smallest']:.2f} to "
        f"{sums['largest']:.2f}, {sums['effective_share']:.0%} of the information left. This "
        "corrects for the confounders in the model of starting only."
    )


def marked_scenarios(table: pd.DataFrame) -> list[str]:
    """Name the scenarios whose numbers are marked, and why."""
    words = {
        "baseline": "THE BASELINE MOVES THE HAZARD RATIO",
        "event_times": "EVENT TIMES ARE THOSE OF VISITS",
    }
    return [
        f"{row['scenario']}, {row['endpoint']}: {said}"
        for row in table.to_dict("records")
        for name, said in words.items()
        if row[name] == "failed"
    ]
