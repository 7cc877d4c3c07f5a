"""From patients and a question to draws: the one call that fits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arguments import require_kind, require_seed
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import ConvergenceError, SpecError
from bayesblina.core.intervals import default_cuts
from bayesblina.core.tables.marks import BASELINE, CONVERGED, EVENT_TIMES, LONG, SHORT
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.hazards.parts import (
    Free,
    IllnessDeath,
    PatientFrailty,
    PhasesSinceEntry,
    PowerPrior,
)
from bayesblina.inference.baseline_gate import BaselineGate, exposed_sds, gate_of, not_compared
from bayesblina.inference.companion import Companion, partial_posterior
from bayesblina.inference.convergence import Convergence, assess_convergence, assess_weights
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.inference.step_baseline import jump_cuts, step_baseline
from bayesblina.patients.account import to_html
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time import cells
from bayesblina.person_time.cells import MANY, PersonTime, valid_weights
from bayesblina.person_time.event_times import EventTimes, coarse_event_times
from bayesblina.person_time.follow_up import (
    find_episodes,
    hazard_before_observation,
    require_comparison,
)
from bayesblina.person_time.question import ENTRY, Question, bind

if TYPE_CHECKING:
    from bayesblina.hazards.build import BuiltModel


# Patients x draws above which the patient-level log-likelihood is not kept with the draws.
LARGEST_LOG_LIKELIHOOD = 50_000_000
PRIOR_DRAWS = 4000
SAMPLES = ("chain", "draw")
# Compressed covariates may change sums of hazards by this factor at most.
LARGEST_COMPRESSION_ERROR = 1e-6
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
# Of patients with effects of their own, or of their groups, this hazard may pass before they are
# observed: their sd is then found too small by some 2 %, and hazards by 7 %.
LARGEST_BEFORE = 0.05
LIBRARIES = ("bayesblina", "pymc", "nutpie", "pytensor", "numba", "arviz", "numpy", "xarray")
NOT_ASKED = "nobody asked for it"
NO_COMPANION = Companion(draws=None, table=pd.DataFrame(), reason=NOT_ASKED)
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
        rows = [
            ("model", f"{self.definition.name}: {self.definition.title}"),
            ("compared", f"{self.question.exposed} against {self.question.against}"),
            ("draws", f"{sizes['chain']} chains x {sizes['draw']}, seed {self.provenance.seed}"),
            ("convergence", "passed" if self.converged else failed),
            ("baseline", self.gate.words()),
            ("event times", _event_times_in_words(self.event_times)),
            *(("note", text) for text in self.provenance.notes),
        ]
        outcome = ", ".join(LONG[name].partition(":")[0] for name in self.failed)
        return (
            to_html(("Fit", outcome), rows)
            + self.gate._repr_html_()
            + self.person_time._repr_html_()
        )


def _event_times_in_words(found: EventTimes | None) -> str:
    if found is None:
        return "not looked at"
    return "; ".join(found.messages) or "no sign of visits"


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
        As for `bayesblina.expose`.
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
    return fit_person_time(
        definition,
        person_time,
        question,
        seed=seed,
        settings=settings,
        weighted=weights is not None,
        progress=progress,
        before={"person_time": time.perf_counter() - clock},
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

    Parameters
    ----------
    complete
        Whether to keep draws from the prior and the patient-level log-likelihood.
    compared
        Whether to compare the hazard ratios with those of a model without a baseline; by default
        where `complete`.
    """
    if isinstance(definition.baseline, Free):
        return _fit_free(
            definition,
            person_time,
            question,
            seed=seed,
            settings=settings,
            weighted=weighted,
            complete=complete,
            before=before,
        )
    # The libraries that sample are loaded here, after all that could be wrong with the question.
    from bayesblina.hazards.build import build_model

    exposed = time.perf_counter()
    built = build_model(definition, person_time)
    ready = time.perf_counter()
    tree, timing = _with_bar(built, seed=seed, settings=settings, show=progress)
    notes = []
    sampled = time.perf_counter()
    posterior = tree["posterior"].to_dataset()
    count = settings.draws * settings.chains
    if not complete:
        notes.append("draws from the prior and the patient-level log-likelihood were not kept")
    elif not person_time.complete:
        notes.append(
            "events and person-time were added up in a query engine: of single patients only a "
            f"sample of {person_time.patients().people.sizes['patient']} is known"
        )
    elif person_time.in_pieces:
        notes.append(
            "the patient-level log-likelihood was not kept: the follow-up of patients is in pieces"
        )
    elif person_time.size * count <= LARGEST_LOG_LIKELIHOOD:
        total = patient_log_likelihood(posterior, person_time, built.design)
        tree["log_likelihood"] = xr.DataTree(total.to_dataset(name="survival"))
    else:
        notes.append(
            "the patient-level log-likelihood was not kept: "
            f"{person_time.size} patients x {count} draws are too many"
        )
    notes += compression_notes(person_time, posterior, built.design)
    notes += _weighting_notes(definition, weighted=weighted)
    if complete:
        tree["prior"] = xr.DataTree(_prior(built, seed=seed))
    tree["observed_data"] = xr.DataTree(person_time.table[["events"]])
    tree["constant_data"] = xr.DataTree(person_time.table.drop_vars("events"))
    convergence = assess_convergence(tree)
    finished = time.perf_counter()
    companion, gate = NO_COMPANION, NOT_COMPARED
    if complete if compared is None else compared:
        companion = partial_posterior(definition, person_time, seed=seed)
        gate = gate_of(posterior, companion.draws, stated=companion.table, reason=companion.reason)
    event_times = _event_times(person_time, posterior)
    done = time.perf_counter()
    return Fit(
        draws=tree,
        question=question,
        definition=definition,
        person_time=person_time,
        convergence=convergence,
        provenance=Provenance(
            seed=int(seed),
            settings=settings,
            data_hash=hash_of(person_time),
            versions={name: version(name) for name in LIBRARIES},
            seconds={
                **(before or {}),
                "build": ready - exposed,
                "compile": float(timing["compile"]),
                "sample": float(timing["sample"]),
                "finish": finished - sampled,
                "companion": done - finished,
            },
            engine=str(timing["engine"]),
            notes=tuple(notes),
        ),
        companion=companion,
        gate=gate,
        event_times=event_times,
    )


