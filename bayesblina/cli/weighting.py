"""The command about confounding by indication."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesblina.cli.application import app
from bayesblina.cli.manner import (
    ANSWERED,
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
from bayesblina.output.result_files import (
    file_name,
    require_file_names,
    require_folder,
    staged,
    write_figure,
)

if TYPE_CHECKING:
    from bayesblina.studies.weighting import Weighted, WeightedEffect


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
        from bayesblina.studies.weighting import weighted_effect

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
                name: weighted_effect(
                    one,
                    seed=chosen,
                    draws=section.draws,
                    times=section.times,
                    horizon=section.horizon,
                )
                for name, one in weighted.items()
            }
        with manner.stage("tables and figures"), staged(out, manner.interrupts) as stage:
            for name, effect in effects.items():
                _write(stage, file_name(name), weighted[name], effect)
        for name, effect in effects.items():
            _say(name, weighted[name], effect, manner)
        manner.say(f"Results: the tables and figures in {out}.")
        manner.give(
            {
                "command": "weigh",
                "exit_code": ANSWERED,
                "out": out,
                "synthetic": cohort.synthetic,
                "seed": chosen,
                "estimand": {name: dict(effect.estimand) for name, effect in effects.items()},
                "effects": {name: one.table.to_dict("records") for name, one in effects.items()},
                "weights": {name: one.summary.to_dict("records") for name, one in weighted.items()},
                "seconds": manner.seconds,
            }
        )
    raise typer.Exit(ANSWERED)


def _write(stage: Path, name: str, weighted: Weighted, effect: WeightedEffect) -> None:
    """Write an endpoint's tables and figures."""
    from bayesblina.core.csv_files import to_csv
    from bayesblina.core.files import write_text
    from bayesblina.output import plots

    parts: dict[str, Any] = {
        "weighted_effect": effect.table,
        "balance": weighted.balance,
        "weights": weighted.summary,
    }
    for part, table in parts.items():
        write_text(stage / f"{part}_{name}.csv", to_csv(table))
    write_figure(plots.balance(weighted.balance), stage, f"balance_{name}")
    if effect.survival is not None:
        write_figure(plots.survival(effect.survival), stage, f"arms_{name}")


def _say(name: str, weighted: Weighted, effect: WeightedEffect, manner: Manner) -> None:
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
