"""Models compared by how well they predict patients whom they have not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from bayesblina.checks.pointwise import (
    BLOCK,
    Pointwise,
    contributing,
    current,
    efficiencies,
    of_patients,
    pointwise,
    predicted,
    smoothed,
    weights_of_patients,
)
from bayesblina.core.arguments import require_kind, require_seed
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.hazards.build import BuiltModel, build_model, with_weights
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.effects import levels_of
from bayesblina.inference.convergence import assess_convergence
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.inference.sampling import evaluate, sample, unconstrain
from bayesblina.patients.account import to_html
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.question import Question

LEAVE_ONE_OUT = "leave one patient out"
STACKING_STEPS = 20_000
STACKING_PRECISION = 1e-10
# What is known of the whole follow-up, from that of its pieces.
_WHOLE = {"begin": np.fmin, "exit": np.fmax, "event": np.maximum}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """How well a model predicts each patient from the others.

    Attributes
    ----------
    elpd : xarray.DataArray
        Over patient: log predictive density of the patient's follow-up, for those who contribute.
    pareto_k : xarray.DataArray
        Over patient: Pareto k of the importance weights; 0 where nothing was reweighted.
    limit
        Pareto k above which an estimate is not reliable.
    effective
        Effective number of parameters; NaN where it is not known.
    scheme
        Who was left out at a time. Only predictions of one scheme can be compared.
    endpoints
        The endpoints predicted.
    unit
        Time unit.
    converged
        Whether all draws passed the convergence gate.
    synthetic
        Whether the patients are simulated.
    follow_up : pandas.DataFrame
        What was predicted, by patient: ``begin``, ``exit`` and ``event`` of each endpoint, and
        ``weight``.
    """

    elpd: xr.DataArray
    pareto_k: xr.DataArray
    limit: float
    effective: float
    scheme: str
    endpoints: tuple[str, ...]
    unit: str
    converged: bool
    synthetic: bool
    follow_up: pd.DataFrame

    @property
    def reliable(self) -> bool:
        """Whether no patient's Pareto k is above the limit."""
        return not bool((self.pareto_k > self.limit).any())

    def _lines(self) -> list[tuple[str, str]]:
        """Say what it is, never of which patients."""
        kind = "synthetic " if self.synthetic else ""
        values = self.elpd.values
        above = int((self.pareto_k > self.limit).sum())
        return [
            ("scheme", self.scheme),
            ("endpoints", ", ".join(self.endpoints)),
            ("patients", f"{values.size} {kind}patients"),
            ("ELPD", f"{values.sum():.1f} (SE {np.sqrt(values.size * values.var(ddof=1)):.1f})"),
            ("reliable", "yes" if self.reliable else f"NO: {above} patients above the limit"),
            ("convergence", "passed" if self.converged else "NOT CONVERGED"),
        ]

    def __repr__(self) -> str:
        """Show counts, never patients."""
        return f"Prediction({'; '.join(f'{name} {text}' for name, text in self._lines())})"

    def _repr_html_(self) -> str:
        return to_html(("Prediction", "" if self.converged else "NOT CONVERGED"), self._lines())


