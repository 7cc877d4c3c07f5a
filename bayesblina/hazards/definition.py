"""What a model file may say: a closed vocabulary, no code, unknown keys refused."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from statistics import NormalDist
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bayesblina.core.arguments import require_kind
from bayesblina.core.errors import EstimandError, SpecError, listed, nearest
from bayesblina.core.toml_files import no_boolean, read_toml
from bayesblina.hazards.prior_fields import prior_fields

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]

# The middle of an interval of log hazard ratios that is stated about 0, up to rounding of its ends.
SYMMETRIC = 0.005


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    def writable(self) -> frozenset[str]:
        """Keys that may be given, beside what the others say."""
        return frozenset(type(self).model_fields)


class _Prior(_Section):
    """A prior that is stated through an interval; ``[lower, upper]`` alone holds 95 % of it."""

    mass: Share = 0.95

    # The field that holds the interval.
    _stated: ClassVar[str]

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


class _NormalPrior(_Prior):
    """A normal prior, stated through a central interval on a scale that people think on."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        lower, upper = getattr(self, self._stated)
        if lower >= upper:
            raise ValueError(f"{self._stated} must be [lower, upper] with lower < upper")
        return self

    def _interval(self) -> tuple[float, float]:
        """Give the interval on the scale on which the prior is normal."""
        lower, upper = getattr(self, self._stated)
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


class HazardRatioPrior(_NormalPrior):
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


class OddsRatioPrior(_NormalPrior):
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


class FractionPrior(_NormalPrior):
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
        one = NormalDist().inv_cdf(0.975) if known else _product_quantile(0.95)
        half = scale * one
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


class RandomWalk(_Section):
    """A Gaussian random walk of each endpoint's log baseline hazard, its step sd known.

    Steps lie between neighbouring intervals, whatever the intervals' widths: nothing is learnt from
    quiet parts of follow-up about how far the hazard may step where patients enter a phase.
    """

    kind: Literal["random_walk"] = "random_walk"
    # Event-weighted mean hazard against the crude rate.
    level: HazardRatioPrior
    # Hazard in an interval against that in the one before.
    step: HazardRatioPrior
    # That covariate.
    stratum: str | None = None
    # Whether each level of a covariate has a baseline of its own.
    stratified: bool = False
    # Whether the endpoints' log baselines are parallel.
    shared: bool = False

    @model_validator(mode="after")
    def _complete(self) -> RandomWalk:
        if abs(self.step.mean) > SYMMETRIC:
            raise ValueError("step must be [1 / u, u] with u > 1, such as [0.05, 20.0]")
        if self.stratum is not None and not self.stratified:
            raise ValueError("stratum is for a baseline with stratified = true")
        return self


class SmoothWalk(_Section):
    """A random walk whose step sd is estimated, on a clock half time and half events: a curve."""

    kind: Literal["smooth_walk"] = "smooth_walk"
    # 1: shrinks to a constant hazard. 2: shrinks to a log-linear one, without kinks.
    order: Literal[1, 2] = 1
    # Event-weighted mean hazard against the crude rate.
    level: HazardRatioPrior
    # Order 1: hazard at the end of follow-up against its beginning. Order 2: departure at the end
    # from the straight line through the beginning.
    change: SpreadPrior
    # Order 2: hazard at the end against the beginning along the straight line.
    slope: HazardRatioPrior | None = None

    @model_validator(mode="after")
    def _complete(self) -> SmoothWalk:
        if (self.order == 2) != (self.slope is not None):
            raise ValueError("a walk of order 2 needs a prior for slope, and only that one")
        return self

    def writable(self) -> frozenset[str]:
        """Keys that may be given, beside what the others say."""
        return super().writable() - (frozenset() if self.order == 2 else {"slope"})


class Weibull(_Section):
    """A log hazard linear in log time, and a random walk of departures from it."""

    kind: Literal["weibull"] = "weibull"
    # Event-weighted mean hazard against the crude rate.
    level: HazardRatioPrior
    # Hazard at twice the time against that at the time: 1 is a constant hazard.
    doubling: HazardRatioPrior
    # Departure from the Weibull hazard over the whole of follow-up.
    change: SpreadPrior


