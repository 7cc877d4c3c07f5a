"""Patients predicted from others, without fitting again but where that is asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from bayesblina.checks.pointwise import (
    BLOCK,
    Pointwise,
    efficiencies,
    of_patients,
    pointwise,
    predicted,
    smoothed,
    weights_of_patients,
)
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError, require_kind
from bayesblina.hazards.build import BuiltModel, build_model, with_weights
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.inference.convergence import SamplerSettings, assess_convergence
from bayesblina.inference.fitting import Fit
from bayesblina.inference.sampling import evaluate, sample, unconstrain
from bayesblina.patients.account import to_html
from bayesblina.person_time.cells import PersonTime

LEAVE_ONE_OUT = "leave one patient out"
# What is known of all of a patient's follow-up, from that of its pieces.
OF_PIECES = {"begin": np.fmin, "exit": np.fmax, "event": np.maximum}


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
    starts_until
        Where events are found at visits, until when phases may start (as of `bayesblina.Question`);
        else None.
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
    starts_until: str | None = None

    @property
    def reliable(self) -> bool:
        """Whether no patient's Pareto k is above the limit."""
        return self.above == 0

    @property
    def above(self) -> int:
        """How many patients' Pareto k is above the limit."""
        return int((self.pareto_k > self.limit).sum())

    def _lines(self) -> list[tuple[str, str]]:
        """Say what it is, never of which patients."""
        kind = "synthetic " if self.synthetic else ""
        values = self.elpd.values
        return [
            ("scheme", self.scheme),
            ("endpoints", ", ".join(self.endpoints)),
            ("patients", f"{values.size} {kind}patients"),
            ("ELPD", f"{values.sum():.1f} (SE {standard_error(values):.1f})"),
            ("reliable", "yes" if self.reliable else f"NO: {self.above} patients above the limit"),
            ("convergence", "passed" if self.converged else "NOT CONVERGED"),
        ]

    def __repr__(self) -> str:
        """Show counts, never patients."""
        return f"Prediction({'; '.join(f'{name} {text}' for name, text in self._lines())})"

    def _repr_html_(self) -> str:
        return to_html(("Prediction", "" if self.converged else "NOT CONVERGED"), self._lines())


def standard_error(values: Floats) -> float:
    """Of the sum of one value by patient."""
    return float(np.sqrt(values.size * values.var(ddof=1)))


def prediction_of(
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
    """Put a prediction together from densities by patient, those at the positions `used`."""
    names = person_time.endpoints if endpoint is None else (endpoint,)
    rows, person_of = person_time.persons.rows(used)
    people = person_time.people.isel(patient=rows)
    first = np.flatnonzero(np.diff(person_of, prepend=-1))
    follow_up = {
        f"{what} {name}": reduce.reduceat(
            people[what].sel(endpoint=name).values.astype(float), first
        )
        for name in names
        for what, reduce in OF_PIECES.items()
    }
    follow_up["weight"] = people["weight"].values[first]
    coords = {"patient": person_time.persons.ids[used]}
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
        follow_up=pd.DataFrame(follow_up, index=coords["patient"]),
        starts_until=None
        if person_time.visits is None
        else str(person_time.visits.attrs["starts_until"]),
    )