def compare(
    predictions: Mapping[str, Fit | Prediction], *, endpoint: str | None = None
) -> pd.DataFrame:
    """Compare models by the log predictive density of patients left out.

    Patients are aligned by their ids. The log-likelihood is that of patients, not of rows, so that
    models may have different cut points.

    Parameters
    ----------
    predictions
        By label: fits, for which Pareto-smoothed importance sampling leaves out one patient at a
        time (`loo`), or what `loo` and `k_fold` give.
    endpoint
        Compare by one endpoint; by default by all together. Only for fits.

    Returns
    -------
    pandas.DataFrame
        The best first: ``model``, ``rank``, ``elpd``, ``se``, ``elpd_difference`` (to the best) and
        ``se_difference``, paired over patients, ``p_loo``, ``weight`` (stacking),
        ``largest_pareto_k``, ``patients_above_limit``, ``reliable``, ``converged``. Differences
        of less than about 4, or less than twice their standard error, tell little.

    Raises
    ------
    SpecError
        If there are fewer than two, or what is compared differs: patients, their follow-up, time
        unit, endpoints, or who is left out at a time.
    EstimandError
        If a fit has no such endpoint.

    Notes
    -----
    Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4; stacking: Yao et al. (2018),
    doi:10.1214/17-BA1091.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fits = {
    ...     name: bb.fit(cohort, question, model=name, seed=1, progress=False)
    ...     for name in ("primary", "weibull")
    ... }
    >>> sorted(bb.compare(fits)["model"])
    ['primary', 'weibull']
    """
    require_kind(predictions, Mapping, "predictions")
    if len(predictions) < 2:
        raise SpecError("compare needs at least two models.")
    found = {}
    for label, one in predictions.items():
        if isinstance(one, Fit):
            found[str(label)] = loo(one, endpoint=endpoint)
        elif endpoint is not None:
            raise SpecError("endpoint is for fits; give it to loo or k_fold instead.")
        else:
            found[str(label)] = one
    first_label, first = next(iter(found.items()))
    order = np.sort(first.elpd["patient"].values.astype(str))
    for label, one in found.items():
        _require_same(first_label, first, label, one, order)
    elpd = np.stack([one.elpd.sel(patient=order).values for one in found.values()], axis=1)
    weights = stacking_weights(elpd)
    best = int(elpd.sum(axis=0).argmax())
    rows = []
    for index, (label, one) in enumerate(found.items()):
        difference = elpd[:, index] - elpd[:, best]
        rows.append(
            {
                "model": label,
                "elpd": float(elpd[:, index].sum()),
                "se": _standard_error(elpd[:, index]),
                "elpd_difference": float(difference.sum()),
                "se_difference": _standard_error(difference),
                "p_loo": one.effective,
                "weight": float(weights[index]),
                "largest_pareto_k": float(one.pareto_k.max()),
                "patients_above_limit": int((one.pareto_k > one.limit).sum()),
                "reliable": one.reliable,
                "converged": one.converged,
            }
        )
    table = pd.DataFrame(rows).sort_values("elpd", ascending=False, ignore_index=True)
    table.insert(1, "rank", np.arange(1, len(table) + 1))
    table.attrs |= {
        "scheme": first.scheme,
        "endpoints": ", ".join(first.endpoints),
        "unit": first.unit,
        "patients": order.size,
        "synthetic": int(first.synthetic),
    }
    return table


def _standard_error(values: Floats) -> float:
    return float(np.sqrt(values.size * values.var(ddof=1)))


def _require_same(
    first_label: str, first: Prediction, label: str, one: Prediction, order: NDArray[np.str_]
) -> None:
    both = f"'{first_label}' and '{label}'"
    for words, mine, other in (
        ("time units", first.unit, one.unit),
        ("endpoints", first.endpoints, one.endpoints),
        ("ways of leaving patients out", first.scheme, one.scheme),
    ):
        if mine != other:
            raise SpecError(f"{both} have different {words}: {mine} and {other}.")
    patients = np.sort(one.elpd["patient"].values.astype(str))
    if not np.array_equal(patients, order):
        apart = np.setxor1d(patients, order).size
        raise SpecError(
            f"{both} predict different patients: {apart} are in one of them only. Fit both to the "
            "same cohort with the same question."
        )
    weights = [part.follow_up["weight"].reindex(order.tolist()).to_numpy() for part in (first, one)]
    if not np.allclose(weights[0], weights[1], rtol=1e-9):
        raise SpecError(
            f"{both} weigh patients differently: a difference between them would be one of "
            "weights. Fit both with the same ones."
        )
    tables = [part.follow_up.reindex(order.tolist()).to_numpy(float) for part in (first, one)]
    differs = ~np.isclose(tables[0], tables[1], rtol=1e-9, equal_nan=True)
    if differs.any():
        raise SpecError(
            f"{both} predict different follow-up of {int(differs.any(axis=1).sum())} patients: "
            "fit both with the same question (landmark, lag, transplant)."
        )


