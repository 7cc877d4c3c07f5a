"""Whether the effect of the exposed phase is the same early and late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bayesblina.core.arrays import Floats
from bayesblina.core.intervals import split
from bayesblina.estimands.support import episodes_of
from bayesblina.hazards.parts import ProportionalPhases
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox

# Two-sided.
LEVEL = 0.05
# Rows beyond which the check would take seconds.
LARGEST = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyLate:
    """An endpoint's hazard ratio up to a time and after it, by the partial likelihood.

    `split`: the median time of the events in the exposed phase and its reference.
    `p_value`: two-sided, that they are the same.
    """

    endpoint: str
    split: float
    early: float
    late: float
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether they differ at the 5 % level."""
        return self.p_value < LEVEL


def early_and_late(fit: Fit) -> tuple[EarlyLate, ...]:
    """Estimate the exposed phase's hazard ratio in both halves of the event times.

    One for each endpoint of which both halves have an estimate: adjusted for the covariates in the
    model, and stratified as it is. None where the model's own effect is not one ratio, where
    patients have weights, are only summed or are very many.
    """
    person_time = fit.person_time
    if (
        not isinstance(fit.definition.phases, ProportionalPhases)
        or person_time.weighted
        or not person_time.complete
        or person_time.episodes.sizes["episode"] > LARGEST
    ):
        return ()
    raw = person_time.terms_of(slice(None))
    ratios = (_of_endpoint(fit, raw, name) for name in person_time.endpoints)
    return tuple(ratio for ratio in ratios if ratio is not None)


def _of_endpoint(fit: Fit, raw: Floats, endpoint: str) -> EarlyLate | None:
    """Cox's model with the phase's effect apart after the median event."""
    person_time, design = fit.person_time, fit.design
    patient, state, start, stop = episodes_of(person_time, endpoint)
    outcome = person_time.people.sel(endpoint=endpoint)
    if design.sources:
        # The answer is that of the current patients.
        rows = design.is_current[outcome["category"].values[patient]]
        patient, state, start, stop = patient[rows], state[rows], start[rows], stop[rows]
    event = outcome["event"].values[patient] & (stop == outcome["exit"].values[patient])
    compared = event & (person_time.table["role"].values[state] != "other")
    if not compared.any():
        return None
    cut = float(np.median(stop[compared]))
    piece, interval, length = split(start, stop, np.array([cut]))
    begin = np.where(interval == 1, np.maximum(start[piece], cut), start[piece])
    ends = np.append(piece[1:] != piece[:-1], True)
    end = np.where(ends, stop[piece], begin + length)
    phase = design.contrast[state[piece]]
    late = phase[:, :1] * (interval == 1)[:, None]
    early = phase[:, :1] - late
    if not late.any() or not early.any():
        return None
    columns = np.concatenate([early, late, phase[:, 1:], raw[patient[piece]]], axis=1)
    stratum = design.stratum_of[outcome["category"].values[patient[piece]]]
    # Strata one after the other in time: no risk set holds patients of two.
    later = stratum * (2.0 * float(end.max()))
    result = fit_cox(
        begin + later, end + later, event[piece] & ends, columns[:, _varies(columns, stratum)]
    )
    if not result.converged or np.isnan(result.estimate[:2]).any():
        return None
    (early_log, late_log), covariance = result.estimate[:2], result.covariance
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return EarlyLate(
        endpoint=endpoint,
        split=cut,
        early=float(np.exp(early_log)),
        late=float(np.exp(late_log)),
        p_value=float(2 * ndtr(-abs(late_log - early_log) / np.sqrt(variance))),
    )


def _varies(columns: Floats, stratum: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which columns differ within a stratum: others, such as its own, say nothing there."""
    within = [np.ptp(columns[stratum == one], axis=0) > 0 for one in np.unique(stratum)]
    return np.any(within, axis=0)