class GaussianProcess(_Section):
    """A smooth log hazard in log time: a Gaussian process, approximated in a Hilbert space."""

    kind: Literal["gaussian_process"] = "gaussian_process"
    # Event-weighted mean hazard against the crude rate.
    level: HazardRatioPrior
    # Hazard at one time against its mean.
    change: SpreadPrior
    # Central 95 % interval of the length scale, in halves of the range of log time.
    length_scale: tuple[Positive, Positive] = (0.3, 1.5)
    # Basis functions of the approximation.
    functions: Annotated[int, Field(ge=5, le=100, strict=True)] = 80

    @model_validator(mode="after")
    def _ordered(self) -> GaussianProcess:
        if self.length_scale[0] >= self.length_scale[1]:
            raise ValueError("length_scale must be [lower, upper] with lower < upper")
        return self


class Free(_Section):
    """No prior of the baseline: a hazard that jumps at the event times, and is 0 between them."""

    kind: Literal["free"] = "free"


Baseline = Annotated[
    RandomWalk | SmoothWalk | Weibull | GaussianProcess | Free, Field(discriminator="kind")
]


class ProportionalPhases(_Section):
    """Phase effects that multiply the hazard by a constant."""

    kind: Literal["proportional"] = "proportional"
    # Hazard in a phase against the reference.
    prior: HazardRatioPrior


class PhasesOverTime(_Section):
    """The exposed phase's effect varies over follow-up, as a random walk."""

    kind: Literal["over_time"] = "over_time"
    # Hazard in a phase against the reference, on average.
    prior: HazardRatioPrior
    # Hazard ratio at the end of follow-up against that at its beginning.
    change: SpreadPrior


class PhasesSinceEntry(_Section):
    """The exposed phase's effect varies with time since entering it: delay and waning."""

    kind: Literal["since_entry"] = "since_entry"
    # Hazard in a phase against the reference, on average.
    prior: HazardRatioPrior
    # Hazard ratio long after entry against that just after it.
    change: SpreadPrior


class PhasesBySubgroup(_Section):
    """The exposed phase's effect differs between levels of a covariate, around a common one."""

    kind: Literal["by_subgroup"] = "by_subgroup"
    # Hazard in a phase against the reference, on average.
    prior: HazardRatioPrior
    # Hazard ratio in one subgroup against the average.
    change: SpreadPrior
    # The covariate.
    subgroup: str | None = None


Phases = Annotated[
    ProportionalPhases | PhasesOverTime | PhasesSinceEntry | PhasesBySubgroup,
    Field(discriminator="kind"),
]


class Covariates(_Section):
    """Covariate effects that multiply the hazard by a constant."""

    # Per standard deviation of a continuous covariate, per level of a categorical one.
    prior: HazardRatioPrior


class Independent(_Section):
    """Endpoints that share nothing."""

    kind: Literal["independent"] = "independent"


class Correlated(_Section):
    """Log hazard ratios of the phases correlated between endpoints."""

    kind: Literal["correlated"] = "correlated"
    # LKJ prior of the correlation matrix; 1 is uniform, larger favours independence.
    concentration: Positive = 2.0


class IllnessDeath(_Section):
    """Relapse, death in remission and death after relapse: three transitions of one course."""

    kind: Literal["illness_death"] = "illness_death"
    # The endpoint that ends with death.
    death: Annotated[str, Field(min_length=1)] = "os"
    # The one that ends with relapse or death.
    relapse_free: Annotated[str, Field(min_length=1)] = "rfs"


Endpoints = Annotated[Independent | Correlated | IllnessDeath, Field(discriminator="kind")]


class SiteFrailty(_Section):
    """Levels of a covariate (sites, regions) whose hazards differ at random."""

    kind: Literal["levels"] = "levels"
    # Hazard of one level against the average.
    spread: SpreadPrior
    # The covariate.
    group: str | None = None

    @model_validator(mode="after")
    def _estimated(self) -> SiteFrailty:
        return _require_estimated(self)


class PatientFrailty(_Section):
    """Patients whose hazards differ at random, of all endpoints alike."""

    kind: Literal["patient"] = "patient"
    # Hazard of one patient against the average.
    spread: SpreadPrior

    @model_validator(mode="after")
    def _estimated(self) -> PatientFrailty:
        return _require_estimated(self)


