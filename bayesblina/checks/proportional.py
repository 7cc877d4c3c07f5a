"""Whether the effect of the exposed phase is the same early and late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bayesblina.core.arrays import Floats
from bayesblina.core.intervals import split
from bayesblina.hazards.parts import ProportionalPhases
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.person_time.cells import PersonTime

# Two-sided.
LEVEL = 0.05
# Rows beyond which the check would take seconds.
LARGEST = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyLate:
    """An endpoint's hazard ratio up to a time and after it, by the partial likelihood.

    Attributes
    ----------
    endpoint
        Endpoint.
    split
        The median time of the events in the exposed phase and its reference.
    early, late
        Hazard ratios of the exposed phase.
    p_value
        Two-sided, that they are the same.
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
    found = (
        _of_endpoint(fit, person_time, raw, index) for index in range(len(person_time.endpoints))
    )
    return tuple(one for one in found if one is not None)


def _of_endpoint(fit: Fit, person_time: PersonTime, raw: Floats, index: int) -> EarlyLate | None:
    """Cox's model with the phase's effect apart after the median event."""
    episodes, people = person_time.episodes, person_time.people
    rows = episodes["endpoint"].values == index
    if fit.design.sources:
        # The answer is that of the current patients.
        current = fit.design.is_current[people["category"].values]
        rows = rows & current[episodes["patient"].values]
    patient, state, start, stop = (
        episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
    )
    last = stop == people["exit"].values[index][patient]
    event = last & people["event"].values[index][patient]
    role = person_time.table["role"].values
    compared = event & (role[state] != "other")
    if not compared.any():
        return None
    cut = float(np.median(stop[compared]))
    piece, interval, length = split(start, stop, np.array([cut]))
    begin = np.where(interval == 1, np.maximum(start[piece], cut), start[piece])
    end = begin + length
    ends = np.append(piece[1:] != piece[:-1], True)
    phase = fit.design.contrast[state[piece]]
    late = phase[:, :1] * (interval == 1)[:, None]
    columns = np.concatenate([phase[:, :1] - late, late, phase[:, 1:], raw[patient[piece]]], axis=1)
    category = people["category"].values[patient[piece]]
    stratum = fit.design.stratum_of[category]
    columns = columns[:, _varies(columns, stratum)]
    if not phase[:, 0].any() or not late.any() or not (phase[:, :1] - late).any():
        return None
    end = np.where(ends, stop[piece], end)
    # Strata one after the other in time: no risk set holds patients of two.
    later = stratum * (2.0 * float(end.max()))
    result = fit_cox(begin + later, end + later, event[piece] & ends, columns)
    if not result.converged or np.isnan(result.estimate[:2]).any():
        return None
    early_log, late_log = result.estimate[:2]
    variance = result.covariance[0, 0] + result.covariance[1, 1] - 2 * result.covariance[0, 1]
    p_value = float(2 * ndtr(-abs(late_log - early_log) / np.sqrt(variance)))
    return EarlyLate(
        endpoint=person_time.endpoints[index],
        split=cut,
        early=float(np.exp(early_log)),
        late=float(np.exp(late_log)),
        p_value=p_value,
    )


def _varies(columns: Floats, stratum: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which columns differ within a stratum: others, such as its own, say nothing there."""
    found = np.zeros(columns.shape[1], dtype=np.bool_)
    for one in np.unique(stratum):
        found |= np.ptp(columns[stratum == one], axis=0) > 0
    return found
