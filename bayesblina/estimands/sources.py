"""How external patients differ from the current ones, read off the draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import expit

from bayesblina.core.arrays import Floats
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.hazards.parts import Mixture, Part, RobustMixture
from bayesblina.hazards.sources import DIFFERENCES, mixture_of, source_parts
from bayesblina.inference.fitting import Fit

# Mass of the interval of a ratio that excludes 1 where sources conflict.
MASS = 0.95


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Difference:
    """What one source's hazard, or hazard ratio, is to the current patients'.

    `endpoint`, `source`: of what and whose.
    `part`: ``"baseline"``, ``"phases"`` or ``"covariates"``.
    `name`: phase or covariate term; empty for the baseline.
    `log_ratio`, shape (draws,): external against current.
    `apart`, shape (draws,): probability by draw of the far part of a robust mixture; None in other
    models.
    `prior_apart`: the same before any data; NaN in other models.
    """

    endpoint: str
    source: str
    part: Part
    name: str
    log_ratio: Floats
    apart: Floats | None
    prior_apart: float

    @property
    def conflicts(self) -> bool:
        """Whether the central 95 % of the ratio exclude 1."""
        lower, upper = self.interval(MASS)[::2]
        return lower > 1.0 or upper < 1.0

    def interval(self, mass: float) -> tuple[float, float, float]:
        """Lower end, median and upper end of the ratio."""
        tail = (1.0 - mass) / 2.0
        ends = np.exp(np.quantile(self.log_ratio, [tail, 0.5, 1.0 - tail]))
        return float(ends[0]), float(ends[1]), float(ends[2])


def differences(fit: Fit) -> tuple[Difference, ...]:
    """Find all differences of external patients that a fit estimates.

    By endpoint, part, source and name; none where all patients share everything.
    """
    design, kind = fit.design, fit.definition.borrowing
    # Dimensions and names of what differs, by part.
    named: dict[Part, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "baseline": ((), ("",)),
        "phases": (("effect",), design.effects),
        "covariates": (("term",), design.term_names),
    }
    parts = [
        part for part in source_parts(fit.definition, fit.person_time, design) if part in named
    ]
    estimated = []
    for endpoint, part in product(fit.person_time.endpoints, parts):
        dims, names = named[part]
        posterior = fit.posterior.sel(endpoint=endpoint)
        values = flat_draws(posterior, DIFFERENCES[part], "source", *dims)
        values = values.reshape(*values.shape[:2], -1)
        mixture = kind.prior_of(part) if isinstance(kind, RobustMixture) else None
        for (row, source), (column, name) in product(enumerate(design.sources), enumerate(names)):
            log_ratio = values[:, row, column]
            estimated.append(
                Difference(
                    endpoint=endpoint,
                    source=source,
                    part=part,
                    name=name,
                    log_ratio=log_ratio,
                    apart=None if mixture is None else probability_apart(mixture, log_ratio),
                    prior_apart=np.nan if mixture is None else 1.0 - mixture.probability,
                )
            )
    return tuple(estimated)


def probability_apart(mixture: Mixture, effect: Floats) -> Floats:
    """Probability that a difference comes from the far part of a robust mixture."""
    close, far = (
        np.log(share) - np.log(sd) - 0.5 * ((effect - mean) / sd) ** 2
        for share, mean, sd in zip(*mixture_of(mixture), strict=True)
    )
    return np.asarray(expit(far - close))
