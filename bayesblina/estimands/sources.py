"""How external patients differ from the current ones, read off the draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bayesblina.core.arrays import Floats
from bayesblina.hazards.likelihood import flat_draws
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
    return tuple(_each(fit))


def _each(fit: Fit) -> Iterator[Difference]:
    design, posterior, kind = fit.design, fit.posterior, fit.definition.borrowing
    names: dict[Part, tuple[str, ...]] = {
        "baseline": ("",),
        "phases": design.effects,
        "covariates": design.term_names,
    }
    dims: dict[Part, tuple[str, ...]] = {"phases": ("effect",), "covariates": ("term",)}
    for endpoint in fit.person_time.endpoints:
        one = posterior.sel(endpoint=endpoint)
        for part in source_parts(fit.definition, fit.person_time, design):
            if part == "shape":
                continue
            values = flat_draws(one, DIFFERENCES[part], "source", *dims.get(part, ()))
            values = values.reshape(*values.shape[:2], -1)
            mixture = kind.prior_of(part) if isinstance(kind, RobustMixture) else None
            for place, source in enumerate(design.sources):
                for index, name in enumerate(names[part]):
                    log_ratio = values[:, place, index]
                    yield Difference(
                        endpoint=endpoint,
                        source=source,
                        part=part,
                        name=name,
                        log_ratio=log_ratio,
                        apart=None if mixture is None else probability_apart(mixture, log_ratio),
                        prior_apart=np.nan if mixture is None else 1.0 - mixture.probability,
                    )


def probability_apart(mixture: Mixture, effect: Floats) -> Floats:
    """Probability that a difference comes from the far part of a robust mixture."""
    close, far = (
        np.log(share) - np.log(sd) - 0.5 * ((effect - mean) / sd) ** 2
        for share, mean, sd in zip(*mixture_of(mixture), strict=True)
    )
    return np.asarray(expit(far - close))
