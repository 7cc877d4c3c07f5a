"""A folder of results as it may be handed on: tables, figures, summary and report, masked alike."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayesblina.core.files import write_text
from bayesblina.core.masking import MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.estimands.curves import survival
from bayesblina.output.figure_files import write_figure
from bayesblina.output.progress import Progress
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import (
    Results,
    read_results,
    seal_record,
    write_tables,
    write_unmasked,
)
from bayesblina.output.report.summary import summary
from bayesblina.output.request import Curves
from bayesblina.output.result_figures import Figures
from bayesblina.output.result_files import (
    FIT,
    RECORD,
    REPORT,
    SUMMARY,
    UNMASKED,
    earlier_results,
)
from bayesblina.output.staging import staged
from bayesblina.studies.what_if.engine import NAME as SCENARIOS

if TYPE_CHECKING:
    from xarray import Dataset

# What holds single patients, or counts that are not shown, and stays with the analyst.
STAYS = (FIT, UNMASKED, SCENARIOS)


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
    page = None if out is None else Path(out)
    report_again(
        folder,
        out=page,
        minimum_count=minimum_count,
        sensitivity=sensitivity,
        progress=Progress(),
    )
    return Path(folder) / REPORT if page is None else page


def report_again(
    folder: str | PathLike[str],
    *,
    out: Path | None,
    minimum_count: int | None,
    sensitivity: str | PathLike[str] | None,
    progress: Progress,
) -> Shown:
    """Write the report of a folder, and the folder again where it shows other counts."""
    with progress.stage("read"):
        results = read_results(folder, sensitivity=sensitivity)
    with progress.stage("report"):
        own = int(results.record.get("minimum_count", 1))
        default = own if own > 1 else MINIMUM_COUNT
        minimum = require_minimum(
            default if minimum_count is None else minimum_count, "minimum_count"
        )
        left = without_few(results, minimum=minimum)
        if out is None and own != minimum:
            _mask_again(Path(folder), left, progress)
        else:
            page = render_shown(left)
            with progress.interrupts.held():
                write_text(Path(folder) / REPORT if out is None else out, page)
    return left


def _mask_again(folder: Path, left: Shown, progress: Progress) -> None:
    """Write everything but the fit again, with other counts shown."""
    record = left.whole.record
    drawn = bool(record.get("figures")) or any(folder.glob("*.svg"))
    curves = _drawn_again(left.whole) if drawn else None
    # Written beside, and moved when all are there: a folder that is half of one kind and half
    # of another cannot be read, and what its tables hide may be in no file any more.
    old = earlier_results(folder) - {FIT}
    with staged(folder, progress.interrupts, old=old, last=RECORD) as stage:
        kept = {name: value for name, value in record.items() if name != "sha256"}
        results = replace(left.whole, record={**kept, "figures": drawn})
        write_files(stage, replace(left, whole=results), curves, beside=folder)


def write_files(
    stage: Path,
    left: Shown,
    curves: Dataset | None,
    *,
    beside: Path,
    report: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write the files of a folder of results, but for the fit: the one place that knows which.

    `stage`: an empty folder, but for the fit if it is new.
    `curves`: draws of survival at the first landmark; without them there are no figures.
    `beside`: the folder that the files come into.
    `progress`: what takes the time of an analysis; without it the record keeps those that it has.
    """
    clock = Progress() if progress is None else progress
    with clock.stage("tables"):
        if left.minimum > 1:
            write_unmasked(stage, left.whole)
        write_tables(stage, left.results.tables)
        stays = {*staying(stage), *staying(beside)} - (set() if left.minimum > 1 else {UNMASKED})
        text = summary(left, stays=[name for name in STAYS if name in stays])
        write_text(stage / SUMMARY, text)
    if curves is not None:
        with clock.stage("figures"):
            for name, figure in Figures(shown=left, curves=curves).items():
                write_figure(figure, stage, name)
    with clock.stage("record"):
        if progress is not None:
            left = timed(left, progress)
        text = seal_record(
            stage,
            left.whole.record,
            notes=left.results.record["notes"],
            minimum_count=left.minimum,
            beside=beside,
        )
        write_text(stage / RECORD, text)
    if report:
        with clock.stage("report"):
            write_text(stage / REPORT, render_shown(left))


def timed(left: Shown, progress: Progress) -> Shown:
    """Write the durations of stages into the record of results."""
    seconds = {name: round(duration, 3) for name, duration in progress.seconds.items()}

    def with_seconds(results: Results) -> Results:
        return replace(results, record={**results.record, "seconds": seconds})

    return replace(left, results=with_seconds(left.results), whole=with_seconds(left.whole))


def staying(folder: Path) -> list[str]:
    """Name the files of a folder that must not be handed on."""
    return [name for name in STAYS if (folder / name).is_file()]


def _drawn_again(results: Results) -> Dataset:
    """Draw the curves of the first landmark again: the fit and their regimes give the same ones."""
    times = np.sort(results.tables["survival"]["time"].unique()).astype(float)
    curves = Curves(starts=tuple(results.record["starts"]))
    return survival(results.fit, regimes=curves.regimes, times=times, landmark=float(times[0]))
