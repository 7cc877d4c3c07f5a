"""How well chains have mixed: rank-normalised R-hat and effective sample sizes.

The definitions are those of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021),
doi:10.1214/20-BA1221, with the details of ArviZ, to which the tests hold every number. They are
here because ArviZ takes parameters one by one, and longer to import than a fit takes.

All functions take draws of shape (chain, draw, parameter). What cannot be computed is NaN: for
draws that are not finite, fewer than four draws, or, for R-hat, one chain alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import betaincinv, ndtri

from bayesblina.core.arrays import Floats

# Parameters that are worked on together.
BLOCK = 128
TAILS = (0.05, 0.95)
# Share of a normal distribution below one standard deviation under and over its mean.
ONE_SD = (0.1586553, 0.8413447)
LEAST_DRAWS = 4


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
    below = finite <= np.quantile(finite, 0.5, axis=(0, 1))
    size = _by_block(_ess, below.astype(np.float64), like=draws)
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