def _fit_free(
    definition: ModelDefinition,
    person_time: PersonTime,
    question: Question,
    *,
    seed: int,
    settings: SamplerSettings,
    weighted: bool,
    complete: bool,
    before: Mapping[str, float] | None,
) -> Fit:
    """Draw log hazard ratios from the partial likelihood, and the jumps of the baseline."""
    began = time.perf_counter()
    count = settings.draws * settings.chains
    found = partial_posterior(definition, person_time, seed=seed, draws=count)
    if found.draws is None:
        raise SpecError(f"Model '{definition.name}' {found.reason}.")
    design = make_design(person_time, definition)
    # Draws are independent: chains are only a way to lay them out.
    whole = found.draws.sizes["draw"] == count
    chains = settings.chains if whole else 1
    ratios = xr.Dataset(
        {
            str(name): (
                values.dims,
                values.values.reshape(chains, -1, *values.shape[2:]),
            )
            for name, values in found.draws.data_vars.items()
        },
        coords={
            **{name: found.draws[name] for name in found.draws.coords if name not in SAMPLES},
            "chain": np.arange(chains),
            "draw": np.arange(found.draws.sizes["draw"] // chains),
        },
    )
    steps = step_baseline(person_time, design, ratios, seed=seed)
    posterior = ratios.assign(log_baseline=steps.log_baseline)
    sampled = time.perf_counter()
    notes = ["draws are independent: hazard ratios by partial likelihood, jumps given them"]
    if not whole:
        notes.append(f"only {posterior.sizes['draw']} draws were made: patients are many")
    largest = float(found.table["error"].max())
    if largest > 0.0:
        notes.append(f"event times were grouped: log hazard ratios are within {largest:.2g}")
    if steps.error > 0.0:
        notes.append(f"jumps of the hazard were grouped: survival is within {steps.error:.2g}")
    notes += compression_notes(person_time, posterior, design)
    notes += _weighting_notes(definition, weighted=weighted)
    tree = xr.DataTree.from_dict({"/posterior": posterior})
    if complete:
        tree["prior"] = xr.DataTree(_prior_ratios(definition, ratios, seed=seed))
    tree["observed_data"] = xr.DataTree(person_time.table[["events"]])
    tree["constant_data"] = xr.DataTree(person_time.table.drop_vars("events"))
    return Fit(
        draws=tree,
        question=question,
        definition=definition,
        person_time=person_time,
        convergence=assess_weights(ratios, found.table),
        provenance=Provenance(
            seed=int(seed),
            settings=settings,
            data_hash=hash_of(person_time),
            versions={name: version(name) for name in LIBRARIES},
            seconds={
                **(before or {}),
                "sample": sampled - began,
                "finish": time.perf_counter() - sampled,
            },
            engine="partial likelihood",
            notes=tuple(notes),
        ),
        companion=found,
        gate=gate_of(posterior, found.draws, stated=found.table),
        event_times=_event_times(person_time, posterior),
    )


def _event_times(person_time: PersonTime, posterior: xr.Dataset) -> EventTimes | None:
    """Look for visits, unless draws never moved."""
    sds = exposed_sds(posterior)
    return coarse_event_times(person_time, sds) if all(sd > 0 for sd in sds.values()) else None


def _weighting_notes(definition: ModelDefinition, *, weighted: bool) -> list[str]:
    """Say that patients have weights."""
    notes = []
    if weighted:
        notes.append(
            "patients have weights: this is a weighted pseudo-posterior, whose interval is not "
            "that of the estimate; weighted_effect gives it for weights of a model of starting, "
            "bayesian_bootstrap for weights that are known"
        )
    if isinstance(definition.borrowing, PowerPrior):
        notes.append(f"external patients count {definition.borrowing.weight:g} each (power prior)")
    return notes


def _prior_ratios(definition: ModelDefinition, ratios: xr.Dataset, *, seed: int) -> xr.Dataset:
    """Draw log hazard ratios from the prior; the baseline has none."""
    generator = np.random.default_rng([seed, 1])
    priors = {
        "log_hazard_ratio": definition.phases.prior,
        "coefficient": definition.covariates.prior,
    }
    variables = {
        str(name): (
            values.dims,
            generator.normal(
                priors[str(name)].mean, priors[str(name)].sd, (1, PRIOR_DRAWS, *values.shape[2:])
            ),
        )
        for name, values in ratios.data_vars.items()
    }
    coords = {name: ratios[name] for name in ratios.coords if name not in SAMPLES}
    return xr.Dataset(variables, coords=coords)


def swings(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[float]:
    """Find how far log hazards move over the ranges of compressed covariates.

    Returns
    -------
    list of float
        For each compressed covariate the largest absolute log hazard ratio between the middle and
        an end of its range, in any draw and endpoint.
    """
    found = person_time.compression
    assert found is not None
    names = list(design.term_names)
    largest = abs(posterior["coefficient"]).max(("chain", "draw", "endpoint")).values
    return [
        float(largest[names.index(axis.name)] / design.scale[names.index(axis.name)])
        * (axis.high - axis.low)
        / 2.0
        for axis in found.axes
    ]


def compression_notes(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[str]:
    """Say how continuous covariates were compressed, and bound the error.

    One note, or none where nothing is compressed.
    """
    found = person_time.compression
    if found is None:
        return []
    largest = swings(person_time, posterior, design)
    error = found.hazard_error(largest)
    alive = found.survival_error(largest, courses=person_time.courses is not None)
    if error > LARGEST_COMPRESSION_ERROR:
        raise SpecError(
            "Log hazard ratios of the continuous covariates are so large that compressing them may "
            f"be off by {error:.1g}: pass compress=False, or transform the covariates."
        )
    nodes = ", ".join(f"{axis.name} to {axis.nodes}" for axis in found.axes)
    return [
        f"continuous covariates were compressed (nodes: {nodes}); sums of hazards are within a "
        f"factor of 1 plus or minus {error:.1g} in every draw, survival averaged over the patients "
        f"within {alive:.1g}"
    ]


def sampler_settings(
    draws: int, tune: int, chains: int, cores: int | None, seed: int
) -> SamplerSettings:
    """Check how long is to be sampled."""
    whole: tuple[tuple[str, object, int], ...] = (
        ("draws", draws, 4),
        ("tune", tune, 1),
        ("chains", chains, 1),
        ("cores", 1 if cores is None else cores, 1),
    )
    for name, value, least in whole:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise SpecError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    require_seed(seed)
    return SamplerSettings(
        draws=int(draws),
        tune=int(tune),
        chains=int(chains),
        cores=None if cores is None else int(cores),
    )


def _with_bar(
    built: BuiltModel, *, seed: int, settings: SamplerSettings, show: bool
) -> tuple[xr.DataTree, dict[str, float | str]]:
    from bayesblina.inference.sampling import sample

    if not show:
        return sample(built, seed=seed, settings=settings)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("compiling", total=None)

        def report(finished: int, total: int, divergences: int) -> None:
            words = f"sampling, {divergences} divergences" if divergences else "sampling"
            bar.update(task, description=words, completed=finished, total=total)

        return sample(built, seed=seed, settings=settings, progress=report)


def _prior(built: BuiltModel, *, seed: int) -> xr.Dataset:
    """Draw the parameters that have a meaning of their own from the prior."""
    generator = np.random.default_rng([seed, 1])
    variables: dict[str, tuple[tuple[str, ...], Floats]] = {}
    coords: dict[str, list[str]] = {}
    for name, (dims, draw) in built.priors.items():
        values = draw(generator, PRIOR_DRAWS)
        variables[name] = (("chain", "draw", *dims), values[None])
        coords |= {dim: list(built.model.coords[dim]) for dim in dims}
    return xr.Dataset(variables, coords=coords)


def person_time_for(
    definition: ModelDefinition,
    cohort: Cohort | CohortScan,
    question: Question,
    *,
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    compress: bool | None = None,
    landmarks: Sequence[float] = (),
) -> PersonTime:
    """Sum events and person-time as a model needs them.

    Parameters
    ----------
    phase_cuts : array_like, shape (n_pieces - 1,), optional
        Times since entering the exposed phase; only for a model whose effect varies with it.
    """
    by_patient = isinstance(definition.groups, PatientFrailty)
    if not isinstance(cohort, Cohort):
        _require_cells(definition)
    elif cohort.persons is not None:
        _require_no_pieces(definition)
    _require_seen_from_the_start(definition, cohort, question)
    if definition.cure is not None:
        # Who is cured is a mixture over each patient's own follow-up.
        compress = False
    if isinstance(definition.borrowing, PowerPrior) and isinstance(cohort, Cohort):
        weights = _power_weights(definition, cohort, weights)
    courses = None
    if isinstance(definition.endpoints, IllnessDeath):
        courses = (definition.endpoints.death, definition.endpoints.relapse_free)
    if isinstance(definition.baseline, Free):
        if cuts is not None:
            raise SpecError(
                f"cuts are not for model '{definition.name}': its baseline jumps at the event "
                "times. Leave them out."
            )
        once = cells.person_time(cohort, question, cuts=[], weights=weights, courses=courses)
        cuts = jump_cuts(once)
    if not isinstance(definition.phases, PhasesSinceEntry):
        if phase_cuts is not None:
            raise SpecError(
                f"phase_cuts are for a model whose effect varies with time since entering the "
                f"phase, such as 'since_entry'; '{definition.name}' has none."
            )
        return cells.person_time(
            cohort,
            question,
            cuts=cuts,
            by_patient=by_patient,
            weights=weights,
            courses=courses,
            compress=compress,
            landmarks=landmarks,
        )
    if phase_cuts is None:
        if not isinstance(cohort, Cohort):
            raise SpecError(
                "Give phase_cuts: in a query engine the times since entering the phase at which "
                "its effect may change are not chosen from the events."
            )
        phase_cuts = _phase_cuts(cohort, question)
    return cells.person_time(
        cohort,
        question,
        cuts=cuts,
        phase_cuts=phase_cuts,
        by_patient=by_patient,
        weights=weights,
        courses=courses,
        compress=compress,
        landmarks=landmarks,
    )


def _require_seen_from_the_start(
    definition: ModelDefinition, cohort: Cohort | CohortScan, question: Question
) -> None:
    """Refuse left truncation where it selects the effects of patients or of groups."""
    alone = isinstance(definition.groups, PatientFrailty)
    if definition.groups is None or (alone and not isinstance(cohort, Cohort)):
        return
    if not isinstance(cohort, Cohort):
        late = [name for name in bind(question, cohort) if cohort.endpoints[name].entry is not None]
        if late and question.eligible_from == ENTRY and question.landmark is None:
            raise SpecError(
                f"Model '{definition.name}' has effects of groups, and how late patients of "
                f"{late[0]} come under observation is not told in a query engine: read them with "
                "read_cohort, declare that time as a phase and take it as eligible_from, or ask "
                "with a landmark."
            )
        return
    for name, hazard in hazard_before_observation(cohort, question).items():
        if hazard <= LARGEST_BEFORE:
            continue
        raise SpecError(
            f"Model '{definition.name}' has effects of {'patients' if alone else 'groups'}, but of "
            f"{name} patients come under observation so long after they became eligible that "
            f"about {hazard:.2g} events for each who is seen would have come before. Who is seen "
            "is more robust than who is not, and the model, which does not know that, would find "
            "too little difference and too low a hazard. If patients are only at risk from entry "
            "on, such as for relapse from remission, declare that time as a phase and take it as "
            "eligible_from; or ask with a landmark by which they are under observation; or take a "
            "model without such effects."
        )


def _require_cells(definition: ModelDefinition) -> None:
    """Refuse models that look at single patients."""
    single = {
        "effects of single patients": isinstance(definition.groups, PatientFrailty),
        "external patients who count less": isinstance(definition.borrowing, PowerPrior),
        "an illness-death course": isinstance(definition.endpoints, IllnessDeath),
        "cured patients": definition.cure is not None,
        "jumps at the event times": isinstance(definition.baseline, Free),
    }
    for what, wanted in single.items():
        if wanted:
            raise SpecError(
                f"Model '{definition.name}' has {what}, which needs patients in memory: read them "
                "with read_cohort, or take another model."
            )


def _require_no_pieces(definition: ModelDefinition) -> None:
    """Refuse models that need the whole follow-up of each patient in one row."""
    needs = {
        "effects of single patients": isinstance(definition.groups, PatientFrailty),
        "an illness-death course": isinstance(definition.endpoints, IllnessDeath),
        "cured patients": definition.cure is not None,
    }
    for what, wanted in needs.items():
        if wanted:
            raise SpecError(
                f"Model '{definition.name}' has {what}, which needs the whole follow-up of each "
                "patient; these are pieces or copies of it, each with a weight. Take another "
                "model, such as 'primary'."
            )


def weights_of(fit: Fit, cohort: Cohort) -> Floats | None:
    """Find the weights with which a cohort was fitted, as `fit` takes them.

    Returns
    -------
    ndarray, shape (patient,), or None
        In the cohort's order, 1 for patients who do not contribute; None where there were none.
        What a power prior multiplies by is not in them: the model does so again.
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
    place = np.array([row[one] for one in ids], dtype=np.int64)
    weights = np.ones(cohort.size)
    weights[place] = people["weight"].values
    if isinstance(fit.definition.borrowing, PowerPrior):
        weights[place] /= _power_weights(fit.definition, cohort, None)[place]
    return weights


def _power_weights(
    definition: ModelDefinition, cohort: Cohort, weights: ArrayLike | None
) -> Floats:
    """Let external patients count their share."""
    assert isinstance(definition.borrowing, PowerPrior)
    name = definition.borrowing.source
    found = None if name is None else cohort.covariates.get(name)
    if name is None or found is None or found.kind != "categorical":
        known = [key for key, one in cohort.covariates.items() if one.kind == "categorical"]
        raise SpecError(
            f"Model '{definition.name}' needs a categorical covariate that tells external "
            f"patients: name it with with_covariates(source=...). There are: "
            f"{', '.join(known) or 'none'}."
        )
    share = np.where(found.values == 0, 1.0, definition.borrowing.weight)
    own = valid_weights(weights, cohort)
    return share if own is None else share * own


def _phase_cuts(cohort: Cohort, question: Question) -> Floats:
    """Choose when the exposed phase's effect may change: quantiles of time since entry at events.

    At least the median.
    """
    episodes = find_episodes(cohort, question)
    require_comparison(episodes, question)
    entered = cohort.phase_start[:, cohort.phases.index(question.exposed)]
    times = np.concatenate(
        [
            (found.stop - entered[found.patient])[
                found.event & (found.phase == found.phases.index(question.exposed))
            ]
            for found in episodes.values()
        ]
    )
    if np.unique(times).size < 2:
        raise SpecError(
            f"Fewer than two events in {question.exposed}: its effect cannot vary with time since "
            "entering it. Take a model with a constant effect, or give phase_cuts."
        )
    cuts = default_cuts(times, endpoints=len(episodes))
    if cuts.size:
        return cuts
    return np.asarray(np.quantile(times, [0.5], method="inverted_cdf"))


def hash_of(person_time: PersonTime) -> str:
    """Hash events, person-time and patients.

    SHA-256 of all numbers of the table; and of the single patients, unless they are many or only
    sums over them are known.
    """
    digest = hashlib.sha256()
    parts = [(person_time.table, list(HASHED))]
    if person_time.complete and person_time.size < MANY:
        people = sorted(map(str, person_time.people.drop_vars("category").data_vars))
        parts.append((person_time.people, people))
        parts.append((person_time.episodes, sorted(map(str, person_time.episodes.data_vars))))
    for dataset, names in parts:
        for name in names:
            values = dataset[name].values
            digest.update(name.encode())
            content = (
                values.astype(str).tobytes() if values.dtype.kind in "OU" else values.tobytes()
            )
            digest.update(content)
    return digest.hexdigest()
