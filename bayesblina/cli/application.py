"""The program itself: what all commands share."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from bayesblina.cli.manner import (
    ANSWERED,
    INTERRUPTED,
    Debug,
    Json,
    Manner,
    Quiet,
    ShowIds,
    examples,
)

app = typer.Typer(
    help="Bayesian survival analysis of treatment phases that patients enter later.",
    epilog=examples(
        "bayesblina demo",
        "bayesblina init patients.csv",
        "bayesblina run study.toml --out results",
    )
    + "\n\nExit codes: 0 answered; 1 not converged, or the baseline moves the hazard ratio, or "
    "event times are those of visits (results are written, marked); 2 bad input; 3 a fault in "
    "bayesblina; 130 interrupted, 143 told to end (no results are written).",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    `arguments`: what would stand after ``bayesblina``; by default what the process was started
    with.
    """
    try:
        app(arguments, prog_name="bayesblina")
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    return ANSWERED


@app.callback()
def _options(
    context: typer.Context,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    context.obj = Manner(debug=debug, quiet=quiet, json=as_json, show_ids=show_ids)
