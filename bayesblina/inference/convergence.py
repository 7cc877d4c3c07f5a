"""How long to sample, and what draws must pass before anything is read off them.

The definitions of the rank-normalised R-hat and of effective sample sizes are those of Vehtari,
Gelman, Simpson, Carpenter and Bürkner (2021), doi:10.1214/20-BA1221, with the details of ArviZ, to
which the tests hold every number. They are here because ArviZ takes parameters one by one, and
longer to import than a fit takes. Their functions take draws of shape (chain, draw, parameter).
What cannot be computed is NaN: for draws that are not finite, fewer than four draws, or, for R-hat,
one chain alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import betaincinv, ndtri

from bayesblina.core import tables
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError, require_seed

R_HAT = 1.01
ESS = 400.0
BFMI = 0.3
PARETO_K = 0.7
COMPARISONS = {"<": operator.lt, ">": operator.gt, "": operator.eq}
# Criteria that few draws fail, however well they are drawn.
OF_SIZE = (
    "largest R-hat",
    "smallest bulk ESS",
    "smallest tail ESS",
    "smallest effective number of draws",
)
# Parameters that are worked on together.
BLOCK = 128
TAILS = (0.05, 0.95)
# Share of a normal distribution below one standard deviation under and over its mean.
ONE_SD = (0.1586553, 0.8413447)
LEAST_DRAWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How long to sample.

    `draws`, `tune`: draws kept and draws for adaptation, per chain.
    `cores`: chains that run at the same time; None means as many as the machine has.
    `target_accept`: acceptance rate that the step size is adapted to; None means the model's own.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    target_accept: float | None = None


def sampler_settings(
    draws: int, tune: int, chains: int, cores: int | None, seed: int
) -> SamplerSettings:
    """Check how long is to be sampled."""
    least: tuple[tuple[str, object, int], ...] = (
        ("draws", draws, 4),
        ("tune", tune, 1),
        ("chains", chains, 1),
        ("cores", 1 if cores is None else cores, 1),
    )
    for name, value, fewest in least:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < fewest:
            raise SpecError(f"{name} must be a whole number of at least {fewest}, got {value!r}.")
    require_seed(seed)
    return SamplerSettings(
        draws=int(draws),
        tune=int(tune),
        chains=int(chains),
        cores=None if cores is None else int(cores),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convergence:
    """Outcome of the convergence gate.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per parameter: ``parameter``, ``r_hat``, ``ess_bulk``, ``ess_tail``; of draws by
        importance sampling also ``pareto_k``.
    criteria : pandas.DataFrame
        One row per criterion: ``criterion``, ``value``, ``limit``, ``passed``.

    Notes
    -----
    Rank-normalised R-hat and effective sample sizes after Vehtari et al. (2021),
    doi:10.1214/20-BA1221; BFMI after Betancourt (2016), arXiv:1604.00695.
    """

    table: pd.DataFrame
    criteria: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return bool(self.criteria["passed"].all())

    def failures(self) -> list[str]:
        """Word the criteria that are not met."""
        failed = self.criteria[~self.criteria["passed"]]
        return [
            f"{row.criterion} is {row.value:.4g} (must be {row.limit})"
            for row in failed.itertuples()
        ]

    @property
    def sampled_well(self) -> bool:
        """Whether all criteria but those that hang on the number of draws are passed."""
        return bool((self.criteria["passed"] | self.criteria["criterion"].isin(OF_SIZE)).all())

    def __repr__(self) -> str:
        """Show the outcome, and what failed."""
        if self.passed:
            return f"Convergence(passed; {len(self.table)} parameters)"
        return f"Convergence(NOT CONVERGED; {'; '.join(self.failures())})"

    def _repr_html_(self) -> str:
        return tables.convergence(
            self.criteria, title="Convergence: passed" if self.passed else "NOT CONVERGED"
        ).to_html()


def assess_convergence(draws: xr.DataTree) -> Convergence:
    """Hold draws against the convergence gate.

    Every parameter's diagnostics and every criterion's outcome. A diagnostic that cannot be
    computed fails its criterion.
    """
    names, together = _flat(draws["posterior"].to_dataset(), "chain", "draw")
    table = pd.DataFrame(
        {
            "parameter": names,
            "r_hat": rhat(together),
            "ess_bulk": ess_bulk(together),
            "ess_tail": ess_tail(together),
        }
    )
    stats = draws["sample_stats"].to_dataset()
    energy = stats["energy"].values
    bfmi = np.square(np.diff(energy, axis=1)).mean(1) / np.var(energy, axis=1)
    return Convergence(
        table=table,
        criteria=_criteria(
            ("largest R-hat", table["r_hat"].max(skipna=False), "<", R_HAT),
            ("smallest bulk ESS", table["ess_bulk"].min(skipna=False), ">", ESS),
            ("smallest tail ESS", table["ess_tail"].min(skipna=False), ">", ESS),
            ("divergences", float(stats["diverging"].sum()), "", 0.0),
            ("smallest BFMI", float(np.min(bfmi)), ">", BFMI),
        ),
    )


def _criteria(*rows: tuple[str, float, str, float]) -> pd.DataFrame:
    """Hold values against limits: what is measured, its value, the comparison and the limit."""
    return pd.DataFrame(
        [
            (name, float(value), f"{sign} {limit:g}".strip(), COMPARISONS[sign](value, limit))
            for name, value, sign, limit in rows
        ],
        columns=["criterion", "value", "limit", "passed"],
    )


def assess_weights(posterior: xr.Dataset, weights: pd.DataFrame) -> Convergence:
    """Hold independent draws from weighted proposals against their own criteria.

    `weights`: one row per endpoint: ``endpoint``, ``method``, ``pareto_k``, ``effective_draws``, as
    in the table of a companion.
    """
    names, together = _flat(posterior, "chain", "draw", "endpoint")
    by_endpoint = dict(zip(weights["endpoint"], weights["pareto_k"], strict=True))
    shapes = [
        by_endpoint[endpoint]
        for values in posterior.data_vars.values()
        for endpoint in values["endpoint"].values
        for _ in range(values.isel(chain=0, draw=0, endpoint=0).size)
    ]
    table = pd.DataFrame(
        {
            "parameter": names,
            "r_hat": np.nan,
            "ess_bulk": ess_bulk(together),
            "ess_tail": ess_tail(together),
            "pareto_k": shapes,
        }
    )
    # Draws of Hamiltonian Monte Carlo have no weights.
    weighed = weights.loc[weights["method"] == "importance", "pareto_k"]
    return Convergence(
        table=table,
        criteria=_criteria(
            ("largest Pareto k", weighed.max() if len(weighed) else -np.inf, "<", PARETO_K),
            ("smallest effective number of draws", weights["effective_draws"].min(), ">", ESS),
        ),
    )


def _flat(posterior: xr.Dataset, *first: str) -> tuple[list[str], Floats]:
    """Name all parameters, and lay their draws out as (chain, draw, parameter)."""
    names: list[str] = []
    parts = []
    for name, values in posterior.data_vars.items():
        ordered = values.transpose(*first, ...)
        labels = product(*(map(str, ordered[dim].values) for dim in ordered.dims[2:]))
        names += [f"{name}[{', '.join(label)}]" if label else str(name) for label in labels]
        parts.append(ordered.values.reshape(*ordered.shape[:2], -1))
    return names, np.concatenate(parts, axis=2)


def rhat(draws: Floats) -> Floats:
    """Rank-normalised split R-hat: the larger one of location and of spread.

    `draws`, shape (chain, draw, parameter): the draws.
    Result, shape (parameter,): R-hat; NaN for a parameter that never changes.
    """

    def of(split: Floats) -> Floats:
        folded = np.abs(split - np.median(split, axis=(1, 2), keepdims=True))
        return np.maximum(_split_rhat(_normal_scores(split)), _split_rhat(_normal_scores(folded)))

    return _by_block(of, draws, least_chains=2)


def ess_bulk(draws: Floats) -> Floats:
    """Effective sample size of rank-normalised draws.

    `draws`, shape (chain, draw, parameter): the draws.
    Result, shape (parameter,): effective sample size; the number of draws for a parameter that
    never changes.
    """
    return _by_block(lambda split: _ess(_normal_scores(split)), draws)


def ess_tail(draws: Floats) -> Floats:
    """Effective sample size of the 5 % and 95 % quantiles: the smaller one.

    `draws`, shape (chain, draw, parameter): the draws.
    Result, shape (parameter,): effective sample size; the number of draws for a parameter that
    never changes.
    """
    # Quantiles are those of all draws, before the middle one of an odd number is left out.
    finite = np.where(np.isfinite(draws), draws, 0.0)
    limits = np.quantile(finite, TAILS, axis=(0, 1))
    sizes = [_by_block(_ess, (draws <= limit).astype(np.float64), like=draws) for limit in limits]
    return np.asarray(np.minimum(*sizes))


def ess_mean(draws: Floats, *, split: bool = True) -> Floats:
    """Effective sample size of the draws as they are, for the error of their mean.

    `draws`, shape (chain, draw, parameter): the draws.
    `split`: whether chains are split, as ArviZ does; R's ``loo`` does not.
    Result, shape (parameter,): effective sample size; the number of draws for a parameter that
    never changes.
    """
    return _by_block(_ess, draws, halved=split)


def mcse_mean(draws: Floats) -> Floats:
    """Monte-Carlo standard error of the mean.

    `draws`, shape (chain, draw, parameter): the draws.
    Result, shape (parameter,): standard errors.
    """
    finite = np.where(np.isfinite(draws), draws, 0.0)
    return np.asarray(finite.std(axis=(0, 1), ddof=1) / np.sqrt(ess_mean(draws)))


def mcse_median(draws: Floats) -> Floats:
    """Monte-Carlo standard error of the median.

    `draws`, shape (chain, draw, parameter): the draws.
    Result, shape (parameter,): half the distance between the draws one standard error below and
    above, by rank.
    """
    finite = np.where(np.isfinite(draws), draws, 0.0)
    below = (finite <= np.quantile(finite, 0.5, axis=(0, 1))).astype(np.float64)
    size = _by_block(_ess, below, like=draws)
    ordered = np.sort(finite.reshape(-1, finite.shape[2]), axis=0)
    total = ordered.shape[0]
    ends = [betaincinv(size / 2.0 + 1.0, size / 2.0 + 1.0, p) * total - 1.0 for p in ONE_SD]
    known = np.isfinite(size)
    low = np.floor(np.maximum(np.where(known, ends[0], 0.0), 0.0)).astype(np.int64)
    high = np.ceil(np.minimum(np.where(known, ends[1], 0.0), total - 1.0)).astype(np.int64)
    each = np.arange(size.size)
    return np.where(known, (ordered[high, each] - ordered[low, each]) / 2.0, np.nan)


def _by_block(
    function: Callable[[Floats], Floats],
    draws: Floats,
    *,
    least_chains: int = 1,
    like: Floats | None = None,
    halved: bool = True,
) -> Floats:
    """Work on split chains, (parameter, chain, draw), of some parameters at a time."""
    chains, count, parameters = draws.shape
    out = np.full(parameters, np.nan)
    if count < LEAST_DRAWS or chains < least_chains:
        return out
    half = count // 2
    split = np.concatenate([draws[:, :half], draws[:, -half:]]) if halved else draws
    finite = np.isfinite(draws if like is None else like).all(axis=(0, 1))
    for begin in range(0, parameters, BLOCK):
        some = slice(begin, begin + BLOCK)
        good = finite[some]
        block = np.ascontiguousarray(np.moveaxis(split[:, :, some][:, :, good], 2, 0))
        if block.size:
            out[some][good] = function(block)
    return out


def _normal_scores(split: Floats) -> Floats:
    """Replace draws by the normal quantiles of their ranks; equal draws share their mean rank."""
    flat = split.reshape(split.shape[0], -1)
    rank = pd.DataFrame(flat).rank(axis=1).to_numpy()
    return np.asarray(ndtri((rank - 0.375) / (flat.shape[1] + 0.25)).reshape(split.shape))


def _split_rhat(split: Floats) -> Floats:
    count = split.shape[2]
    between = count * split.mean(axis=2).var(axis=1, ddof=1)
    within = split.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((between / within + count - 1) / count))


def _ess(split: Floats) -> Floats:
    """Effective sample size from Geyer's initial monotone sequence."""
    parameters, chains, count = split.shape
    total = chains * count
    # Zeros behind the draws, so that the end does not meet the beginning.
    length = 1 << (2 * count - 1).bit_length()
    centred = split - split.mean(axis=2, keepdims=True)
    power = np.abs(np.fft.rfft(centred, n=length, axis=2)) ** 2
    covariance = np.fft.irfft(power.mean(axis=1), n=length, axis=1)[:, :count] / count
    within = covariance[:, :1] * count / (count - 1.0)
    spread = within * (count - 1.0) / count
    if chains > 1:
        spread = spread + split.mean(axis=2).var(axis=1, ddof=1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1.0 - (within - covariance) / spread
    correlation[:, 0] = 1.0
    even = correlation[:, 0 : count - 1 : 2]
    pairs = even + correlation[:, 1::2]
    # The last pair that is looked at: the first one whose sum is not positive, or the last of all.
    last = max(0, (count - 3) // 2)
    stops = pairs[:, : last + 1] <= 0.0
    stop = np.where(stops.any(axis=1), stops.argmax(axis=1), last)
    before = np.arange(pairs.shape[1]) < stop[:, None]
    monotone = np.minimum.accumulate(pairs, axis=1)
    rows = np.arange(parameters)
    rest, pair = even[rows, stop], pairs[rows, stop]
    time = -1.0 + 2.0 * np.where(before, monotone, 0.0).sum(axis=1)
    time += np.where((rest > 0.0) | (pair >= 0.0), rest, 0.0)
    size = total / np.maximum(time, 1.0 / np.log10(total))
    constant = split.max(axis=(1, 2)) - split.min(axis=(1, 2)) < np.finfo(np.float64).resolution
    return np.asarray(np.where(constant, float(total), size))