def _require_estimated[T: (SiteFrailty, PatientFrailty)](groups: T) -> T:
    if groups.spread.known:
        raise ValueError("the spread of groups is estimated: known is not for it")
    return groups


Groups = Annotated[SiteFrailty | PatientFrailty, Field(discriminator="kind")]


class PowerPrior(_Section):
    """External patients count a fixed share."""

    kind: Literal["power"] = "power"
    # The share.
    weight: Annotated[float, Field(gt=0, le=1, strict=True)]
    # The covariate; its reference level is the current study.
    source: str | None = None


# Parts of the hazard in which external patients may differ from the current ones.
Part = Literal["baseline", "shape", "phases", "covariates"]


class _Differing(_Section):
    """External patients' hazards may differ from the current ones in the parts that it covers."""

    # Parts in which external patients may differ; the others are shared in full. Of the shape, the
    # course of the hazard over time, nothing is borrowed where it is covered.
    covers: tuple[Part, ...] = ("baseline", "shape", "phases", "covariates")
    # The covariate; its reference level is the current study.
    source: str | None = None

    @model_validator(mode="after")
    def _covering(self) -> Self:
        if not self.covers or len(set(self.covers)) != len(self.covers):
            raise ValueError(f"covers must name some of {', '.join(get_args(Part))}, each once")
        for part in ("phases", "covariates"):
            if getattr(self, part) is not None and part not in self.covers:
                raise ValueError(f"there is a prior for {part}, which covers does not name")
        return self


class Commensurate(_Differing):
    """External patients' hazards differ from the current ones by an amount that is estimated."""

    kind: Literal["commensurate"] = "commensurate"
    # Hazard of the external patients against that of the current ones.
    spread: SpreadPrior
    # Their hazard ratios of phases against the current ones; as spread unless given.
    phases: SpreadPrior | None = None
    # Their hazard ratios of covariates against the current ones; as spread unless given.
    covariates: SpreadPrior | None = None

    @model_validator(mode="after")
    def _estimated(self) -> Commensurate:
        if any(
            one is not None and one.known for one in (self.spread, self.phases, self.covariates)
        ):
            raise ValueError("the spread of sources is estimated: known is not for it")
        return self

    def prior_of(self, part: Part) -> SpreadPrior:
        """Prior of how far sources lie apart in a part."""
        own = {"phases": self.phases, "covariates": self.covariates}.get(part)
        return self.spread if own is None else own


class Mixture(_Section):
    """A ratio of hazards, or of hazard ratios, that is close to 1 or else may lie far from it."""

    # Prior probability that it is close.
    probability: Share
    # Hazard (or hazard ratio) of external patients against that of the current ones, where close.
    close: HazardRatioPrior
    # The same where it is apart: the wider of the two.
    apart: HazardRatioPrior

    @model_validator(mode="after")
    def _wider(self) -> Self:
        if self.apart.sd <= self.close.sd:
            raise ValueError("apart must be wider than close")
        return self


class RobustMixture(_Differing, Mixture):
    """External patients' hazards are close to the current ones, or else may lie far from them."""

    kind: Literal["robust"] = "robust"
    # The same of their hazard ratios of phases against the current ones; as the hazard's unless
    # given.
    phases: Mixture | None = None
    # The same of their hazard ratios of covariates; as the hazard's unless given.
    covariates: Mixture | None = None

    def prior_of(self, part: Part) -> Mixture:
        """Prior of how far sources lie apart in a part."""
        own = {"phases": self.phases, "covariates": self.covariates}.get(part)
        return self if own is None else own


class Cure(_Section):
    """Patients who will never have the event: a fraction that depends on covariates."""

    # Of patients at mean covariates, as they come under observation.
    fraction: FractionPrior
    # Odds of being cured per sd of a continuous covariate, per level of a categorical one.
    covariates: OddsRatioPrior


Borrowing = Annotated[PowerPrior | Commensurate | RobustMixture, Field(discriminator="kind")]

KINDS = frozenset(
    kind
    for schema in (
        *(RandomWalk, SmoothWalk, Weibull, GaussianProcess, Free),
        *(ProportionalPhases, PhasesOverTime, PhasesSinceEntry, PhasesBySubgroup),
        *(Independent, Correlated, IllnessDeath, SiteFrailty, PatientFrailty),
        *(PowerPrior, Commensurate, RobustMixture),
    )
    for kind in get_args(schema.model_fields["kind"].annotation)
)