def held_out(
    built: BuiltModel,
    person_time: PersonTime,
    out: Ints,
    endpoint: str | None,
    settings: SamplerSettings,
    seed: int,
) -> tuple[Floats, bool]:
    """Log predictive densities of patients by a fit without them, and whether it converged."""
    with_weights(built, person_time, np.where(np.isin(person_time.persons.of, out), 0.0, 1.0))
    tree, _ = sample(built, seed=seed, settings=settings)
    posterior, weight = tree["posterior"].to_dataset(), weights_of_patients(person_time, out)
    values = of_patients(posterior, person_time, built.design, out, endpoint)
    held = values.reshape(-1, out.size) / weight
    density = weight * (logsumexp(held, axis=0) - np.log(held.shape[0]))
    return np.asarray(density), assess_convergence(tree).passed


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
    person_time = fit.person_time
    # An error where only sums over patients are known.
    _ = person_time.people
    used = predicted(person_time, fit.definition, endpoint)
    draws = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
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
    by_patient = pointwise(fit, endpoint=endpoint, rows=used)
    elpd, pareto_k = by_patient.elpd.copy(), by_patient.pareto_k.copy()
    converged = fit.converged
    bad = np.flatnonzero(pareto_k > by_patient.limit)
    if moment_match and bad.size:
        elpd[bad], pareto_k[bad] = _moment_matched(fit, by_patient, bad, endpoint)
    if refit:
        built = build_model(fit.definition, person_time)
        for index in np.flatnonzero(pareto_k > by_patient.limit):
            elpd[[index]], passed = held_out(
                built,
                person_time,
                used[[index]],
                endpoint,
                fit.provenance.settings,
                fit.provenance.seed + 1 + int(index),
            )
            pareto_k[index] = 0.0
            converged &= passed
    return prediction_of(
        person_time,
        endpoint,
        used,
        elpd=elpd,
        pareto_k=pareto_k,
        limit=by_patient.limit,
        effective=float(by_patient.lpd.sum() - elpd.sum()),
        scheme=LEAVE_ONE_OUT,
        converged=converged,
    )


def _moment_matched(
    fit: Fit, by_patient: Pointwise, bad: Ints, endpoint: str | None
) -> tuple[Floats, Floats]:
    """Improve importance sampling for some patients: their log densities and Pareto k."""
    built = build_model(fit.definition, fit.person_time)
    rows, sizes = by_patient.rows[bad], fit.posterior.sizes
    values = of_patients(fit.posterior, fit.person_time, fit.design, rows, endpoint)
    log_weights, _ = smoothed(values)

    def labelled(numbers: Floats) -> xr.DataArray:
        return xr.DataArray(numbers, dims="patient", coords={"patient": np.arange(bad.size)})

    def shaped(numbers: Floats, like: xr.Dataset | xr.DataArray) -> xr.DataArray:
        """Give the draws of another array, of which there may be some only."""
        shape = (like.sizes["chain"], like.sizes["draw"], *numbers.shape[1:])
        dims = ("chain", "draw", "coordinate")[: len(shape)]
        coords = {"chain": like["chain"], "draw": like["draw"]}
        return xr.DataArray(numbers.reshape(shape), dims=dims, coords=coords)

    def at(points: xr.DataArray) -> tuple[Floats, xr.Dataset]:
        return evaluate(built, flat_draws(points.to_dataset(name="points"), "points", "coordinate"))

    def log_density(points: xr.DataArray) -> xr.DataArray:
        return shaped(at(points)[0], points)

    def log_likelihood(points: xr.DataArray, patient: int) -> xr.DataArray:
        alone = of_patients(at(points)[1], fit.person_time, fit.design, rows[[patient]], endpoint)
        return shaped(alone.ravel(), points)

    draws = shaped(values.reshape(-1, bad.size), fit.posterior).rename(coordinate="patient")
    draws = draws.assign_coords(patient=np.arange(bad.size))
    before = az.ELPDDataLOO(
        elpd=float(by_patient.elpd[bad].sum()),
        se=0.0,
        p=0.0,
        n_samples=sizes["chain"] * sizes["draw"],
        n_data_points=bad.size,
        scale="log",
        warning=True,
        good_k=by_patient.limit,
        elpd_i=labelled(by_patient.elpd[bad]),
        pareto_k=labelled(by_patient.pareto_k[bad]),
        log_weights=draws.copy(data=log_weights.T.reshape(values.shape)),
    )
    with warnings.catch_warnings():
        # A prediction itself says whose Pareto k is too high; and the standard error of one
        # patient's density is not used.
        for message in ("Estimated shape parameter", "After Moment Matching", "Degrees of freedom"):
            warnings.filterwarnings("ignore", message=message)
        result = az.loo_moment_match(
            xr.DataTree.from_dict(
                {"/posterior": fit.posterior, "/log_likelihood": draws.to_dataset(name="survival")}
            ),
            before,
            log_prob_upars_fn=log_density,
            log_lik_i_upars_fn=log_likelihood,
            upars=shaped(unconstrain(built, fit.posterior), fit.posterior),
            var_name="survival",
            reff=labelled(efficiencies(values)),
            pointwise=True,
        )
    return np.asarray(result.elpd_i.values), np.asarray(result.pareto_k.values)
