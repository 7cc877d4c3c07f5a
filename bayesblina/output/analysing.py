"""From patients and a question, or a study file, to an `Analysis`: what ``bayesblina run`` does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesblina.checks.refit import with_refit
from bayesblina.core.arrays import Floats, require_numbers
from bayesblina.core.errors import SpecError, require_kind
from bayesblina.core.files import readable
from bayesblina.core.masking import MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.inference import fitting
from bayesblina.inference.fitting import Fit
from bayesblina.output.analysis import Analysis
from bayesblina.output.progress import Progress
from bayesblina.output.report.computation import compute_tables
from bayesblina.output.report.folder import timed
from bayesblina.output.report.hiding import without_few
from bayesblina.output.report.results import Results, begin_record
from bayesblina.output.request import Curves, Request, request_of
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time import cells
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.person_time.question import Question, bind
from bayesblina.studies.study_file import read_study

# What tells patients of a fit from others, besides their names.
FOLLOW_UP = ("begin", "exit", "event")


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
    require_kind(cohort, Cohort | CohortScan, "cohort")
    require_kind(question, Question, "question")
    require_kind(adverse_events, AdverseEvents | None, "adverse_events")
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
        _require_own(fit, cohort, question, sampling)
        model = fit.definition
    request = Request(
        cohort=cohort,
        question=question,
        model=model if isinstance(model, ModelDefinition) else load_model(model or "primary"),
        curves=Curves(
            landmark=landmark,
            landmarks=None if landmarks is None else _numbers(landmarks, "landmarks"),
            times=None if times is None else _times(times),
            starts=_numbers(starts, "starts"),
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


def _numbers(values: Any, argument: str) -> tuple[float, ...]:
    """Read numbers as a study file would hold them."""
    if isinstance(values, list | tuple | np.ndarray) and not len(values):
        return ()
    return tuple(np.atleast_1d(require_numbers(values, argument)).tolist())


def _times(times: Sequence[float]) -> tuple[float, ...]:
    """Read the times of curves, of which there is one at least."""
    read = _numbers(times, "times")
    if not read:
        raise SpecError("times is empty: give at least one, or leave it out.")
    return read


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
    asked = request.minimum_count
    minimum = require_minimum(MINIMUM_COUNT if asked is None else asked, "minimum_count")
    cohort, curves = request.cohort, request.curves
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


def _require_own(
    fit: Fit, cohort: Cohort | CohortScan, question: Question, sampling: Collection[str]
) -> None:
    """Refuse a fit of another question or of other patients, and what it leaves without effect."""
    require_kind(fit, Fit, "fit")
    if sampling:
        raise SpecError(
            f"{', '.join(sampling)}: a fit is given, and nothing is sampled again. Leave out these "
            "arguments, or fit."
        )
    if fit.question != question:
        raise SpecError("The fit answers another question than the one given.")
    fitted = fit.person_time
    own = set(bind(question, cohort))
    if fitted.courses is None and own != set(fitted.endpoints):
        raise SpecError("The fit has other endpoints than the question of this cohort.")
    if not isinstance(cohort, Cohort):
        return
    mine = cells.person_time(
        cohort,
        question,
        cuts=fitted.cuts,
        courses=fitted.courses,
        by_patient=fitted.by_patient,
    )
    same = mine.size == fitted.size
    if same and fitted.complete and mine.size < cells.MANY:
        pairs = [(mine.people[name].values, fitted.people[name].values) for name in FOLLOW_UP]
        same = list(mine.people["patient"].values) == list(fitted.people["patient"].values)
        same = same and all(np.allclose(own, its, equal_nan=True) for own, its in pairs)
    if same and not fitted.weighted:
        same = _same_states(mine, fitted)
    if not same:
        raise SpecError("The fit is of other patients than the cohort given.")


def _same_states(mine: PersonTime, fitted: PersonTime) -> bool:
    """Whether time in phases, and of patterns of covariates, is the same, up to rounding.

    A fit may cut phases into pieces, or give every patient a pattern: then these are not compared.
    """

    def time(person_time: PersonTime, over: str) -> Floats:
        summed = person_time.table["person_time"].sum(("interval", over))
        return np.asarray(summed.values, dtype=np.float64)

    compared = [("phase", "pattern"), ("pattern", "phase")]
    for kept, over in compared:
        own, its = time(mine, over), time(fitted, over)
        names = [table.table[kept].values.tolist() for table in (mine, fitted)]
        comparable = names[0] == names[1] and own.shape == its.shape
        if comparable and not np.allclose(own, its, rtol=1e-6, atol=1e-9):
            return False
    return True