# Covariates that a model gives a part of their own, by what they are to it.
ROLES = ("stratum", "subgroup", "group", "source")


class ModelDefinition(_Section):
    """A named hazard model.

    Parameters
    ----------
    schema_version
        Version of the vocabulary (``schema`` in the file).
    name, title, description
        What it is called, in a word, a line and a paragraph.
    baseline, phases, covariates, endpoints, groups, borrowing, cure
        Its parts; the last three may be left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], BeforeValidator(no_boolean)] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    description: str = ""
    baseline: Baseline
    phases: Phases
    covariates: Covariates
    endpoints: Endpoints = Independent()
    groups: Groups | None = None
    borrowing: Borrowing | None = None
    cure: Cure | None = None

    @model_validator(mode="after")
    def _compatible(self) -> ModelDefinition:
        if self.cure is not None and isinstance(self.endpoints, IllnessDeath):
            raise ValueError("cure is for endpoints of their own, not for an illness-death course")
        if self.cure is not None and isinstance(self.groups, PatientFrailty):
            raise ValueError("cure and effects of single patients cannot be told apart: take one")
        if isinstance(self.borrowing, Commensurate | RobustMixture):
            own = isinstance(self.baseline, RandomWalk) and not self.baseline.shared
            if "shape" in self.borrowing.covers and not isinstance(self.baseline, Free) and not own:
                raise ValueError(
                    "borrowing covers the shape only of a random_walk that endpoints do not share: "
                    "leave 'shape' out of covers"
                )
        if isinstance(self.baseline, Free):
            apart = (
                not isinstance(self.phases, ProportionalPhases),
                isinstance(self.endpoints, Correlated),
                self.groups is not None,
                isinstance(self.borrowing, Commensurate | RobustMixture),
                self.cure is not None,
            )
            if any(apart):
                raise ValueError(
                    "a free baseline goes with proportional phases and independent endpoints, "
                    "without groups, cure and external patients other than of a power prior"
                )
        return self

    def require_hazard(self, what: str) -> None:
        """Refuse what a baseline of jumps at the event times has no meaning for.

        Parameters
        ----------
        what
            What was asked for, as the subject of a sentence.

        Raises
        ------
        EstimandError
            If the baseline is free.
        """
        if isinstance(self.baseline, Free):
            raise EstimandError(
                f"{what} cannot be had from model '{self.name}': its hazard jumps at the event "
                "times of these very patients and is 0 between them, so that no other event has a "
                "density. Take a model with a hazard, such as 'primary'."
            )

    @property
    def purpose(self) -> Literal["hazard ratios", "curves"]:
        """What the model is for.

        Curves where the baseline's spread is learnt from the whole of follow-up: that can move the
        hazard ratios, which are believed only where the baseline gate lets them pass.
        """
        known = isinstance(self.baseline, RandomWalk | Free)
        return "hazard ratios" if known and self.cure is None else "curves"

    @property
    def roles(self) -> dict[str, str | None]:
        """Covariates that the model gives a part of their own; None where none is named yet."""
        found: dict[str, str | None] = {}
        if isinstance(self.baseline, RandomWalk) and self.baseline.stratified:
            found["stratum"] = self.baseline.stratum
        if isinstance(self.phases, PhasesBySubgroup):
            found["subgroup"] = self.phases.subgroup
        if isinstance(self.groups, SiteFrailty):
            found["group"] = self.groups.group
        if self.borrowing is not None:
            found["source"] = self.borrowing.source
        return found

    def with_covariates(
        self,
        *,
        stratum: str | None = None,
        subgroup: str | None = None,
        group: str | None = None,
        source: str | None = None,
    ) -> ModelDefinition:
        """Name the covariates to which the model gives a part of their own.

        Parameters
        ----------
        stratum
            Each of its levels has a baseline of its own.
        subgroup
            The exposed phase's effect differs between its levels.
        group
            Its levels' hazards differ at random.
        source
            Where patients come from: its reference level is the current study, the others are
            external.

        Returns
        -------
        ModelDefinition
            A new definition.

        Raises
        ------
        SpecError
            If the model has no such part.

        Examples
        --------
        >>> model = load_model("by_subgroup").with_covariates(subgroup="age_group")
        >>> model.roles
        {'subgroup': 'age_group'}
        """
        content = self.model_dump(by_alias=True)
        given = {"stratum": stratum, "subgroup": subgroup, "group": group, "source": source}
        part = {
            "stratum": "baseline",
            "subgroup": "phases",
            "group": "groups",
            "source": "borrowing",
        }
        for role, name in given.items():
            if name is None:
                continue
            if role not in self.roles:
                has = ", ".join(self.roles) or "none"
                raise SpecError(f"Model '{self.name}' has no {role}; what it can be given: {has}.")
            content[part[role]][role] = name
        return parse_model(content, source=f"model '{self.name}'")

    def with_borrowing(self, *, covers: Sequence[Part]) -> ModelDefinition:
        """Choose in which parts external patients may differ from the current ones.

        Parameters
        ----------
        covers
            Some of ``"baseline"`` (the level of the hazard), ``"shape"`` (its course over time, of
            which nothing is borrowed then), ``"phases"`` (hazard ratios of phases) and
            ``"covariates"`` (those of covariates). The others are shared in full, as if all
            patients were of one study.

        Returns
        -------
        ModelDefinition
            A new definition.

        Raises
        ------
        SpecError
            If the model has no external patients who may differ, or there is no such part.

        Examples
        --------
        >>> model = load_model("commensurate").with_borrowing(covers=["baseline", "phases"])
        >>> model.borrowing.covers
        ('baseline', 'phases')
        """
        if not isinstance(self.borrowing, Commensurate | RobustMixture):
            raise SpecError(
                f"covers: model '{self.name}' has no external patients who may differ from the "
                "current ones; the models commensurate and robust_mixture have."
            )
        given: object = covers
        if isinstance(given, str):
            raise SpecError(
                f"covers must be a list, such as ['baseline', 'phases'], got {given!r}."
            )
        content = self.model_dump(by_alias=True)
        borrowing = content["borrowing"]
        borrowing["covers"] = tuple(covers)
        for part in ("phases", "covariates"):
            if part not in borrowing["covers"]:
                borrowing[part] = None
        return parse_model(content, source=f"model '{self.name}'")

    def with_priors(
        self,
        *,
        phases: HazardRatioPrior | None = None,
        covariates: HazardRatioPrior | None = None,
        level: HazardRatioPrior | None = None,
        step: HazardRatioPrior | None = None,
        change: SpreadPrior | None = None,
        slope: HazardRatioPrior | None = None,
        doubling: HazardRatioPrior | None = None,
        length_scale: tuple[float, float] | None = None,
        phase_change: SpreadPrior | None = None,
        concentration: float | None = None,
        spread: SpreadPrior | None = None,
        borrowing_weight: float | None = None,
        borrowing_spread: SpreadPrior | None = None,
        borrowing_probability: float | None = None,
        borrowing_close: HazardRatioPrior | None = None,
        borrowing_apart: HazardRatioPrior | None = None,
        borrowing_phases: SpreadPrior | Mixture | None = None,
        borrowing_covariates: SpreadPrior | Mixture | None = None,
        cured: FractionPrior | None = None,
        cured_covariates: OddsRatioPrior | None = None,
    ) -> ModelDefinition:
        """Return the same model with other priors.

        Each prior has the same name under ``[model.priors]`` of a study file and, after
        ``prior.``, as an axis of a sensitivity study.

        Parameters
        ----------
        phases, covariates
            Priors of the hazard ratios.
        level
            Prior of the baseline's level, against the crude rate.
        step
            Prior of the baseline's steps between neighbouring intervals.
        change
            Prior of a curve model's baseline.
        slope
            Prior of the straight line of a walk of order 2, as of ``smooth``.
        doubling
            Prior of a Weibull hazard at twice the time.
        length_scale
            Central 95 % interval of a Gaussian process's length scale, in halves of the range of
            log time.
        phase_change
            Prior of how the exposed phase's effect varies.
        concentration
            Of the LKJ prior of correlations between endpoints.
        spread
            Prior of how groups differ.
        borrowing_weight
            Share that external patients count, where it is fixed.
        borrowing_spread
            Prior of how sources differ, where their sd is estimated.
        borrowing_probability
            Prior probability that external patients are close to the current ones.
        borrowing_close, borrowing_apart
            Priors of their hazard ratios in either case.
        borrowing_phases, borrowing_covariates
            Priors of how their hazard ratios of phases, and of covariates, differ, where they are
            not to be those of the baseline.
        cured
            Prior of the cured fraction.
        cured_covariates
            Prior of the odds ratios of being cured.

        Returns
        -------
        ModelDefinition
            A new definition; priors not given stay.

        Raises
        ------
        SpecError
            If the model has no such prior.

        Examples
        --------
        >>> wide = load_model("primary").with_priors(phases=HazardRatioPrior.from_sd(10.0))
        >>> round(wide.phases.prior.sd, 6)
        10.0
        """
        given: dict[str, object] = {
            "phases": phases,
            "covariates": covariates,
            "level": level,
            "step": step,
            "change": change,
            "slope": slope,
            "doubling": doubling,
            "length_scale": length_scale,
            "phase_change": phase_change,
            "concentration": concentration,
            "spread": spread,
            "borrowing_weight": borrowing_weight,
            "borrowing_spread": borrowing_spread,
            "borrowing_probability": borrowing_probability,
            "borrowing_close": borrowing_close,
            "borrowing_apart": borrowing_apart,
            "borrowing_phases": borrowing_phases,
            "borrowing_covariates": borrowing_covariates,
            "cured": cured,
            "cured_covariates": cured_covariates,
        }
        return change_priors(self, {k: v for k, v in given.items() if v is not None})

    @property
    def priors(self) -> dict[str, Any]:
        """The model's priors by the names that `with_priors` takes; None where none is given."""
        found = {}
        for name, place in PRIORS.items():
            part = getattr(self, place.part)
            if part is not None and place.key in part.writable():
                found[name] = getattr(part, place.key)
        return found


