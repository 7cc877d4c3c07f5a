"""A folder of results as it may be handed on: tables, figures, summary and report, masked alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from xarray import Dataset

from bayesblina.core.escaping import markdown
from bayesblina.core.escaping import plain as one_line
from bayesblina.core.files import write_text
from bayesblina.core.masking import MASK, MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import TIME_DIGITS, digits
from bayesblina.core.tables.numbers import BASELINE, EVENT_TIMES, LONG
from bayesblina.core.tables.table import to_csv
from bayesblina.estimands.curves import survival
from bayesblina.estimands.ratios import Over, hazard_ratio
from bayesblina.estimands.regimes import regime_of
from bayesblina.inference.baseline_gate import WORDS
from bayesblina.inference.fitting import Fit
from bayesblina.output import plots
from bayesblina.output.progress import Progress
from bayesblina.output.report.hiding import FEW, Shown, about_others, without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import (
    Results,
    read_results,
    seal_record,
    write_unmasked,
)
from bayesblina.output.report.wording import (
    HASH,
    Row,
    compared,
    count,
    curves_in_words,
    estimand_of,
    event_times_in_words,
    plain,
    prior_sentence,
    prior_weight,
    provenance_of,
    pulled,
    sentence,
    visits_in_words,
    weak_points,
)
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
from bayesblina.patients.account import COLUMNS, to_markdown
from bayesblina.studies.what_if.engine import NAME as SCENARIOS

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
        steps = self.shown.results.tables.get("hazard_ratios_by_step", ratios.iloc[:0])
        return iter(
            [
                *self._endpoints,
                *(["hazard_ratio"] if len(ratios) else []),
                *(["hazard_ratio_by_step"] if len(steps) else []),
            ]
        )

    def __len__(self) -> int:
        """Count the figures."""
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Figure:
        """Draw a figure."""
        if name not in list(self):
            raise KeyError(f"no figure '{name}': there are {', '.join(self) or 'none'}")
        if name == "hazard_ratio":
            prior = self.shown.results.fit.definition.phases.prior
            return plots.hazard_ratio(
                self._ratios("hazard_ratios", "average"), prior=(prior.mean, prior.sd)
            )
        if name == "hazard_ratio_by_step":
            return plots.hazard_ratio_over_time(self._ratios("hazard_ratios_by_step", "step"))
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

    def _ratios(self, name: str, over: Over) -> Dataset:
        """Take the draws of the endpoints that a table has, in the order of the draws."""
        results = self.shown.results
        ratios = hazard_ratio(results.fit, over=over)
        named = results.tables[name]["endpoint"].tolist()
        return ratios.sel(endpoint=ratios["endpoint"].isin(named))

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
    results, whole = (
        replace(each, record={**each.record, "seconds": seconds})
        for each in (left.results, left.whole)
    )
    return replace(left, results=results, whole=whole)


def staying(folder: Path) -> list[str]:
    """Name the files of a folder that must not be handed on."""
    return [name for name in STAYS if (folder / name).is_file()]


def _drawn_again(results: Results) -> Dataset:
    """Draw the curves of the first landmark again: the fit and their regimes give the same ones."""
    times = np.sort(results.tables["survival"]["time"].unique()).astype(float)
    curves = Curves(
        starts=tuple(results.record["starts"]),
        further=tuple(map(regime_of, results.record["regimes"])),
    )
    return survival(results.fit, regimes=curves.regimes, times=times, landmark=float(times[0]))


# What no masking of one folder can prevent.
ONE_MINIMUM = (
    "Hand on one version only: whoever has two of the same patients, with different minimums or "
    "questions, can subtract one from the other."
)


def summary(left: Shown, *, stays: Sequence[str] = ()) -> str:
    """Word the results.

    `stays`: files of the folder that hold patients, or counts that are not shown.
    """
    results, fit = left.results, left.results.fit
    source, rows = str(results.record["source"]), results.rows("hazard_ratios")
    unit, sources = fit.person_time.unit, fit.design.sources
    weak = weak_points(fit, loo=results.tables.get("leave_one_out"), coarse=left.coarse)
    weak = about_others(weak, left.withheld)
    kind = "conditional on the covariates" if fit.design.term_names else "without covariates"
    moved = curves_in_words(results.tables.get("curve_shift"), unit, coarse=left.coarse)
    times = about_others(event_times_in_words(fit, coarse=left.coarse), left.withheld)
    read = [row["patients"] for row in results.rows("patient_flow") if row["step"] == "read"]
    lines = [
        f"# {_cell(str(results.record['title']))}",
        "",
        *_warnings(left, stays),
        "## Answer",
        "",
        *(line for row in rows for line in _answer(row, fit)),
        *([f"- {_cell(', '.join(left.withheld))}: masked. {FEW}."] if left.withheld else []),
        "",
        *(
            ["### What weakens it", "", *(f"- {_cell(words)}." for words in weak), ""]
            if weak
            else []
        ),
        f"The hazard ratios are {kind}{', and of the current patients' if sources else ''}; each "
        "interval is central (equal-tailed).",
        "",
        "## Prior and posterior",
        "",
        _cell(prior_sentence(fit)),
        "",
        *(f"- {_cell(plain(prior_weight(row, fit)))}" for row in rows),
        "",
        "## Question",
        "",
        "| attribute | |",
        "|---|---|",
        *(f"| {_cell(name)} | {_cell(words)} |" for name, words in estimand_of(fit).items()),
        "",
        "## Patients",
        "",
        f"{f'{read[0]} ' if read else ''}patients in {_cell(source)}, times in {unit}.",
        "",
        _account(left),
        "",
        "## Checks",
        "",
        "| criterion | value | must be | passed |",
        "|---|---|---|---|",
        *(
            f"| {row['criterion']} | {row['value']:.4g} | {row['limit']} | "
            f"{'yes' if row['passed'] else '**NO**'} |"
            for row in fit.convergence.criteria.to_dict("records")
        ),
        "",
        *(f"- Baseline: {_cell(words)}." for words in _baseline(left)),
        *(f"- Curves: {_cell(words)}." for words in moved),
        *(f"- Event times: {_cell(words)}." for words in times),
        *(f"- {_cell(note)}" for note in left.fit_notes),
        "",
        "## Provenance",
        "",
        *_provenance(fit, source),
        "",
    ]
    return "\n".join(lines)


def _warnings(left: Shown, stays: Sequence[str]) -> list[str]:
    """Quote what must be read before anything else."""
    fit, lines = left.results.fit, []
    if left.coarse:
        lines += [*(f"> {_cell(words)}" for words in masking_in_words(left, stays)), ""]
    if fit.person_time.synthetic:
        lines += ["> **SYNTHETIC**: the patients are simulated. This is never evidence.", ""]
    failed = {f"**{LONG[name]}**": failures for name, failures in _failed(left).items()}
    if not fit.converged:
        words = "**NOT CONVERGED**: do not use these numbers."
        failed = {words: fit.convergence.failures(), **failed}
    for words, failures in failed.items():
        lines += [f"> {words} What failed:", ">", *(f"> - {_cell(text)}" for text in failures), ""]
    return lines


def _answer(row: Row, fit: Fit) -> list[str]:
    """Word the answer for one endpoint, with what stands beside it."""
    beside = (compared(row, fit), pulled(row))
    return [
        f"- {_cell(sentence(row, fit))}",
        *(f"  - {_cell(plain(words))}" for words in beside if words),
    ]


def masking_in_words(left: Shown, stays: Sequence[str]) -> tuple[str, ...]:
    """Say what is masked, and what must not be handed on.

    `stays`: files of the folder that hold patients, or counts that are not shown.
    """
    if not left.coarse:
        return ("Nothing is masked: small counts stand in every file.",)
    words = [
        f"Masked: counts of patients or events from 1 to {left.minimum - 1}, and what would tell "
        f"them, are hidden in the report, tables and figures ({MASK}).",
        ONE_MINIMUM,
    ]
    if stays:
        words.append(
            f"Not to be handed on: {', '.join(stays)}, and the study's own data, which hold single "
            "patients or what is masked."
        )
    return tuple(words)


def _account(left: Shown) -> str:
    """Write the account of patients."""
    rows = left.results.rows("patient_flow")
    if not rows:
        return "No account of the patients is there."
    shapes = {"patients": ".0f", "events": ".0f", "person_time": ".6g"}

    cells = [[count(row[name], shapes.get(name, "")) for name in COLUMNS] for row in rows]
    return to_markdown((*COLUMNS[:-1], f"person-{left.results.fit.person_time.unit}"), cells)


def _baseline(left: Shown) -> tuple[str, ...]:
    """Word the gate of the baseline, without the endpoints that are withheld."""
    fit, gate = left.results.fit, left.gate
    told, own = ("failed", "told"), fit.gate.table
    marked = gate["state"].isin(told)
    # Words have numbers of what is marked.
    if not left.withheld and gate[marked].equals(own[own["state"].isin(told)]):
        return (left.words(fit.gate.words()),)
    named = gate[marked | (gate["effect"] == fit.question.exposure)]
    return tuple(_state_of(row) for row in named.to_dict("records"))


def _state_of(row: Mapping[Any, Any]) -> str:
    """Word a row of the baseline gate without its numbers."""
    return f"{row['endpoint']}, {row['effect']}: {WORDS[row['state']]}"


def _failed(left: Shown) -> dict[str, list[str]]:
    """Word what failed of the gates other than convergence."""
    fit, gate = left.results.fit, left.gate
    moved = (
        fit.gate.failures()
        if gate.equals(fit.gate.table)
        else [_state_of(row) for row in gate[gate["state"] == "failed"].to_dict("records")]
    )
    words = {BASELINE: moved, EVENT_TIMES: visits_in_words(fit, coarse=left.coarse)}
    return {
        name: list(about_others(failures, left.withheld))
        for name, failures in words.items()
        if name in fit.failed
    }


def _provenance(fit: Fit, source: str) -> list[str]:
    of_fit = provenance_of(fit)
    return [
        f"- data: {_cell(source)}, {HASH} `{of_fit[HASH]}`",
        f"- model: {_cell(of_fit['model'])}",
        *(f"- {name}: {of_fit[name]}" for name in ("sampling", "versions")),
    ]


def _cell(text: str) -> str:
    """Write a text in one line of Markdown: nothing that stands in data is markup or HTML."""
    return markdown(one_line(text))
