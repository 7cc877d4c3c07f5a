"""From patients and a question to draws: the one call that fits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from os import PathLike

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import ConvergenceError, SpecError, require_kind
from bayesblina.core.tables.numbers import BASELINE, CONVERGED, EVENT_TIMES, LONG, SHORT
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.parts import Free, PowerPrior
from bayesblina.inference.baseline_gate import BaselineGate, exposed_sds, gate_of, not_compared
from bayesblina.inference.companion import Companion, partial_posterior
from bayesblina.inference.convergence import Convergence, SamplerSettings, sampler_settings
from bayesblina.inference.drawing import NO_COMPANION, NOT_ASKED, by_partial_likelihood, sampled
from bayesblina.inference.model_data import person_time_for, power_weights
from bayesblina.inference.visit_gate import DRAWS, visit_gate
from bayesblina.patients.account import to_html
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time.cells import MANY, PersonTime, own_cuts
from bayesblina.person_time.event_times import EventTimes, coarse_event_times
from bayesblina.person_time.question import Question

# What is hashed of a person-time's table; the rest follows from it and from the patients.
HASHED = (
    "design",
    "events",
    "person_time",
    "interval_start",
    "interval_stop",
    "role",
    "since",
    "treatment",
)
LIBRARIES = ("bayesblina", "pymc", "nutpie", "pytensor", "numba", "arviz", "numpy", "xarray")
NOT_COMPARED = not_compared(NOT_ASKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a fit came from.

    Attributes
    ----------
    seed
        Seed of the draws.
    settings
        How long was sampled.
    data_hash
        SHA-256 of the events and person-time used.
    versions
        Versions of the libraries.
    seconds
        Duration of each stage.
    engine
        ``"compiled"`` or ``"pymc"`` (see `bayesblina.inference.sampling`).
    notes
        Anything that was not done, and why.
    """

    seed: int
    settings: SamplerSettings
    data_hash: str
    versions: Mapping[str, str]
    seconds: Mapping[str, float]
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Draws from the posterior, with all that is needed to read and to repeat them.

    Attributes
    ----------
    draws : xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``prior``, ``log_likelihood`` (variable
        ``survival`` over (chain, draw, patient): all endpoints together), ``observed_data``,
        ``constant_data``.
    question
        The question.
    definition
        The hazard model.
    person_time
        Events and person-time.
    convergence
        Outcome of the convergence gate.
    provenance
        Where it came from.
    companion
        The same hazard ratios without a baseline, or why there are none.
    gate
        The baseline gate: whether the baseline moves the hazard ratios.
    event_times
        Whether event times are those of visits; None where it was not looked at.
    """

    draws: xr.DataTree
    question: Question
    definition: ModelDefinition
    person_time: PersonTime
    convergence: Convergence
    provenance: Provenance
    companion: Companion = NO_COMPANION
    gate: BaselineGate = NOT_COMPARED
    event_times: EventTimes | None = None

    @property
    def posterior(self) -> xr.Dataset:
        """Draws of the parameters, over (chain, draw, ...)."""
        return self.draws["posterior"].to_dataset()

    @property
    def converged(self) -> bool:
        """Whether the draws passed the convergence gate."""
        return self.convergence.passed

    @property
    def design(self) -> Design:
        """Phase contrasts and standardised covariates."""
        return make_design(self.person_time, self.definition)

    @property
    def failed(self) -> tuple[str, ...]:
        """Gates that were failed: of ``"converged"``, ``"baseline"`` and ``"event_times"``."""
        outcomes = {
            CONVERGED: self.converged,
            BASELINE: self.gate.passed,
            EVENT_TIMES: self.event_times is None or self.event_times.passed,
        }
        return tuple(name for name, passed in outcomes.items() if not passed)

    def require_converged(self) -> None:
        """Raise unless the draws passed the convergence gate.

        Raises
        ------
        ConvergenceError
            With the criteria that failed.
        """
        if not self.converged:
            raise ConvergenceError("Not converged: " + "; ".join(self.convergence.failures()))

    def __repr__(self) -> str:
        """Show the model, the size and whether it converged."""
        sizes = self.draws["posterior"].sizes
        state = "converged" if self.converged else SHORT[CONVERGED]
        if self.gate.state in ("told", "not compared"):
            state += f", baseline {self.gate.state}"
        marks = [LONG[name].partition(":")[0] for name in self.failed if name != CONVERGED]
        kind = ", synthetic patients" if self.person_time.synthetic else ""
        return (
            f"Fit({self.definition.name}; {', '.join(self.person_time.endpoints)}; "
            f"{sizes['chain']} chains x {sizes['draw']} draws; {'; '.join([state, *marks])}{kind})"
        )

    def _repr_html_(self) -> str:
        sizes = self.draws["posterior"].sizes
        failed = "NOT CONVERGED, do not use: " + "; ".join(self.convergence.failures())
        event_times = (
            "not looked at"
            if self.event_times is None
            else "; ".join(self.event_times.messages) or "no sign of visits"
        )
        rows = [
            ("model", f"{self.definition.name}: {self.definition.title}"),
            ("compared", f"{self.question.exposure} against {self.question.against}"),
            ("draws", f"{sizes['chain']} chains x {sizes['draw']}, seed {self.provenance.seed}"),
            ("convergence", "passed" if self.converged else failed),
            ("baseline", self.gate.words()),
            ("event times", event_times),
            *(("note", text) for text in self.provenance.notes),
        ]
        marks = ", ".join(LONG[name].partition(":")[0] for name in self.failed)
        return (
            to_html(("Fit", marks), rows) + self.gate._repr_html_() + self.person_time._repr_html_()
        )


def fit(
    cohort: Cohort | CohortScan,
    question: Question,
    *,
    seed: int,
    model: str | PathLike[str] | ModelDefinition = "primary",
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    compress: bool | None = None,
    landmarks: Sequence[float] = (),
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    cores: int | None = None,
    progress: bool = True,
) -> Fit:
    """Fit a hazard model to a cohort; all endpoints together, compiled once.

    Parameters
    ----------
    cohort
        The patients: a `Cohort`, or a `CohortScan`, whose patients stay in their query engine.
    question
        Who is compared, and how.
    seed
        Seed of the draws, from 0 on; the same seed gives the same draws on the same machine.
    model
        Name of a shipped model, path of a model file, or a definition.
    cuts : array_like, shape (n_intervals - 1,), optional
        Inner cut points in the cohort's unit; by default chosen from the events.
    phase_cuts : array_like, shape (n_pieces - 1,), optional
        For a model whose effect varies with time since entering the exposed phase: the times since
        entry at which it may change; by default chosen from the events in the phase.
    weights : array_like, shape (patient,), optional
        Weights of the cohort's patients, in its order or as a pandas Series whose index holds the
        ids. The posterior is then a weighted pseudo-posterior, and the provenance says so.
    compress, landmarks
        As for `bayesblina.person_time`.
    draws, tune
        Draws kept and draws for adaptation, per chain.
    chains, cores
        Number of chains, and how many run at the same time.
    progress
        Whether to show a progress bar (on a terminal or in a notebook).

    Returns
    -------
    Fit
        Marked by whether it passed the convergence gate; nothing is raised if it did not.

    Raises
    ------
    DataError
        If there is nothing to compare.
    SpecError
        If the question, the cuts or the model are impossible.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> fit
    Fit(primary; os, rfs; 4 chains x 1000 draws; converged, synthetic patients)
    """
    require_kind(cohort, Cohort | CohortScan, "cohort")
    require_kind(question, Question, "question")
    settings = sampler_settings(draws, tune, chains, cores, seed)
    definition = model if isinstance(model, ModelDefinition) else load_model(model)
    clock = time.perf_counter()
    person_time = person_time_for(
        definition,
        cohort,
        question,
        cuts=cuts,
        phase_cuts=phase_cuts,
        weights=weights,
        compress=compress,
        landmarks=landmarks,
    )
    spent = {"person_time": time.perf_counter() - clock}
    fitted = fit_person_time(
        definition,
        person_time,
        question,
        seed=seed,
        settings=settings,
        weighted=weights is not None,
        compared=question.starts_until is None,
        progress=progress,
        before=spent,
    )
    if question.starts_until is None:
        return fitted

    def again(asked: Question, chosen: Floats | None) -> PersonTime:
        return person_time_for(
            definition,
            cohort,
            asked,
            cuts=chosen,
            phase_cuts=phase_cuts,
            weights=weights,
            compress=compress,
        )

    return _compared_at_visits(fitted, again, given=cuts is not None)


def _compared_at_visits(
    fitted: Fit, again: Callable[[Question, Floats | None], PersonTime], *, given: bool
) -> Fit:
    """Hold a fit with events found at visits against others, and exact ones against a companion.

    `again`: sums events and person-time for another question, with other cut points.
    `given`: whether the cut points are the user's own.
    """
    person_time, question, clock = fitted.person_time, fitted.question, time.perf_counter()
    names, seed = person_time.endpoints, fitted.provenance.seed
    visited = [name for name in names if person_time.recorded[name] == "visits"]
    others = tuple(name for name in names if name not in visited)
    # Of all endpoints together there is none; it says why.
    companion = partial_posterior(fitted.definition, person_time, seed=seed)
    exact = None
    if others:
        alone = replace(question, endpoints=others, starts_until=None)
        theirs = partial_posterior(fitted.definition, again(alone, None), seed=seed)
        exact = gate_of(
            fitted.posterior.sel(endpoint=list(others)),
            theirs.draws,
            stated=theirs.table,
            reason=theirs.reason,
        )
    settings = sampler_settings(DRAWS, DRAWS, 4, fitted.provenance.settings.cores, seed)

    def refit(asked: Question, cuts: Floats | None) -> xr.Dataset:
        return fit_person_time(
            fitted.definition,
            again(asked, cuts),
            asked,
            seed=seed,
            settings=settings,
            complete=False,
        ).posterior

    gate, notes = visit_gate(
        fitted.posterior,
        question,
        visited=visited,
        cuts={name: person_time.cuts if given else own_cuts(person_time, name) for name in visited},
        last=float(person_time.table["last_exit"].max()),
        exact=exact,
        refit=refit,
    )
    record = fitted.provenance
    return replace(
        fitted,
        companion=companion,
        gate=gate,
        provenance=replace(
            record,
            notes=(*record.notes, *notes),
            seconds={**record.seconds, "companion": time.perf_counter() - clock},
        ),
    )


def fit_person_time(
    definition: ModelDefinition,
    person_time: PersonTime,
    question: Question,
    *,
    seed: int,
    settings: SamplerSettings,
    weighted: bool = False,
    complete: bool = True,
    compared: bool | None = None,
    progress: bool = False,
    before: Mapping[str, float] | None = None,
) -> Fit:
    """Fit a model to events and person-time.

    `complete`: whether to keep draws from the prior and the patient-level log-likelihood.
    `compared`: whether to compare the hazard ratios with those of a model without a baseline; by
    default where `complete`.
    """
    if isinstance(definition.baseline, Free):
        drawn = by_partial_likelihood(
            definition, person_time, seed=seed, settings=settings, complete=complete
        )
    else:
        drawn = sampled(
            definition,
            person_time,
            seed=seed,
            settings=settings,
            complete=complete,
            compared=complete if compared is None else compared,
            progress=progress,
        )
    tree, companion = drawn.tree, drawn.companion
    tree["observed_data"] = xr.DataTree(person_time.table[["events"]])
    tree["constant_data"] = xr.DataTree(person_time.table.drop_vars("events"))
    posterior = tree["posterior"].to_dataset()
    sds = exposed_sds(posterior)
    notes = list(drawn.notes)
    if weighted:
        notes.append(
            "patients have weights: this is a weighted pseudo-posterior, whose interval is not "
            "that of the estimate; weighted_effect gives it for weights of a model of starting, "
            "bayesian_bootstrap for weights that are known"
        )
    if isinstance(definition.borrowing, PowerPrior):
        notes.append(f"external patients count {definition.borrowing.weight:g} each (power prior)")
    return Fit(
        draws=tree,
        question=question,
        definition=definition,
        person_time=person_time,
        convergence=drawn.convergence,
        provenance=Provenance(
            seed=int(seed),
            settings=settings,
            data_hash=hash_of(person_time),
            versions={name: version(name) for name in LIBRARIES},
            seconds={**(before or {}), **drawn.seconds},
            engine=drawn.engine,
            notes=tuple(notes),
        ),
        companion=companion,
        gate=NOT_COMPARED
        if companion is NO_COMPANION
        else gate_of(posterior, companion.draws, stated=companion.table, reason=companion.reason),
        # Draws that never moved say nothing of visits.
        event_times=coarse_event_times(person_time, sds)
        if all(sd > 0 for sd in sds.values())
        else None,
    )


def weights_of(fit: Fit, cohort: Cohort) -> Floats | None:
    """Find the weights with which a cohort was fitted, as `fit` takes them.

    Result, shape (patient,): in the cohort's order, 1 for patients who do not contribute; None
    where there were none. What a power prior multiplies by is not in them: the model does so again.
    """
    if not fit.person_time.weighted:
        return None
    people = fit.person_time.people
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    ids = [str(patient) for patient in people["patient"].values]
    if not set(ids) <= set(row):
        raise SpecError(
            "The cohort is not the one that was fitted: patients of the fit are not in it."
        )
    rows = np.array([row[patient] for patient in ids], dtype=np.int64)
    weights = np.ones(cohort.size)
    weights[rows] = people["weight"].values
    if isinstance(fit.definition.borrowing, PowerPrior):
        weights[rows] /= power_weights(fit.definition, cohort, None)[rows]
    return weights


def hash_of(person_time: PersonTime) -> str:
    """Hash events, person-time and patients.

    SHA-256 of all numbers of the table; and of the single patients, unless they are many or only
    sums over them are known.
    """
    digest = hashlib.sha256()
    parts = [(person_time.table, list(HASHED))]
    if person_time.complete and person_time.size < MANY:
        people = sorted(map(str, person_time.people.drop_vars("category").data_vars))
        episodes = sorted(map(str, person_time.episodes.data_vars))
        parts += [(person_time.people, people), (person_time.episodes, episodes)]
    for dataset, names in parts:
        for name in names:
            values = dataset[name].values
            digest.update(name.encode())
            values = values.astype(str) if values.dtype.kind in "OU" else values
            digest.update(values.tobytes())
    return digest.hexdigest()