# By which name each prior is changed, in Python, study files and sensitivity axes.
PRIORS = prior_fields(ModelDefinition)


def change_priors(
    definition: ModelDefinition, priors: Mapping[str, object], *, where: str = ""
) -> ModelDefinition:
    """Put other priors into a model.

    Parameters
    ----------
    priors
        By name: a prior, or what a file says of it: the interval ``[lower, upper]`` that holds
        95 % of it, a table such as ``{hazard_ratio = [0.5, 2.0], mass = 0.9}``, or a number.
        Whether the sd of a spread is known stays as it is where a prior does not say.
    """
    if not priors:
        return definition
    content = definition.model_dump(by_alias=True)
    has = definition.priors
    for name, prior in priors.items():
        place = f" ({where}{name})" if where else ""
        if name not in PRIORS:
            raise SpecError(f"No prior '{name}'{place}. {nearest(name, tuple(PRIORS))}")
        if name not in has:
            raise SpecError(
                f"Model '{definition.name}' has no prior '{name}'{place}; it has {', '.join(has)}."
            )
        field = PRIORS[name]
        content[field.part][field.key] = _instead_of(getattr(has[name], "known", None), prior)
    names = ", ".join(f"{where}{name}" for name in priors)
    return parse_model(content, source=f"model '{definition.name}' with other priors ({names})")


