"""A whole analysis as one value, and how it is made: what ``bayesblina run`` does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from xarray import Dataset

from bayesblina.checks.refit import with_refit
from bayesblina.core.arrays import require_numbers
from bayesblina.core.errors import SpecError, require_kind
from bayesblina.core.files import readable, write_text
from bayesblina.core.masking import MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.estimands.regimes import Never, Regime
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.inference import fitting
from bayesblina.inference.fitting import Fit
from bayesblina.inference.storage import save
from bayesblina.output.progress import Progress
from bayesblina.output.report.computation import compute_tables
from bayesblina.output.report.folder import Figures, timed, write_files
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import Results, begin_record, with_scenarios
from bayesblina.output.report.wording import sentence
from bayesblina.output.request import Curves, Request, request_of
from bayesblina.output.result_files import FIT, require_elsewhere, require_own, results_in
from bayesblina.patients.account import to_html
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time import cells
from bayesblina.person_time.binding import bind
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.person_time.question import Question
from bayesblina.studies.study_file import read_study

# What tells patients of a fit from others, besides their names.
FOLLOW_UP = ("begin", "exit", "event")


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
        left, results = self.shown, with_scenarios(self.shown.whole, folder)
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
        answers = [sentence(row, self.fit) for row in self.shown.results.rows("hazard_ratios")]
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
        parts = (f"{name}: {words}" for name, words in self._parts().items())
        return "\n  ".join([f"Analysis of {self.fit!r}", *self._answers(), *parts])

    def _repr_html_(self) -> str:

        results = self.shown.results
        endpoints = map(str, results.tables["hazard_ratios"]["endpoint"])
        names = [*endpoints, *([""] if self.shown.withheld else [])]
        rows = [*zip(names, self._answers(), strict=True), *self._parts().items()]
        return to_html(("Analysis", str(results.record["title"])), rows)


def analyse(
    cohort: Cohort | CohortScan,
    question: Question,
    *,
    fit: Fit | None = None,
    model: str | PathLike[str] | ModelDefinition | None = None,
    seed: int | None = None,
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    draws: int | None = None,
    tune: int | None = None,
    chains: int | None = None,
    cores: int | None = None,
    landmark: float | None = None,
    landmarks: Sequence[float] | None = None,
    times: Sequence[float] | None = None,
    starts: Sequence[float] = (),
    regimes: Sequence[Regime] = (),
    thresholds: Sequence[float] = (),
    adverse_events: AdverseEvents | None = None,
    title: str = "",
    minimum_count: int | None = None,
    progress: bool = True,
) -> Analysis:
    """Analyse a cohort as ``bayesblina run`` does: hazard ratios, curves, checks and a report.

    Parameters
    ----------
    cohort
        The patients; of those in a query engine, what looks at single ones is left out.
    question
        Who is compared, and how.
    fit
        A fit of this cohort and question: nothing is sampled again. Without one the model is
        fitted, and held against itself with a freer baseline where it has no companion
        (`bayesblina.checks.with_refit` does so to a fit).
    model, cuts, phase_cuts, draws, tune, chains, cores
        As for `bayesblina.fit`; not with `fit`.
    seed
        Seed of the draws, 1 by default; not with `fit`, whose own is taken.
    landmark, times
        Of the first curves, as for `bayesblina.survival`.
    landmarks
        Further landmarks; by default quartiles of the entries into the exposed phase.
    starts
        Times from which on the exposed phase is given, a regime and a curve each, besides never.
    regimes
        Further regimes, a curve each from the first landmark on: ``Between(6.0, 12.0)``,
        ``Cycles(start=6.0, on=1.0, off=2.0, times=3)``, ``WithPhases(...)``.
    thresholds
        Hazard ratios for each of which the probability of being below is told, besides 1.
    adverse_events
        The cohort's adverse events, from `bayesblina.safety.adverse_events`.
    title
        Heading of the results; by default the name of the cohort's source.
    minimum_count
        Smallest count of patients or events that is shown in tables, figures, folder and report; 1
        shows all, which is for those who may see it. By default 5.
    progress
        Whether the sampler may show a progress bar.

    Returns
    -------
    Analysis
        With every table and figure. Marked where the draws did not converge or another gate was
        failed; nothing is raised then.

    Raises
    ------
    DataError
        If there is nothing to compare.
    SpecError
        If the question, the cuts or the model are impossible, or the fit is another one's.
    EstimandError
        If a curve is not defined.
    TypeError
        If an argument is of another kind.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> analysis = bb.analyse(cohort, question, fit=fit, landmark=8.0, starts=[8.0])
    >>> analysis.tables["restricted_means"].columns[:3].tolist()
    ['endpoint', 'landmark', 'regime']
    >>> list(analysis.figures)
    ['survival_os', 'survival_rfs', 'hazard_ratio']
    """
    kinds: tuple[tuple[str, object, Any], ...] = (
        ("cohort", cohort, Cohort | CohortScan),
        ("question", question, Question),
        ("adverse_events", adverse_events, AdverseEvents | None),
        ("fit", fit, Fit | None),
        ("model", model, str | PathLike | ModelDefinition | None),
        ("landmark", landmark, Real | None),
        *(("title", title, str), ("progress", progress, bool)),
    )
    for argument, value, kind in kinds:
        require_kind(value, kind, argument)
    given = {
        "model": model,
        "seed": seed,
        "cuts": cuts,
        "phase_cuts": phase_cuts,
        "draws": draws,
        "tune": tune,
        "chains": chains,
        "cores": cores,
    }
    sampling = {name: value for name, value in given.items() if value is not None}
    if fit is not None:
        require_own_fit(fit, cohort, question, sampling)
        model = fit.definition
    request = Request(
        cohort=cohort,
        question=question,
        model=model if isinstance(model, ModelDefinition) else load_model(model or "primary"),
        curves=Curves(
            landmark=landmark,
            landmarks=None if landmarks is None else _numbers(landmarks, "landmarks"),
            times=None if times is None else _numbers(times, "times"),
            starts=_numbers(starts, "starts"),
            further=_regimes(regimes),
            thresholds=_numbers(thresholds, "thresholds"),
        ),
        sampling={"seed": 1, **sampling},
        title=title or cohort.source,
        command=f"bayesblina.analyse(cohort, question{'' if fit is None else ', fit=fit'})",
        minimum_count=minimum_count,
    )
    return answer(
        request, fit=fit, adverse_events=adverse_events, progress=Progress(), bars=progress
    )


def _regimes(given: Any) -> tuple[Regime, ...]:
    """Take regimes besides never, which is there already."""
    require_kind(given, list | tuple, "regimes")
    for regime in given:
        require_kind(regime, Regime, "regimes")
    return tuple(regime for regime in given if not isinstance(regime, Never))


def _numbers(values: Any, argument: str) -> tuple[float, ...]:
    """Read numbers as a study file would hold them."""
    if isinstance(values, list | tuple | np.ndarray) and not len(values):
        return ()
    return tuple(np.atleast_1d(require_numbers(values, argument)).tolist())


def analyse_study(
    path: str | PathLike[str],
    *,
    seed: int | None = None,
    minimum_count: int | None = None,
    progress: bool = True,
) -> Analysis:
    """Analyse what a study file describes, as ``bayesblina run`` does.

    Parameters
    ----------
    path
        The study file.
    seed
        Seed of the draws, in place of the file's.
    minimum_count
        Smallest count of patients or events that is shown; by default the file's, else 5.
    progress
        Whether the sampler may show a progress bar.

    Returns
    -------
    Analysis
        With every table and figure; ``analysis.write("results")`` writes what the command does.

    Raises
    ------
    SpecError, DataError, EstimandError
        If the file, its data or its question are impossible.

    Examples
    --------
    >>> analyse_study("no_such_study.toml")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: No study file 'no_such_study.toml'.
    """
    require_kind(path, str | PathLike, "path")
    require_kind(progress, bool, "progress")
    path = Path(path)
    name = readable(path.name if path.is_absolute() else path)
    own = "" if seed is None else f", seed={seed}"
    study = read_study(path)
    request = request_of(
        study,
        seed=seed,
        minimum_count=minimum_count,
        command=f"bayesblina.analyse_study({name!r}{own})",
    )
    events = study.adverse_events(request.cohort)
    return answer(request, adverse_events=events, progress=Progress(), bars=progress)


def answer(
    request: Request,
    *,
    fit: Fit | None = None,
    adverse_events: AdverseEvents | None,
    progress: Progress,
    bars: bool,
) -> Analysis:
    """Fit where there is no fit yet, and compute everything, telling each stage as it begins."""
    cohort, curves, minimum = request.cohort, request.curves, request.minimum_count
    minimum = require_minimum(MINIMUM_COUNT if minimum is None else minimum, "minimum_count")
    if fit is None:
        with progress.stage("fit", bar=True):
            sampling = {
                **request.sampling,
                "model": request.model,
                "landmarks": curves.asked_landmarks,
                "progress": bars,
            }
            fit = fitting.fit(cohort, request.question, **sampling)
        if isinstance(cohort, Cohort) and fit.companion.draws is None:
            with progress.stage("baseline again"):
                fit = with_refit(fit, cohort)
    computed, drawn = compute_tables(
        fit, cohort, curves=curves, adverse_events=adverse_events, progress=progress
    )
    with progress.stage("hashes, masking"):
        record = begin_record(request, notes=computed.notes, adverse_events=adverse_events)
        results = Results(fit=fit, tables=computed.tables, record=record)
        shown = without_few(results, minimum=minimum)
    return Analysis(shown=timed(shown, progress), curves=drawn, inputs=request.inputs)


def require_own_fit(
    fit: Fit, cohort: Cohort | CohortScan, question: Question, sampling: Collection[str]
) -> None:
    """Refuse a fit of another question or of other patients, and what it leaves without effect."""
    if sampling:
        raise SpecError(
            f"{', '.join(sampling)}: a fit is given, and nothing is sampled again. Leave out these "
            "arguments, or fit."
        )
    if fit.question != question:
        raise SpecError("The fit answers another question than the one given.")
    fitted = fit.person_time
    if fitted.courses is None and set(bind(question, cohort)) != set(fitted.endpoints):
        raise SpecError("The fit has other endpoints than the question of this cohort.")
    if not isinstance(cohort, Cohort):
        return
    mine = cells.person_time(
        cohort, question, cuts=fitted.cuts, courses=fitted.courses, by_patient=fitted.by_patient
    )
    same = mine.size == fitted.size
    if same and fitted.complete and mine.size < cells.MANY:
        same = list(mine.people["patient"].values) == list(fitted.people["patient"].values)
        same = same and all(
            np.allclose(mine.people[name].values, fitted.people[name].values, equal_nan=True)
            for name in FOLLOW_UP
        )
    if not same or not (fitted.weighted or _same_states(mine, fitted)):
        raise SpecError("The fit is of other patients than the cohort given.")


def _same_states(mine: cells.PersonTime, fitted: cells.PersonTime) -> bool:
    """Whether time in phases, and of patterns of covariates, is the same, up to rounding.

    A fit may cut phases into pieces, or give every patient a pattern: then these are not compared.
    """
    for kept, over in (("phase", "pattern"), ("pattern", "phase")):
        own, its = (each.table["person_time"].sum(("interval", over)) for each in (mine, fitted))
        comparable = (
            own.shape == its.shape and own[kept].values.tolist() == its[kept].values.tolist()
        )
        if comparable and not np.allclose(own.values, its.values, rtol=1e-6, atol=1e-9):
            return False
    return True
