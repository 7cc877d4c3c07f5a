"""Priors as people state them: through intervals of ratios and fractions."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Annotated, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]

# The middle of an interval of log hazard ratios that is stated about 0, up to rounding of its ends.
SYMMETRIC = 0.005


class ModelTable(BaseModel):
    """A part of a file: unknown keys are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    def writable(self) -> frozenset[str]:
        """Keys that may be given, beside what the others say."""
        return frozenset(type(self).model_fields)


class _Prior(ModelTable):
    """A prior that is stated through an interval; ``[lower, upper]`` alone holds 95 % of it."""

    mass: Share = 0.95

    # The field that holds the interval.
    _stated: ClassVar[str]

    @property
    def stated(self) -> tuple[float, float]:
        """The interval, on the scale on which it is stated."""
        return cast(tuple[float, float], getattr(self, self._stated))

    @model_validator(mode="before")
    @classmethod
    def _interval_alone(cls, content: object) -> object:
        if isinstance(content, list | tuple):
            return {cls._stated: content}
        if not isinstance(content, dict | cls):
            raise ValueError(
                f"give [lower, upper], which holds 95 % of the prior, or a table of {cls._stated} "
                f"and mass, got {content!r}"
            )
        return content


class NormalPrior(_Prior):
    """A normal prior, stated through a central interval on a scale that people think on."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        lower, upper = self.stated
        if lower >= upper:
            raise ValueError(f"{self._stated} must be [lower, upper] with lower < upper")
        return self

    def _interval(self) -> tuple[float, float]:
        """Give the interval on the scale on which the prior is normal."""
        lower, upper = self.stated
        return math.log(lower), math.log(upper)

    @property
    def mean(self) -> float:
        """Prior mean on the log, or log-odds, scale."""
        lower, upper = self._interval()
        return (lower + upper) / 2.0

    @property
    def sd(self) -> float:
        """Prior standard deviation on the log, or log-odds, scale."""
        lower, upper = self._interval()
        return (upper - lower) / (2.0 * NormalDist().inv_cdf((1.0 + self.mass) / 2.0))


class HazardRatioPrior(NormalPrior):
    """A normal prior on a log hazard ratio, stated through an interval of the hazard ratio.

    Parameters
    ----------
    hazard_ratio
        Lower and upper end of the central interval.
    mass
        Prior probability of that interval.

    Examples
    --------
    >>> prior = HazardRatioPrior(hazard_ratio=(0.25, 4.0), mass=0.95)
    >>> round(prior.mean, 3), round(prior.sd, 3)
    (0.0, 0.707)
    """

    hazard_ratio: tuple[Positive, Positive]
    _stated = "hazard_ratio"

    @classmethod
    def from_sd(cls, sd: float) -> HazardRatioPrior:
        """State a normal prior with mean 0 and the given sd through its central 95 % interval.

        Parameters
        ----------
        sd
            Standard deviation of the log hazard ratio.

        Returns
        -------
        HazardRatioPrior
            The same prior as an interval.
        """
        half = NormalDist().inv_cdf(0.975) * sd
        return cls(hazard_ratio=(math.exp(-half), math.exp(half)), mass=0.95)


class OddsRatioPrior(NormalPrior):
    """A normal prior on a log odds ratio, stated through an interval of the odds ratio.

    Parameters
    ----------
    odds_ratio
        Lower and upper end of the central interval.
    mass
        Prior probability of that interval.
    """

    odds_ratio: tuple[Positive, Positive]
    _stated = "odds_ratio"


class FractionPrior(NormalPrior):
    """A normal prior on the log odds of a fraction, stated through an interval of the fraction.

    Parameters
    ----------
    fraction
        Lower and upper end of the central interval, between 0 and 1.
    mass
        Prior probability of that interval.

    Examples
    --------
    >>> prior = FractionPrior(fraction=(0.2, 0.8), mass=0.95)
    >>> round(prior.mean, 3), round(prior.sd, 3)
    (0.0, 0.707)
    """

    fraction: tuple[Share, Share]
    _stated = "fraction"

    def _interval(self) -> tuple[float, float]:
        """Give the interval on the log-odds scale."""
        lower, upper = self.fraction
        return math.log(lower / (1.0 - lower)), math.log(upper / (1.0 - upper))


class SpreadPrior(_Prior):
    """A prior on how far log hazards spread, stated through an interval of the hazard ratio.

    The ratio of a single member (of a group to the average, of the end of follow-up to its
    beginning, ...) is ``exp(sd * z)`` with ``z`` standard normal and ``sd`` half-normal; the
    half-normal's scale is such that the ratio lies in the interval with the probability given.

    Parameters
    ----------
    hazard_ratio
        Lower and upper end, one the inverse of the other.
    mass
        Prior probability of that interval.
    known
        Whether the sd is fixed, at the value that gives the interval, instead of estimated. If not
        said, it is as in the prior that this one replaces, and estimated where it replaces none.

    Examples
    --------
    >>> prior = SpreadPrior(hazard_ratio=(0.5, 2.0), mass=0.95)
    >>> round(prior.scale, 3)
    0.318
    >>> round(SpreadPrior(hazard_ratio=(0.5, 2.0), mass=0.95, known=True).scale, 3)
    0.354
    """

    hazard_ratio: tuple[Positive, Positive]
    known: bool | None = None
    _stated = "hazard_ratio"

    @model_validator(mode="after")
    def _symmetric(self) -> SpreadPrior:
        lower, upper = self.hazard_ratio
        if not lower < 1.0 < upper or abs(math.log(lower) + math.log(upper)) > 2.0 * SYMMETRIC:
            raise ValueError("hazard_ratio must be [1 / u, u] with u > 1, such as [0.5, 2.0]")
        return self

    @property
    def scale(self) -> float:
        """Scale of the half-normal prior of the sd; the sd itself where it is known."""
        lower, upper = self.hazard_ratio
        half = (math.log(upper) - math.log(lower)) / 2.0
        if self.known:
            return half / NormalDist().inv_cdf((1.0 + self.mass) / 2.0)
        return half / _product_quantile(self.mass)

    @classmethod
    def from_scale(cls, scale: float, *, known: bool) -> SpreadPrior:
        """State a prior with a given scale through its central 95 % interval.

        Parameters
        ----------
        scale
            Scale of the half-normal prior of the sd, or the sd itself.
        known
            Whether it is the sd itself.

        Returns
        -------
        SpreadPrior
            The same prior as an interval.
        """
        half = scale * (NormalDist().inv_cdf(0.975) if known else _product_quantile(0.95))
        return cls(hazard_ratio=(math.exp(-half), math.exp(half)), mass=0.95, known=known)


@cache
def _product_quantile(mass: float) -> float:
    """End of the central interval of a product of two independent standard normals."""
    from scipy.optimize import brentq
    from scipy.special import iti0k0

    # The product's density is K0(|x|) / pi.
    def excess(end: float) -> float:
        return 2.0 * float(iti0k0(end)[1]) / math.pi - mass

    return float(brentq(excess, 1e-9, 50.0, xtol=1e-12))
