"""What the parts of a model file may say: a closed vocabulary, no code, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from bayesblina.hazards.priors import (
    SYMMETRIC,
    FractionPrior,
    HazardRatioPrior,
    ModelTable,
    OddsRatioPrior,
    Positive,
    Share,
    SpreadPrior,
)


class RandomWalk(ModelTable):
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


class SmoothWalk(ModelTable):
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


class Weibull(ModelTable):
    """A log hazard linear in log time, and a random walk of departures from it."""

    kind: Literal["weibull"] = "weibull"
    # Event-weighted mean hazard against the crude rate.
    level: HazardRatioPrior
    # Hazard at twice the time against that at the time: 1 is a constant hazard.
    doubling: HazardRatioPrior
    # Departure from the Weibull hazard over the whole of follow-up.
    change: SpreadPrior


class GaussianProcess(ModelTable):
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


class Free(ModelTable):
    """No prior of the baseline: a hazard that jumps at the event times, and is 0 between them."""

    kind: Literal["free"] = "free"


Baseline = Annotated[
    RandomWalk | SmoothWalk | Weibull | GaussianProcess | Free, Field(discriminator="kind")
]


class ProportionalPhases(ModelTable):
    """Phase effects that multiply the hazard by a constant."""

    kind: Literal["proportional"] = "proportional"
    # Hazard in a phase against the reference.
    prior: HazardRatioPrior


class PhasesOverTime(ModelTable):
    """The exposed phase's effect varies over follow-up, as a random walk."""

    kind: Literal["over_time"] = "over_time"
    # Hazard in a phase against the reference, on average.
    prior: HazardRatioPrior
    # Hazard ratio at the end of follow-up against that at its beginning.
    change: SpreadPrior


class PhasesSinceEntry(ModelTable):
    """The exposed phase's effect varies with time since entering it: delay and waning."""

    kind: Literal["since_entry"] = "since_entry"
    # Hazard in a phase against the reference, on average.
    prior: HazardRatioPrior
    # Hazard ratio long after entry against that just after it.
    change: SpreadPrior


class PhasesBySubgroup(ModelTable):
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


class Covariates(ModelTable):
    """Covariate effects that multiply the hazard by a constant."""

    # Per standard deviation of a continuous covariate, per level of a categorical one.
    prior: HazardRatioPrior


class Independent(ModelTable):
    """Endpoints that share nothing."""

    kind: Literal["independent"] = "independent"


class Correlated(ModelTable):
    """Log hazard ratios of the phases correlated between endpoints."""

    kind: Literal["correlated"] = "correlated"
    # LKJ prior of the correlation matrix; 1 is uniform, larger favours independence.
    concentration: Positive = 2.0


class IllnessDeath(ModelTable):
    """Relapse, death in remission and death after relapse: three transitions of one course."""

    kind: Literal["illness_death"] = "illness_death"
    # The endpoint that ends with death.
    death: Annotated[str, Field(min_length=1)] = "os"
    # The one that ends with relapse or death.
    relapse_free: Annotated[str, Field(min_length=1)] = "rfs"


Endpoints = Annotated[Independent | Correlated | IllnessDeath, Field(discriminator="kind")]


def _require_estimated[T: (SiteFrailty, PatientFrailty)](groups: T) -> T:
    if groups.spread.known:
        raise ValueError("the spread of groups is estimated: known is not for it")
    return groups


class SiteFrailty(ModelTable):
    """Levels of a covariate (sites, regions) whose hazards differ at random."""

    kind: Literal["levels"] = "levels"
    # Hazard of one level against the average.
    spread: SpreadPrior
    # The covariate.
    group: str | None = None

    _estimated = model_validator(mode="after")(_require_estimated)


class PatientFrailty(ModelTable):
    """Patients whose hazards differ at random, of all endpoints alike."""

    kind: Literal["patient"] = "patient"
    # Hazard of one patient against the average.
    spread: SpreadPrior

    _estimated = model_validator(mode="after")(_require_estimated)


Groups = Annotated[SiteFrailty | PatientFrailty, Field(discriminator="kind")]


class PowerPrior(ModelTable):
    """External patients count a fixed share."""

    kind: Literal["power"] = "power"
    # The share.
    weight: Annotated[float, Field(gt=0, le=1, strict=True)]
    # The covariate; its reference level is the current study.
    source: str | None = None


# Parts of the hazard in which external patients may differ from the current ones.
Part = Literal["baseline", "shape", "phases", "covariates"]


class Differing(ModelTable):
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


class Commensurate(Differing):
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
        priors = (self.spread, self.phases, self.covariates)
        if any(prior is not None and prior.known for prior in priors):
            raise ValueError("the spread of sources is estimated: known is not for it")
        return self

    def prior_of(self, part: Part) -> SpreadPrior:
        """Prior of how far sources lie apart in a part."""
        return {"phases": self.phases, "covariates": self.covariates}.get(part) or self.spread


class Mixture(ModelTable):
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


class RobustMixture(Differing, Mixture):
    """External patients' hazards are close to the current ones, or else may lie far from them."""

    kind: Literal["robust"] = "robust"
    # The same of their hazard ratios of phases against the current ones; as the hazard's unless
    # given.
    phases: Mixture | None = None
    # The same of their hazard ratios of covariates; as the hazard's unless given.
    covariates: Mixture | None = None

    def prior_of(self, part: Part) -> Mixture:
        """Prior of how far sources lie apart in a part."""
        return {"phases": self.phases, "covariates": self.covariates}.get(part) or self


class Cure(ModelTable):
    """Patients who will never have the event: a fraction that depends on covariates."""

    # Of patients at mean covariates, as they come under observation.
    fraction: FractionPrior
    # Odds of being cured per sd of a continuous covariate, per level of a categorical one.
    covariates: OddsRatioPrior


Borrowing = Annotated[PowerPrior | Commensurate | RobustMixture, Field(discriminator="kind")]
