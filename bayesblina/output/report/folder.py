"""A folder of results as it may be handed on: tables, figures, summary and report, masked alike."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesblina.core.files import write_text
from bayesblina.core.interrupts import Interrupts
from bayesblina.core.masking import MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.estimands.curves import survival
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.estimands.regimes import From, Never, Regime
from bayesblina.output.figure_files import file_name, write_figure
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.page import REPORT, render_shown
from bayesblina.output.report.results import (
    FIT,
    RECORD,
    UNMASKED,
    Results,
    read_results,
    seal_record,
    write_tables,
    write_unmasked,
)
from bayesblina.output.report.summary import summary
from bayesblina.output.staging import staged
from bayesblina.studies.what_if.store import NAME as SCENARIOS

if TYPE_CHECKING:
    from xarray import Dataset

SUMMARY = "summary.md"
# What holds single patients, or counts that are not shown, and stays with the analyst.
STAYS = (FIT, UNMASKED, SCENARIOS)
# Where no command is running nothing is held back for long.
NEVER = Interrupts()


def write_report(
    folder: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    minimum_count: int | None = None,
    sensitivity: str | PathLike[str] | None = None,
) -> Path:
    """Write the report of a folder of results: one HTML file, complete in itself.

    Its numbers are those of the folder's tables, rounded. No patient ids are in it, and no count
    of patients or events between 1 and below `minimum_count`. Without `out` the folder's tables,
    summary and figures are written again where they show other counts than that.

    Parameters
    ----------
    folder
        What ``bayesblina run`` wrote.
    out
        The file; by default ``report.html`` in the folder.
    minimum_count
        Smallest count that is shown; 1 shows all. By default that of the folder's tables if they
        are masked, else 5.
    sensitivity
        Folder of scenarios of the same analysis; by default those in the folder, if any.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StorageError
        If the folder holds no results, they were changed since, or the file cannot be written.
    SpecError
        If the minimum is no whole number from 1 on.

    Examples
    --------
    >>> write_report("no_such_folder")
    Traceback (most recent call last):
    bayesblina.core.errors.StorageError: No folder 'no_such_folder': expected one that ...
    """
    results = read_results(folder, sensitivity=sensitivity)
    left = without_few(results, minimum=least_count(results, minimum_count))
    if out is None:
        return write_again(folder, left)
    write_text(out, render_shown(left))
    return Path(out)


def least_count(results: Results, asked: int | None) -> int:
    """Settle the smallest count that is shown.

    Parameters
    ----------
    asked
        What was asked for; None takes that of the folder's tables if they are masked, else 5.
    """
    own = int(results.record.get("minimum_count", 1))
    given = asked if asked is not None else own if own > 1 else MINIMUM_COUNT
    return require_minimum(given, "minimum_count")


def write_again(folder: str | PathLike[str], left: Shown, interrupts: Interrupts = NEVER) -> Path:
    """Write the report into its folder, and the rest again where it shows other counts."""
    folder = Path(folder)
    record, minimum = left.whole.record, left.minimum
    if int(record.get("minimum_count", 1)) != minimum:
        page = render_shown(left)
        drawn = bool(record.get("figures")) or any(folder.glob("*.svg"))
        figures = [f"{name}.{kind}" for name in _figures(left.whole) for kind in ("svg", "png")]
        # Written beside, and moved when all are there: a folder that is half of one kind and half
        # of another cannot be read, and what its tables hide may be in no file any more.
        with staged(folder, interrupts, old=[*figures, REPORT, UNMASKED], last=RECORD) as stage:
            write_shown(stage, left, beside=folder)
            if drawn:
                write_figures(stage, left, _drawn_again(left.whole))
            kept = {name: value for name, value in record.items() if name != "sha256"}
            kept["figures"] = drawn
            told = _told(left.results.record["notes"])
            text = seal_record(stage, kept, notes=told, minimum_count=minimum, beside=folder)
            write_text(stage / REPORT, page)
            write_text(stage / RECORD, text)
    else:
        write_text(folder / REPORT, render_shown(left))
    return folder / REPORT


def _told(notes: dict[str, str]) -> dict[str, str]:
    """Leave out why scenarios are not shown: that is found out at each reading."""
    return {name: why for name, why in notes.items() if name != "sensitivity"}


def write_shown(
    folder: str | PathLike[str], left: Shown, *, beside: str | PathLike[str] | None = None
) -> None:
    """Write tables and summary; what they hide goes into a file for their owner alone."""
    folder = Path(folder)
    whole = left.whole
    if left.minimum > 1:
        notes = _told(dict(whole.record["notes"]))
        write_unmasked(folder, whole.tables, fit=whole.fit, notes=notes)
    write_tables(folder, left.results.tables)
    stays = {*staying(folder), *(() if beside is None else {*staying(beside)} - {UNMASKED})}
    write_text(folder / SUMMARY, summary(left, stays=[one for one in STAYS if one in stays]))


def staying(folder: str | PathLike[str]) -> list[str]:
    """Name the files of a folder that must not be handed on."""
    return [name for name in STAYS if (Path(folder) / name).is_file()]


def write_figures(folder: str | PathLike[str], left: Shown, draws: Dataset) -> None:
    """Draw survival by endpoint, and hazard ratios, as PNG and SVG."""
    from bayesblina.output import plots

    tables, fit = left.results.tables, left.results.fit
    start = float(draws.attrs["landmark"])
    for name in dict.fromkeys(map(str, tables["survival"]["endpoint"])):
        figure = plots.survival(
            draws,
            endpoint=name,
            observed=_at(tables.get("simon_makuch"), name, start),
            at_risk=_at(tables.get("at_risk"), name, start),
        )
        write_figure(figure, Path(folder), f"survival_{file_name(name)}")
    shown = list(map(str, tables["hazard_ratios"]["endpoint"]))
    if shown:
        prior = fit.definition.phases.prior
        ratios = hazard_ratio(fit)
        # In the order of the draws.
        kept = [one for one in map(str, ratios["endpoint"].values) if one in shown]
        figure = plots.hazard_ratio(ratios.sel(endpoint=kept), prior=(prior.mean, prior.sd))
        write_figure(figure, Path(folder), "hazard_ratio")


def _figures(results: Results) -> set[str]:
    """Name the figures that results may have."""
    endpoints = map(str, results.tables["survival"]["endpoint"].unique())
    return {"hazard_ratio", *(f"survival_{file_name(name)}" for name in endpoints)}


def _at(table: pd.DataFrame | None, endpoint: str, landmark: float) -> pd.DataFrame | None:
    """Take the rows of an endpoint at a landmark, if there are any."""
    if table is None:
        return None
    rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
    return rows if len(rows) else None


def _drawn_again(results: Results) -> Dataset:
    """Draw the curves of the first landmark again: the fit and their regimes give the same ones."""
    table = results.tables["survival"]
    times = np.sort(table["time"].unique()).astype(float)
    landmark = float(times[0])
    starts = results.record.get("starts")
    if starts is None:
        # A folder of before: its names of regimes have their starts, to six digits.
        names = [str(one) for one in dict.fromkeys(table["regime"])]
        starts = [float(one.removeprefix("from ")) for one in names if one != Never().label]
        starts = [landmark if np.isclose(one, landmark, rtol=1e-5) else one for one in starts]
    regimes: list[Regime] = [Never(), *map(From, starts)]
    return survival(results.fit, regimes=regimes, times=times, landmark=landmark)