def stacking_weights(elpd: Floats) -> Floats:
    """Weights of the mixture of predictive distributions that predicts best.

    Parameters
    ----------
    elpd : ndarray, shape (patient, model)
        Log predictive densities.

    Returns
    -------
    ndarray, shape (model,)
        Weights from 0 to 1 that add up to 1.

    Notes
    -----
    The mean log score is concave in the weights; each step is that of expectation-maximisation,
    which never lowers it.

    Examples
    --------
    >>> stacking_weights(np.log([[0.5, 0.1], [0.4, 0.1]])).round(3)
    array([1., 0.])
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weights = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(STACKING_STEPS):
        share = weights * density
        updated = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(updated - weights).max() < STACKING_PRECISION:
            break
        weights = updated
    return np.asarray(weights)


def loo(
    fit: Fit, *, endpoint: str | None = None, moment_match: bool = False, refit: bool = False
) -> Prediction:
    """Predict each patient from all others, without fitting again.

    Pareto-smoothed importance sampling of the draws. Effects of single patients are integrated out
    of the likelihood first. A patient is left out with all pieces or copies of the follow-up and
    the whole weight; the log density of what is predicted counts as often as the weight says, which
    is an estimate of the score in the weighted population, for weights that are taken as known. Of
    a model that borrows from external patients the current ones are predicted.

    Parameters
    ----------
    fit
        The fit.
    endpoint
        Endpoint; None for all together.
    moment_match
        Whether to move the draws towards what they would be without the patient, where the Pareto
        k is above its limit.
    refit
        Whether to fit again, exactly, without each patient whose Pareto k is (still) above its
        limit.

    Returns
    -------
    Prediction
        By patient.

    Raises
    ------
    EstimandError
        If the fit has no such endpoint, or weights vary during a patient's follow-up.
    SpecError
        If there are too many patients to match moments or to fit again, or moments are to be
        matched for patients with weights.

    Notes
    -----
    Moment matching: Paananen et al. (2021), doi:10.1007/s11222-020-09982-2.
    """
    require_kind(fit, Fit, "fit")
    fit.definition.require_hazard("Prediction of patients who are left out")
    posterior, person_time = fit.posterior, fit.person_time
    # An error where only sums over patients are known.
    _ = person_time.people
    used = predicted(fit, endpoint)
    draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    if draws * used.size > BLOCK and (moment_match or refit):
        raise SpecError(
            f"moment_match and refit are for fewer patients: {used.size} patients x {draws} "
            "draws do not fit into memory. Leave them out, or take fewer draws."
        )
    if moment_match and (weights_of_patients(person_time, used) != 1.0).any():
        raise SpecError(
            "moment_match is for patients without weights: take refit=True, which leaves them out "
            "exactly."
        )
    found = pointwise(fit, endpoint=endpoint, rows=used)
    elpd, pareto_k, converged = found.elpd.copy(), found.pareto_k.copy(), fit.converged
    if moment_match:
        bad = np.flatnonzero(pareto_k > found.limit)
        if bad.size:
            elpd[bad], pareto_k[bad] = _moment_matched(fit, found, bad, endpoint)
    if refit:
        built = build_model(fit.definition, person_time)
        for place in np.flatnonzero(pareto_k > found.limit):
            alone = np.array([used[place]])
            seed = fit.provenance.seed + 1 + int(place)
            held, passed = _held_out(
                built, person_time, alone, endpoint, fit.provenance.settings, seed
            )
            elpd[place], pareto_k[place] = held[0], 0.0
            converged &= passed
    return _prediction(
        person_time,
        endpoint,
        used,
        elpd=elpd,
        pareto_k=pareto_k,
        limit=found.limit,
        effective=float(found.lpd.sum() - elpd.sum()),
        scheme=LEAVE_ONE_OUT,
        converged=converged,
    )


@contextmanager
def _told_by_itself() -> Iterator[None]:
    """Leave out ArviZ's warnings of a high Pareto k: a prediction says whose is too high."""
    with warnings.catch_warnings():
        for message in ("Estimated shape parameter of Pareto", "After Moment Matching"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        # Of the standard error of one patient's density, which is not used.
        warnings.filterwarnings("ignore", message="Degrees of freedom", category=RuntimeWarning)
        yield


def k_fold(
    cohort: Cohort,
    question: Question,
    *,
    model: str | ModelDefinition = "primary",
    seed: int,
    folds: int = 10,
    by: str | None = None,
    endpoint: str | None = None,
    cuts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    settings: SamplerSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict patients by folds: fit without each fold, and predict it.

    Cut points and what the prior takes from data (the crude rate, the standardisation) are those
    of all patients in every fold, as they are where patients are left out by reweighting.

    Parameters
    ----------
    cohort, question, cuts, weights
        As for `bayesblina.fit`.
    model
        The model.
    seed
        Seed of the folds and of the draws.
    folds
        Number of folds; patients with events and exposed ones are spread evenly over them. As many
        as patients leaves out one at a time, exactly.
    by
        Covariate whose levels are the folds instead, such as a site: patients of a level are
        predicted from those of the others.
    endpoint
        Endpoint; None for all together.
    settings
        How long each fit is sampled.
    progress
        Called with the number of folds done and that of all.

    Returns
    -------
    Prediction
        By patient; to be compared with others of the same folds.

    Raises
    ------
    SpecError
        If the folds or the covariate are impossible.
    DataError
        If a fold leaves nobody exposed or no events to fit to.
    EstimandError
        If there is no such endpoint, or weights vary during a patient's follow-up.
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    require_seed(seed)
    definition = model if isinstance(model, ModelDefinition) else load_model(model)
    definition.require_hazard("Prediction of patients who are left out")
    settings = settings or SamplerSettings()
    person_time = person_time_for(definition, cohort, question, cuts=cuts, weights=weights)
    used = contributing(person_time, endpoint)
    mine = current(person_time, definition)
    if mine is not None:
        used = used[mine[used]]
    weights_of_patients(person_time, used)
    member, scheme = _folds(person_time, folds=folds, by=by, seed=seed)
    of = person_time.persons.of
    built = build_model(definition, person_time)
    count = int(member.max()) + 1
    elpd = np.zeros(member.size)
    converged = True
    for fold in range(count):
        out = np.flatnonzero(member == fold)
        _require_rest(person_time, (member != fold)[of], question, fold=fold)
        held, passed = _held_out(built, person_time, out, endpoint, settings, seed + 1 + fold)
        elpd[out] = held
        converged &= passed
        if progress is not None:
            progress(fold + 1, count)
    return _prediction(
        person_time,
        endpoint,
        used,
        elpd=elpd[used],
        pareto_k=np.zeros(used.size),
        limit=1.0,
        effective=float("nan"),
        scheme=scheme,
        converged=converged,
    )


def _prediction(
    person_time: PersonTime,
    endpoint: str | None,
    used: Ints,
    *,
    elpd: Floats,
    pareto_k: Floats,
    limit: float,
    effective: float,
    scheme: str,
    converged: bool,
) -> Prediction:
    persons = person_time.persons
    patients = persons.ids[used]
    names = person_time.endpoints if endpoint is None else (endpoint,)
    rows, place = persons.rows(used)
    people = person_time.people.isel(patient=rows)
    first = np.flatnonzero(np.diff(place, prepend=-1))
    columns = {}
    for name in names:
        for what, reduce in _WHOLE.items():
            values = people[what].sel(endpoint=name).values.astype(float)
            columns[f"{what} {name}"] = reduce.reduceat(values, first)
    columns["weight"] = people["weight"].values[first]
    coords = {"patient": patients}
    return Prediction(
        elpd=xr.DataArray(elpd, dims="patient", coords=coords),
        pareto_k=xr.DataArray(pareto_k, dims="patient", coords=coords),
        limit=limit,
        effective=effective,
        scheme=scheme,
        endpoints=tuple(names),
        unit=person_time.unit,
        converged=converged,
        synthetic=person_time.synthetic,
        follow_up=pd.DataFrame(columns, index=patients),
    )


def _held_out(
    built: BuiltModel,
    person_time: PersonTime,
    out: Ints,
    endpoint: str | None,
    settings: SamplerSettings,
    seed: int,
) -> tuple[Floats, bool]:
    """Log predictive densities of patients by a fit without them, and whether it converged."""
    left = np.zeros(person_time.persons.size, dtype=bool)
    left[out] = True
    with_weights(built, person_time, np.where(left[person_time.persons.of], 0.0, 1.0))
    tree, _ = sample(built, seed=seed, settings=settings)
    posterior = tree["posterior"].to_dataset()
    weight = weights_of_patients(person_time, out)
    values = of_patients(posterior, person_time, built.design, out, endpoint)
    held = values.reshape(-1, out.size) / weight
    density = weight * (logsumexp(held, axis=0) - np.log(held.shape[0]))
    return np.asarray(density), assess_convergence(tree).passed


def _folds(person_time: PersonTime, *, folds: int, by: str | None, seed: int) -> tuple[Ints, str]:
    """Fold of each patient, and what the folds are."""
    people, persons = person_time.people, person_time.persons
    size = persons.size
    if by is not None:
        categorical = [one.name for one in person_time.covariates if one.kind == "categorical"]
        if by not in categorical:
            raise SpecError(f"by: no categorical covariate '{by}'. {nearest(by, categorical)}")
        levels, level = levels_of(person_time, by, person_time.table["design"].values)
        if len(levels) < 2:
            raise SpecError(f"by: all eligible patients have {by} '{levels[0]}'.")
        member = np.empty(size, dtype=np.int64)
        member[persons.of] = level[people["category"].values]
        return member, f"folds by {by}"
    if not 2 <= folds <= size:
        raise SpecError(f"folds must be from 2 to the {size} patients, got {folds!r}.")
    if folds == size:
        return np.arange(size), LEAVE_ONE_OUT
    spent = person_time.episodes
    exposed = np.zeros(size, dtype=bool)
    role = person_time.table["role"].values == "exposed"
    exposed[persons.of[spent["patient"].values[role[spent["phase"].values]]]] = True
    events = np.bincount(persons.of, people["event"].values.sum(axis=0), minlength=size)
    shuffled = np.random.default_rng(seed).permutation(size)
    # Neighbours in this order are alike, and go to different folds.
    order = shuffled[np.lexsort((events[shuffled], exposed[shuffled]))]
    member = np.empty(size, dtype=np.int64)
    member[order] = np.arange(size) % folds
    return member, f"{folds} folds of patients, seed {seed}"


def _require_rest(
    person_time: PersonTime, kept: NDArray[np.bool_], question: Question, *, fold: int
) -> None:
    """Raise unless there is something to fit to without a fold."""
    people, spent = person_time.people, person_time.episodes
    role = person_time.table["role"].values
    inside = kept[spent["patient"].values]
    for index, name in enumerate(person_time.endpoints):
        rows = inside & (spent["endpoint"].values == index)
        roles = set(role[spent["phase"].values[rows]])
        events = bool((people["event"].values[index] & kept).any())
        if not events or not {"exposed", "reference"} <= roles:
            raise DataError(
                [
                    Problem(
                        column=name,
                        found=f"without fold {fold + 1} there are no events, or nobody is in or "
                        f"outside {question.exposed}",
                        expected="Take more folds of patients, or other levels.",
                    )
                ],
                source="the folds",
            )


def _moment_matched(
    fit: Fit, found: Pointwise, bad: Ints, endpoint: str | None
) -> tuple[Floats, Floats]:
    """Improve importance sampling for some patients: their log densities and Pareto k."""
    built = build_model(fit.definition, fit.person_time)
    posterior, rows = fit.posterior, found.rows[bad]
    sizes = (posterior.sizes["chain"], posterior.sizes["draw"])
    points = unconstrain(built, posterior)
    dims = ("chain", "draw", "coordinate")
    samples = {"chain": posterior["chain"], "draw": posterior["draw"]}
    start = xr.DataArray(points.reshape(*sizes, -1), dims=dims, coords=samples)
    values = of_patients(posterior, fit.person_time, fit.design, rows, endpoint)
    log_weights, _ = smoothed(values)
    ids = {"patient": np.arange(bad.size)}
    draws = xr.DataArray(values, dims=(*dims[:2], "patient"), coords={**samples, **ids})
    before = az.ELPDDataLOO(
        elpd=float(found.elpd[bad].sum()),
        se=0.0,
        p=0.0,
        n_samples=sizes[0] * sizes[1],
        n_data_points=bad.size,
        scale="log",
        warning=True,
        good_k=found.limit,
        elpd_i=xr.DataArray(found.elpd[bad], dims="patient", coords=ids),
        pareto_k=xr.DataArray(found.pareto_k[bad], dims="patient", coords=ids),
        log_weights=draws.copy(data=log_weights.T.reshape(values.shape)),
    )

    def flat(values: xr.DataArray) -> Floats:
        ordered = values.transpose(*dims).values
        return np.asarray(ordered.reshape(-1, ordered.shape[2]))

    def shaped(values: Floats, like: xr.DataArray) -> xr.DataArray:
        coords = {"chain": like["chain"], "draw": like["draw"]}
        shape = (like.sizes["chain"], like.sizes["draw"])
        return xr.DataArray(values.reshape(shape), dims=dims[:2], coords=coords)

    def log_density(values: xr.DataArray) -> xr.DataArray:
        return shaped(evaluate(built, flat(values))[0], values)

    def log_likelihood(values: xr.DataArray, patient: int) -> xr.DataArray:
        _, variables = evaluate(built, flat(values))
        alone = rows[[patient]]
        return shaped(of_patients(variables, fit.person_time, fit.design, alone, endpoint), values)

    with _told_by_itself():
        result = az.loo_moment_match(
            xr.DataTree.from_dict(
                {"/posterior": posterior, "/log_likelihood": draws.to_dataset(name="survival")}
            ),
            before,
            log_prob_upars_fn=log_density,
            log_lik_i_upars_fn=log_likelihood,
            upars=start,
            var_name="survival",
            reff=xr.DataArray(efficiencies(values), dims="patient", coords=ids),
            pointwise=True,
        )
    return np.asarray(result.elpd_i.values), np.asarray(result.pareto_k.values)