def _settled(content: Any) -> Any:
    """Say of every spread whether its sd is known: what was not said is estimated."""
    if isinstance(content, dict):
        found = {key: _settled(one) for key, one in content.items()}
        return found | {"known": False} if found.get("known", False) is None else found
    return content


def _instead_of(known: bool | None, prior: object) -> object:
    """Content of a prior that replaces one whose sd is known, or not; None if it has no sd."""
    content = prior.model_dump() if isinstance(prior, BaseModel) else prior
    if known is None:
        return content
    if isinstance(content, list | tuple):
        return {"hazard_ratio": content, "known": known}
    if isinstance(content, dict) and content.get("known") is None and "hazard_ratio" in content:
        return content | {"known": known}
    return content


def require_roles(
    definition: ModelDefinition, levels: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Check the covariates to which a model gives a part of their own."""
    found = {}
    for role, name in definition.roles.items():
        if name is None:
            raise SpecError(
                f"Model '{definition.name}' needs a covariate as its {role}: name it with "
                f"load_model('{definition.name}').with_covariates({role}=...), or {role} = ... "
                f"under [model] in a study file. Categorical covariates: "
                f"{', '.join(levels) or 'none'}."
            )
        if name not in levels:
            raise SpecError(
                f"{role}: no categorical covariate '{name}' among the patients' covariates. "
                f"{nearest(name, list(levels))}"
            )
        if len(levels[name]) < 2:
            raise SpecError(f"{role}: all eligible patients have {name} '{levels[name][0]}'.")
        found[role] = name
    apart = [name for role, name in found.items() if role != "subgroup"]
    if len(set(apart)) != len(apart):
        raise SpecError("One covariate cannot be two of stratum, group and source.")
    return found


def parse_model(content: dict[str, Any], *, source: str) -> ModelDefinition:
    """Check the content of a model file."""
    try:
        found = ModelDefinition.model_validate(content)
    except ValidationError as error:
        raise SpecError(explain(error, ModelDefinition, source=source)) from None
    stated = found.model_dump(by_alias=True)
    settled = _settled(stated)
    return found if settled == stated else ModelDefinition.model_validate(settled)


def explain(error: ValidationError, schema: type[BaseModel], *, source: str) -> str:
    """Word a validation error: where, what, and the keys that are known there."""
    lines = []
    for item in error.errors():
        place = _place(schema, item["loc"])
        where = ".".join(str(part) for part in place) or "the file"
        if item["type"] == "extra_forbidden":
            known = _known_keys(schema, item["loc"][:-1])
            lines.append(f"{where}: unknown key. {nearest(str(item['loc'][-1]), known)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}.")
    return listed(lines, source=source)


def _place(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[int | str]:
    """Leave out of a path what tells the kinds of a part apart, and is no key."""
    return [
        part
        for index, part in enumerate(path)
        if part not in KINDS or part in _known_keys(schema, path[:index])
    ]


def _known_keys(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """List the keys that a schema knows at a path; none where the path leaves the schema."""
    here: Any = schema
    for part in path:
        members = [here]
        if isinstance(here, UnionType):
            # The parts of a union of kinds are told apart by the kind.
            members = [one for one in map(_bare, get_args(here)) if one is not NoneType]
            members = [one for member in members for one in (get_args(member) or [member])]
            tagged = next((one for one in members if _kind(one) == part), None)
            if tagged is not None:
                here = tagged
                continue
            here = members[0]
        if get_origin(here) is dict:
            here = get_args(here)[1]
        elif isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields.items()
            here = next((f.annotation for n, f in fields if part in (n, f.alias)), None)
        else:
            return []
        here = _bare(here)
    if isinstance(here, UnionType):
        here = next((one for one in get_args(here) if one is not NoneType), None)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _kind(schema: Any) -> str | None:
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return None
    field = schema.model_fields.get("kind")
    return None if field is None else field.default


def model_names() -> tuple[str, ...]:
    """Names of the models that ship with the package.

    Examples
    --------
    >>> "primary" in model_names()
    True
    """
    entries = files("bayesblina.models").iterdir()
    return tuple(sorted(e.name.removesuffix(".toml") for e in entries if e.name.endswith(".toml")))


def load_model(model: str | PathLike[str]) -> ModelDefinition:
    """Load a model by its name, or from a TOML file of one's own.

    Parameters
    ----------
    model
        A shipped model's name (``"primary"``) or the path of a ``.toml`` file.

    Returns
    -------
    ModelDefinition
        The definition.

    Raises
    ------
    TypeError
        If it is neither a name nor a path.
    SpecError
        If there is no such model, or its file is not valid.

    Examples
    --------
    >>> load_model("primary").baseline.kind
    'random_walk'
    """
    require_kind(model, str | PathLike, "model")
    path = Path(model)
    if path.suffix == ".toml":
        return parse_model(read_toml(path, what="model file"), source=path.name)
    if str(model) not in model_names():
        raise SpecError(f"No model '{model}'. {nearest(str(model), model_names())}")
    path = Path(f"{model}.toml")
    text = files("bayesblina.models").joinpath(path.name).read_text(encoding="utf-8")
    return parse_model(tomllib.loads(text), source=path.name)
