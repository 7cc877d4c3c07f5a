"""A whole analysis as one value: every table and figure, the folder of results and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from xarray import Dataset

from bayesblina.core.errors import require_kind
from bayesblina.core.files import write_text
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.inference.fitting import Fit
from bayesblina.inference.storage import save
from bayesblina.output.progress import Progress
from bayesblina.output.report.folder import write_files
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import with_scenarios
from bayesblina.output.report.wording import sentence
from bayesblina.output.result_figures import Figures
from bayesblina.output.result_files import FIT, require_elsewhere, require_own
from bayesblina.output.staging import results_in
from bayesblina.patients.account import to_html


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """Every table and figure of a study, as `analyse` and ``bayesblina run`` make them.

    Attributes
    ----------
    shown
        The results, as they were computed and without what would tell a small count.
    curves : xarray.Dataset
        Draws of survival under each regime at the first landmark.
    inputs
        Files that results are not written over.
    """

    shown: Shown
    curves: Dataset
    inputs: tuple[Path, ...] = ()

    @property
    def fit(self) -> Fit:
        """The fit."""
        return self.shown.results.fit

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Tables by name, small counts masked, as they are written."""
        tables = self.shown.results.tables
        return MappingProxyType({name: table.copy() for name, table in tables.items()})

    @property
    def figures(self) -> Figures:
        """Figures by name, each drawn when it is asked for."""
        return Figures(shown=self.shown, curves=self.curves)

    @property
    def notes(self) -> Mapping[str, str]:
        """Why a table could not be computed, by its name."""
        return MappingProxyType(dict(self.shown.results.record["notes"]))

    @property
    def minimum_count(self) -> int:
        """Smallest count of patients or events that is shown."""
        return self.shown.minimum

    def with_minimum_count(self, minimum_count: int) -> Analysis:
        """Show other counts; nothing is computed again.

        Parameters
        ----------
        minimum_count
            Smallest count of patients or events that is shown; 1 shows all.

        Returns
        -------
        Analysis
            The same analysis.

        Raises
        ------
        SpecError
            If it is no whole number from 1 on.
        """
        minimum = require_minimum(minimum_count, "minimum_count")
        return replace(self, shown=without_few(self.shown.whole, minimum=minimum))

    def write(self, folder: str | PathLike[str], *, report: bool = True) -> Path:
        """Write the whole folder of results, as ``bayesblina run`` does: all files or none.

        Scenarios that `bayesblina.sensitivity` left in the folder are shown in the report.

        Parameters
        ----------
        folder
            Made if it is missing; an earlier analysis in it is replaced, other files stay.
        report
            Whether to write ``report.html``.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        SpecError
            If the folder cannot be made, or a result would replace a file of the study, or any
            file of a folder that holds no earlier analysis.
        StorageError
            If a file cannot be written.
        """
        require_kind(folder, str | PathLike, "folder")
        folder = Path(folder)
        require_elsewhere(self.inputs, folder)
        require_own(folder)
        progress = Progress(seconds=dict(self.shown.whole.record["seconds"]))
        with progress.interrupts.noted(), results_in(folder, progress.interrupts) as stage:
            self.write_into(stage, folder, report=report, progress=progress)
        return folder

    def write_into(self, stage: Path, folder: Path, *, report: bool, progress: Progress) -> None:
        """Write all files into the stage of a folder."""
        with progress.stage("save"):
            save(self.fit, stage / FIT)
        left = self.shown
        results = with_scenarios(left.whole, folder)
        if results.sensitivity is not None or results.record["notes"] != left.whole.record["notes"]:
            left = without_few(results, minimum=left.minimum)
        write_files(stage, left, self.curves, beside=folder, report=report, progress=progress)

    def write_report(
        self, path: str | PathLike[str], *, sensitivity: str | PathLike[str] | None = None
    ) -> Path:
        """Write the report alone: one HTML file, complete in itself.

        Parameters
        ----------
        path
            The file.
        sensitivity
            Folder of scenarios of the same analysis, to be shown too.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        StorageError
            If the file cannot be written, or the scenarios are of another analysis.
        """
        require_kind(path, str | PathLike, "path")
        left = self.shown
        if sensitivity is not None:
            results = with_scenarios(left.whole, sensitivity, needed=True)
            left = without_few(results, minimum=left.minimum)
        write_text(path, render_shown(left))
        return Path(path)

    def _answers(self) -> list[str]:
        """Answer for each endpoint, in a sentence."""
        rows = self.shown.results.tables["hazard_ratios"].to_dict("records")
        answers = [sentence(row, self.fit) for row in rows]
        hidden = ", ".join(self.shown.withheld)
        return [*answers, *([f"{hidden}: masked, few patients or events."] if hidden else [])]

    def _parts(self) -> dict[str, str]:
        """Say what is in it."""
        masked = f"counts of patients or events from 1 to {self.minimum_count - 1}"
        return {
            "tables": ", ".join(self.shown.results.tables),
            "figures": ", ".join(self.figures),
            "not computed": ", ".join(self.notes) or "none",
            "masked": masked if self.minimum_count > 1 else "nothing",
        }

    def __repr__(self) -> str:
        """Show the answers, and what else there is."""
        parts = [f"{name}: {words}" for name, words in self._parts().items()]
        return "\n  ".join([f"Analysis of {self.fit!r}", *self._answers(), *parts])

    def _repr_html_(self) -> str:

        endpoints = self.shown.results.tables["hazard_ratios"]["endpoint"]
        names = [*map(str, endpoints), *([""] if self.shown.withheld else [])]
        title = str(self.shown.results.record["title"])
        rows = [*zip(names, self._answers(), strict=True), *self._parts().items()]
        return to_html(("Analysis", title), rows)
