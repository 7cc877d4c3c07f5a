"""A folder of results as it may be handed on: tables, figures, summary and report, masked alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesblina.core.csv_files import to_csv
from bayesblina.core.files import write_text
from bayesblina.core.masking import MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import TIME_DIGITS, digits
from bayesblina.estimands.curves import survival
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.output.progress import Progress
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import (
    Results,
    read_results,
    seal_record,
    write_unmasked,
)
from bayesblina.output.report.summary import summary
from bayesblina.output.request import Curves
from bayesblina.output.result_files import (
    FIT,
    RECORD,
    REPORT,
    SUMMARY,
    UNMASKED,
    earlier_results,
    file_name,
    require_own,
    staged,
    write_figure,
)
from bayesblina.studies.what_if.store import NAME as SCENARIOS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

# What holds single patients, or counts that are not shown, and stays with the analyst.
STAYS = (FIT, UNMASKED, SCENARIOS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Figures(Mapping[str, "Figure"]):
    """Figures by the names of their files, each drawn when it is asked for.

    `shown`: the results, without what would tell a small count.
    `curves`: draws of survival at the first landmark.
    """

    shown: Shown
    curves: Dataset

    @property
    def _endpoints(self) -> dict[str, str]:
        """Endpoints that have curves, by the name of the figure."""
        endpoints = self.shown.results.tables["survival"]["endpoint"].unique()
        return {f"survival_{file_name(name)}": name for name in map(str, endpoints)}

    def __repr__(self) -> str:
        """Name the figures."""
        return f"Figures({', '.join(self)})"

    def __iter__(self) -> Iterator[str]:
        """Name the figures."""
        ratios = self.shown.results.tables["hazard_ratios"]
        return iter([*self._endpoints, *(["hazard_ratio"] if len(ratios) else [])])

    def __len__(self) -> int:
        """Count the figures."""
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Figure:
        """Draw a figure."""
        if name not in list(self):
            raise KeyError(f"no figure '{name}': there are {', '.join(self) or 'none'}")
        from bayesblina.output import plots

        if name == "hazard_ratio":
            results = self.shown.results
            prior, ratios = results.fit.definition.phases.prior, hazard_ratio(results.fit)
            # In the order of the draws.
            kept = ratios["endpoint"].isin(results.tables["hazard_ratios"]["endpoint"].tolist())
            return plots.hazard_ratio(ratios.sel(endpoint=kept), prior=(prior.mean, prior.sd))
        endpoint = self._endpoints[name]
        curves = self.curves
        if self.shown.coarse:
            # The last time is some patient's own.
            times = [digits(time, TIME_DIGITS) for time in curves["time"].values.tolist()]
            curves = curves.assign_coords(time=times)
        return plots.survival(
            curves,
            endpoint=endpoint,
            observed=self._rows("simon_makuch", endpoint),
            at_risk=self._rows("at_risk", endpoint),
        )

    def _rows(self, name: str, endpoint: str) -> pd.DataFrame | None:
        """Take the rows of an endpoint at the curves' landmark, if there are any."""
        table = self.shown.results.tables.get(name)
        if table is None:
            return None
        own = (table["endpoint"] == endpoint) & (table["landmark"] == self.curves.attrs["landmark"])
        return table[own] if own.any() else None


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
        folder, out=page, minimum_count=minimum_count, sensitivity=sensitivity, progress=Progress()
    )
    return page or Path(folder) / REPORT


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
    folder = Path(folder)
    with progress.stage("report"):
        own = int(results.record.get("minimum_count", 1))
        if minimum_count is None:
            minimum_count = own if own > 1 else MINIMUM_COUNT
        left = without_few(results, minimum=require_minimum(minimum_count, "minimum_count"))
        if out is None and own != left.minimum:
            curves = _drawn_again(results) if results.record.get("figures") else None
            # Written beside, and moved when all are there: a folder that is half of one kind and
            # half of another cannot be read, and what its tables hide may be in no file any more.
            old = earlier_results(folder) - {FIT}
            with staged(folder, progress.interrupts, old=old, last=RECORD) as stage:
                write_files(stage, left, curves, beside=folder)
        else:
            page = render_shown(left)
            with progress.interrupts.held():
                write_text(out or folder / REPORT, page)
    return left


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
        if left.coarse:
            write_unmasked(stage, left.whole)
        for name, table in left.results.tables.items():
            write_text(stage / f"{name}.csv", to_csv(table))
        stays = {*staying(stage), *staying(beside)} - (set() if left.coarse else {UNMASKED})
        text = summary(left, stays=[name for name in STAYS if name in stays])
        write_text(stage / SUMMARY, text)
    if curves is not None:
        with clock.stage("figures"):
            figures = Figures(shown=left, curves=curves)
            require_own(beside, figures)
            for name, figure in figures.items():
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
