"""What weighted follow-up says, with the spread of all that was estimated on the way there.

In every draw patients get random weights; the model of starting, the weights of follow-up, the
arms' curves and the hazard ratio are made again under them. All pieces of a patient, in both arms,
share the patient's weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy import sparse

from bayesblina.core import tables
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import (
    EstimandError,
    SpecError,
    require_at_least,
    require_kind,
    require_seed,
)
from bayesblina.core.product_limit import weigh_at_risk
from bayesblina.estimands.draws import blocks
from bayesblina.estimands.regimes import Never
from bayesblina.studies.weighting.weights import Basis, Weighted

DEFAULT_TIMES = 51
# Weights held at once: rows of follow-up x draws.
BLOCK = 500_000
NEWTON_STEPS = 50
PRECISION = 1e-10
SMALLEST = 1e-300
# Patients left out in turn, at most, to find how far draws must spread.
LEFT_OUT = 100
GAIN = 1e-4
LEAST_CONCENTRATION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedEffect:
    """Estimates of weighted follow-up, by draw of a Bayesian bootstrap of the patients.

    Attributes
    ----------
    hazard_ratio : xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint). Of an emulated trial it is the ratio of the
        first arm's hazard to the second's, averaged over the events: where hazards are not
        proportional it depends on how long patients are followed, and the curves are the answer.
        After `starting_weights` it is that of the state, started against not started yet.
    survival, survival_difference : xarray.Dataset or None
        Of an emulated trial: ``survival`` over (chain, draw, endpoint, regime, time), each arm's
        own product-limit curve on the time since becoming eligible, and
        ``survival_difference``, the first arm less the second.
    rmst, rmst_difference : xarray.Dataset or None
        Of an emulated trial: mean time event-free up to the horizon, over (chain, draw, endpoint,
        regime), and its difference.
    table : pandas.DataFrame
        One row per quantity: ``quantity``, ``regime``, ``time``, ``estimate`` (patients weighted
        alike), ``mean``, ``sd``, ``lower`` and ``upper`` (95 %) of the draws; for survival also
        ``at_risk``, the patients at risk in the arm just before, and ``effective_at_risk``, as how
        many of equal weight they count: (sum of weights)^2 over the sum of squares.
    estimand
        What is estimated, in a sentence for each part.
    """

    hazard_ratio: xr.Dataset
    survival: xr.Dataset | None = None
    survival_difference: xr.Dataset | None = None
    rmst: xr.Dataset | None = None
    rmst_difference: xr.Dataset | None = None
    table: pd.DataFrame
    estimand: dict[str, str]

    def __repr__(self) -> str:
        """Show the hazard ratio; curves are asked for by name."""
        row = self.table.set_index("quantity").loc["hazard_ratio"]
        return (
            f"WeightedEffect(hazard ratio {row['estimate']:.3g}, {row['lower']:.3g} to "
            f"{row['upper']:.3g}; {self.hazard_ratio.sizes['draw']} draws)"
        )

    def _repr_html_(self) -> str:
        notes = [f"{part}: {what}" for part, what in self.estimand.items()]
        return tables.publish(self.table, title=repr(self), notes=notes).to_html()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arms:
    """Weighted numbers at the event times of both arms, the arm that starts second.

    `times`, shape (time,): event times, rising.
    `events`, `at_risk`, shape (arm, time, draw): weighted events, and those at risk just before.
    """

    times: Floats
    events: Floats
    at_risk: Floats

    def survival(self, times: Floats) -> Floats:
        """Product-limit curves, shape (arm, time, draw)."""
        return np.asarray(self._steps()[:, np.searchsorted(self.times, times, side="right")])

    def rmst(self, horizon: float) -> Floats:
        """Areas below the curves up to a horizon, shape (arm, draw)."""
        inner = self.times[self.times < horizon]
        widths = np.diff(np.concatenate([[0.0], inner, [horizon]]))
        return np.asarray(np.einsum("t,atd->ad", widths, self._steps()[:, : widths.size]))

    def _steps(self) -> Floats:
        share = self.events / np.maximum(self.at_risk, np.maximum(self.events, SMALLEST))
        ones = np.ones((share.shape[0], 1, share.shape[2]))
        return np.concatenate([ones, np.cumprod(1.0 - share, axis=1)], axis=1)

    def log_hazard_ratio(self) -> Floats:
        """Log hazard ratio of the second arm by Breslow's partial likelihood, shape (draw,)."""
        either = self.events.sum(axis=0)
        # At times without anybody in one of the arms there is nothing to compare.
        events = np.where((self.at_risk > SMALLEST).all(axis=0), either, 0.0)
        first = np.where(events > 0, self.events[1], 0.0).sum(axis=0)
        reference = np.maximum(self.at_risk[0], SMALLEST)
        point = np.zeros(either.shape[1])
        for _ in range(NEWTON_STEPS):
            odds = np.exp(point) * self.at_risk[1] / reference
            share = odds / (1.0 + odds)
            information = (events * share * (1.0 - share)).sum(axis=0)
            score = first - (events * share).sum(axis=0)
            step = np.clip(score / np.maximum(information, SMALLEST), -1.0, 1.0)
            point = point + step
            if np.abs(step).max() < PRECISION:
                return np.asarray(point)
        raise EstimandError(
            "The hazard ratio has no finite estimate: in one arm nobody has the event while others "
            "are at risk in both."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ArmCounts:
    """Which rows are at risk at which event times: sums over rows are products with these."""

    times: Floats
    # Entries less exits, and events, by arm and event time, times rows; exits may come after all.
    moves: sparse.csr_array
    events: sparse.csr_array

    def arms(self, weights: Floats) -> Arms:
        """Sum weights, shape (row, draw)."""
        size = self.times.size
        at_risk = np.cumsum((self.moves @ weights).reshape(2, size + 1, -1), axis=1)[:, :-1]
        # What is left of nobody after sums that cancel.
        at_risk[at_risk < 1e-9 * at_risk.max(axis=1, keepdims=True)] = 0.0
        events = (self.events @ weights).reshape(2, size, -1)
        return Arms(times=self.times, events=events, at_risk=at_risk)


def _counted(basis: Basis) -> Basis:
    """Leave out rows between two event times: they count nowhere."""
    times = np.sort(basis.end[basis.course.event[basis.rows]])
    opens, closes = (np.searchsorted(times, edge, "right") for edge in (basis.begin, basis.end))
    return basis.only(np.flatnonzero(opens < closes))


def _arm_counts(basis: Basis) -> _ArmCounts:
    """Place rows among the event times of both arms."""
    event, arm = basis.course.event[basis.rows], basis.exposed.astype(np.int64)
    times = np.unique(basis.end[event])
    opens, closes = (np.searchsorted(times, edge, "right") for edge in (basis.begin, basis.end))
    moved = np.concatenate([opens, closes]) + np.tile(arm * (times.size + 1), 2)
    had = np.flatnonzero(event)
    happened = closes[had] - 1 + arm[had] * times.size
    return _ArmCounts(
        times=times,
        moves=sparse.csr_array(
            (np.repeat([1.0, -1.0], arm.size), (moved, np.tile(np.arange(arm.size), 2))),
            shape=(2 * (times.size + 1), arm.size),
        ),
        events=sparse.csr_array(
            (np.ones(had.size), (happened, had)), shape=(2 * times.size, arm.size)
        ),
    )


def _in_blocks(basis: Basis, weights: Floats) -> Iterator[Floats]:
    """Cut weightings, (patient, weighting), into as many as are worked on at once."""
    columns = blocks(weights.shape[1], basis.rows.size, most=BLOCK)
    return (weights[:, some] for some in columns)


def _concentration(basis: Basis, counts: _ArmCounts, seed: int) -> float:
    """Find the concentration at which draws have, to first order, the jackknife's variance.

    At 1 they have that of the infinitesimal jackknife, which is too small where a few patients
    carry much of the weight. Both are sums over patients, here over a sample of them.
    """
    eligible = np.flatnonzero(np.isfinite(basis.course.begin))
    chosen = np.random.default_rng([seed, 1]).permutation(eligible)[:LEFT_OUT]
    weights = np.ones((basis.course.begin.size, 1 + 2 * chosen.size))
    column = 1 + np.arange(chosen.size)
    weights[chosen, column] = GAIN**2
    weights[chosen, chosen.size + column] = 1.0 + GAIN
    ratios = np.concatenate(
        [_arms(basis, counts, part).log_hazard_ratio() for part in _in_blocks(basis, weights)]
    )
    without, more = np.split(ratios[1:] - ratios[0], 2)
    jackknife, infinitesimal = (without**2).sum(), ((more / GAIN) ** 2).sum()
    return float(np.clip(infinitesimal / jackknife, LEAST_CONCENTRATION, 1.0))


def _arms(basis: Basis, counts: _ArmCounts, patients: Floats) -> Arms:
    """Make the weights and sums over rows of weighted patients, (patient, weighting)."""
    weights = basis.weights(patients)
    weights *= patients.take(basis.patient, axis=0)
    return counts.arms(weights)


def _patient_weights(basis: Basis, draws: int, seed: int, concentration: float) -> Floats:
    """Draw Dirichlet weights of mean 1 of the eligible patients: (patient, draw)."""
    eligible = np.flatnonzero(np.isfinite(basis.course.begin))
    given = np.random.default_rng(seed).standard_gamma(concentration, (draws, eligible.size)).T
    weights = np.zeros((basis.course.begin.size, draws))
    weights[eligible] = given / given.mean(axis=0)
    return weights


def weighted_effect(
    weighted: Weighted,
    *,
    seed: int,
    draws: int = 1000,
    times: ArrayLike | None = None,
    horizon: float | None = None,
) -> WeightedEffect:
    """Estimate what weighted follow-up says, with the interval of the estimate.

    A Bayesian bootstrap by patient: each draw gives the patients Dirichlet weights and makes the
    model of starting, the weights, the curves and the hazard ratio again under them. No prior is
    put on the effect, and no form on the hazards of an emulated trial's arms. Limits of truncated
    weights are those of the patients weighted alike.

    The concentration of the Dirichlet weights is 1 (Rubin's) where patients are many. Where a few
    carry much of the weight, draws at 1 spread too little: to first order their variance is that of
    the infinitesimal jackknife. The concentration is so far below 1 that the variance of the log
    hazard ratio is that of the jackknife, whose bias is to the safe side. It stands in the
    attribute ``concentration`` of what is given.

    Parameters
    ----------
    weighted
        What `starting_weights` or `clone_censor_weight` gives.
    seed
        Seed of the patients' weights.
    draws
        Number of draws.
    times : array_like, shape (time,), optional
        Times since becoming eligible at which curves are wanted; by default 51 up to the last time
        at which both arms have somebody at risk. Of an emulated trial only.
    horizon
        End of the restricted mean; by default that last time. Of an emulated trial only.

    Returns
    -------
    WeightedEffect
        Hazard ratio; of an emulated trial also both arms' curves, restricted means, differences.

    Raises
    ------
    SpecError
        If there are fewer than two draws; if times are asked of `starting_weights`, which have no
        arms; or if those adjust for covariates, so that their ratio is conditional.
    EstimandError
        If times or the horizon lie beyond what both arms are followed for, or an arm has no events.

    Notes
    -----
    Rubin (1981), doi:10.1214/aos/1176345338. The jackknife's bias: Efron and Stein (1981),
    doi:10.1214/aos/1176345462. The hazard ratio is Breslow's with weights, as in
    Binder (1992), doi:10.1093/biomet/79.1.139; what it means where hazards are not proportional:
    Hernán (2010), doi:10.1097/EDE.0b013e3181c1ea43.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> trial = bb.weighting.clone_censor_weight(cohort, question, endpoint="os", grace=6.0)
    >>> effect = bb.weighting.weighted_effect(trial, seed=1, draws=100, times=[12.0, 24.0])
    >>> effect.survival_difference["survival_difference"].sizes["time"]
    2
    """
    require_kind(weighted, Weighted, "weighted")
    require_seed(seed)
    basis = weighted.basis
    require_at_least(draws, 2, "draws")
    trial = basis.grace is not None
    if not trial and (times is not None or horizon is not None):
        raise SpecError(
            "times and horizon are for an emulated trial: starting_weights have no arms. Ask them "
            "of clone_censor_weight."
        )
    if not trial and basis.course.adjust:
        raise SpecError(
            "These weights leave covariates to the hazard model (adjust), so that their ratio is "
            "conditional: make them without adjust, or take bayesian_bootstrap of a fit."
        )
    at, end = _asked(basis, times, horizon) if trial else (np.empty(0), 0.0)
    basis = _counted(basis)
    counts = _arm_counts(basis)
    for arm in (False, True):
        if not basis.course.event[basis.rows[basis.exposed == arm]].any():
            raise EstimandError(
                f"Nobody has the event {'after' if arm else 'without'} starting: there is no "
                "hazard ratio, and nothing to tell the curves apart by."
            )
    concentration = _concentration(basis, counts, seed)
    drawn = _patient_weights(basis, draws, seed, concentration)
    parts = []
    # First with all patients alike.
    for patients in (np.ones((drawn.shape[0], 1)), *_in_blocks(basis, drawn)):
        arms = _arms(basis, counts, patients)
        ratio = arms.log_hazard_ratio()[None]
        # The arm that starts comes first.
        parts.append([ratio, arms.survival(at)[::-1], arms.rmst(end)[::-1]] if trial else [ratio])
    values = [np.concatenate(blocks, axis=-1) for blocks in zip(*parts, strict=True)]
    return _effect(weighted, values, at, end, concentration)


def _asked(basis: Basis, times: ArrayLike | None, horizon: float | None) -> tuple[Floats, float]:
    """Check times and horizon against what both arms are followed for."""
    last = min(float(basis.end[basis.exposed == arm].max()) for arm in (False, True))
    at = np.linspace(0.0, last, DEFAULT_TIMES) if times is None else np.asarray(times, dtype=float)
    end = last if horizon is None else float(horizon)
    if at.ndim != 1 or not at.size or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise SpecError("times must be a list of rising, finite times.")
    if at[0] < 0 or at[-1] > last:
        raise EstimandError(
            f"times must lie from 0 to {last:g}: beyond it an arm has nobody at risk."
        )
    if not 0 < end <= last:
        raise EstimandError(
            f"horizon must be greater than 0 and at most {last:g}, got {end:g}: beyond it an arm "
            "has nobody at risk."
        )
    return at, end


def _effect(
    weighted: Weighted, values: list[Floats], times: Floats, horizon: float, concentration: float
) -> WeightedEffect:
    """Make datasets and the table of estimates, (..., draw), the first of them of all alike."""
    regimes = [weighted.question.exposure, Never().label]
    trial = weighted.basis.grace is not None
    attrs = {
        "unit": weighted.cohort.unit,
        "synthetic": int(weighted.cohort.synthetic),
        "landmark": 0.0,
        "concentration": concentration,
        "draws_of": "bootstrap",
        "origin": "becoming eligible",
    }
    table: list[dict[str, object]] = []

    def dataset(
        name: str, values: Floats, coords: Mapping[str, list[str] | Floats], **more: object
    ) -> xr.Dataset:
        """Tabulate one quantity and give its draws, in the dimensions of the estimands."""
        for index in np.ndindex(values.shape[:-1]):
            drawn = values[index][1:]
            lower, upper = np.quantile(drawn, [0.025, 0.975])
            table.append(
                {
                    "quantity": name,
                    "regime": "",
                    "time": np.nan,
                    **{key: coords[key][row] for key, row in zip(coords, index, strict=True)},
                    "estimate": values[index][0],
                    "mean": drawn.mean(),
                    "sd": drawn.std(ddof=1),
                    "lower": lower,
                    "upper": upper,
                }
            )
        drawn = np.moveaxis(values[..., 1:], -1, 0)[None, :, None]
        return xr.Dataset(
            {name: (("chain", "draw", "endpoint", *coords), drawn)},
            coords={"endpoint": [weighted.basis.course.endpoint], **coords},
            attrs={**attrs, **more},
        )

    ratio = dataset(
        "hazard_ratio",
        np.exp(values[0][0]),
        {},
        exposed=weighted.question.exposure,
        reference=Never().label if trial else weighted.question.against,
    )
    curves: dict[str, xr.Dataset] = {}
    if trial:
        compared = {"regime": regimes[0], "against": regimes[1]}
        _, alive, mean = values
        curves = {
            "survival": dataset("survival", alive, {"regime": regimes, "time": times}),
            "survival_difference": dataset(
                "survival_difference", alive[0] - alive[1], {"time": times}, **compared
            ),
            "rmst": dataset("rmst", mean, {"regime": regimes}, horizon=horizon),
            "rmst_difference": dataset(
                "rmst_difference", mean[0] - mean[1], {}, horizon=horizon, **compared
            ),
        }
    summary = pd.DataFrame(table)
    if trial:
        for name, column in _at_risk(weighted, times).items():
            summary.loc[summary["quantity"] == "survival", str(name)] = column.to_numpy()
        summary.loc[summary["quantity"].str.startswith("rmst"), "time"] = horizon
    summary.attrs |= {"unit": weighted.cohort.unit, "synthetic": weighted.cohort.synthetic}
    return WeightedEffect(hazard_ratio=ratio, table=summary, estimand=_estimand(weighted), **curves)


def _at_risk(weighted: Weighted, times: Floats) -> pd.DataFrame:
    """Count patients at risk in both arms, the one that starts first, and what they count for."""
    basis, arms = weighted.basis, []
    # At time 0 those who enter then.
    at = np.maximum(times, np.finfo(float).tiny)
    for arm in (True, False):
        rows = basis.exposed == arm
        begin, end, weights = basis.begin[rows], basis.end[rows], weighted.weights[rows]
        count, total, squares = (
            weigh_at_risk(begin, end, weights**power, at) for power in range(3)
        )
        effective = np.divide(total**2, squares, out=np.zeros(at.size), where=count > 0)
        arms.append(pd.DataFrame({"at_risk": count, "effective_at_risk": effective}))
    return pd.concat(arms)


def _estimand(weighted: Weighted) -> dict[str, str]:
    """Word what is estimated."""
    basis, phase = weighted.basis, weighted.question.exposure
    if basis.grace is None:
        states, leaving = f"{phase} started against not started yet", ""
        if basis.course.current:
            states, leaving = f"in {phase} against not in it", "; leaving it tells nothing"
        if basis.course.switches:
            leaving = ", and leaving it and entering it again on time since the last change alone"
        return {
            "population": "all eligible patients, at risk from becoming eligible",
            "compared": f"{states}, at the same time, if starting depended on time alone{leaving}",
            "hazard ratio": "marginal, constant over time",
        }
    return {
        "population": "all eligible patients who have not started yet, from becoming eligible",
        "compared": f"{phase} {weighted.cohort.unit}, at a time uniform over them in those "
        "event-free then, against never",
        "curves": "survival of each arm and their difference: no form is put on the hazards",
        "hazard ratio": "of the arms, averaged over the events seen; where hazards are not "
        "proportional it depends on follow-up, and the arm that starts is in part unexposed "
        "during the grace period",
    }
