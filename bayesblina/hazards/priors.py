"""Priors as people state them, and where they stand in the tables of files.

Priors are read off the schema, so that one that is added to a part of a model has a name at once:
in `ModelDefinition.with_priors`, under ``[model.priors]`` of study files and as an axis
``prior.NAME`` of a sensitivity study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from statistics import NormalDist
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, Self, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bayesblina.core.errors import listed, nearest

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
        return half / _ratio_quantile(self.mass, known=bool(self.known))

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
        half = scale * _ratio_quantile(0.95, known=known)
        return cls(hazard_ratio=(math.exp(-half), math.exp(half)), mass=0.95, known=known)


@cache
def _ratio_quantile(mass: float, *, known: bool) -> float:
    """End of a log ratio's central interval: of a standard normal, times another if not `known`."""
    if known:
        return NormalDist().inv_cdf((1.0 + mass) / 2.0)
    from scipy.optimize import brentq
    from scipy.special import iti0k0

    # The product's density is K0(|x|) / pi.
    return float(brentq(lambda end: 2.0 * iti0k0(end)[1] / math.pi - mass, 1e-9, 50.0, xtol=1e-12))


# What the names of a part's priors begin with.
PREFIXES: Mapping[str, str] = MappingProxyType(
    {"phases": "phase_", "covariates": "covariate_", "borrowing": "borrowing_", "cure": "cured_"}
)
# Names of priors that are called by what they are of.
OWN_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("phases", "prior"): "phases",
        ("covariates", "prior"): "covariates",
        ("cure", "fraction"): "cured",
    }
)


class PriorField(NamedTuple):
    """Where a prior stands: section of a model file, and the key in it."""

    part: str
    key: str


def prior_fields(schema: type[BaseModel]) -> Mapping[str, PriorField]:
    """Find the priors of a schema of models.

    By the name by which each is changed, in the order of the schema. Priors are sections without a
    kind, intervals, and numbers that are not whole.
    """
    fields: dict[str, PriorField] = {}
    for part, field in schema.model_fields.items():
        for section in filter(_is_section, _members(field.annotation)):
            for key, inner in section.model_fields.items():
                if any(map(_is_prior, _members(inner.annotation))):
                    name = OWN_NAMES.get((part, key), PREFIXES.get(part, "") + key)
                    stands = PriorField(part, key)
                    if fields.setdefault(name, stands) != stands:
                        raise TypeError(f"two priors have the name '{name}'")
    return MappingProxyType(fields)


def explain(error: ValidationError, schema: type[BaseModel], *, source: str) -> str:
    """Word a validation error: where, what, and the keys that are known there."""
    # What is wrong at each place; of what may be of several kinds, how it is none of them.
    wrong: dict[tuple[int | str, ...], dict[tuple[int | str, ...], list[str]]] = {}
    for item in error.errors():
        path = item["loc"]
        keys, _, of_kinds = _follow(schema, path)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key. {nearest(str(path[-1]), _follow(schema, path[:-1])[1])}"
        messages = wrong.setdefault(tuple(of_kinds or keys), {}).setdefault(tuple(keys), [])
        if message not in messages:
            messages.append(message)
    lines = []
    for places in wrong.values():
        # Of the kind that is meant, more could be read.
        deepest = max(map(len, places))
        for named, messages in places.items():
            if len(named) == deepest:
                said = "; or: ".join(messages)
                where = ".".join(map(str, named)) or "the file"
                lines.append(f"{where}: {said}" + ("" if said.endswith(".") else "."))
    return listed(lines, source=source)


def _follow(
    schema: type[BaseModel], path: Sequence[int | str]
) -> tuple[list[int | str], list[str], list[int | str]]:
    """Follow a path into a schema: the keys on it, and the keys that are known at its end.

    What tells the kinds of a part apart is no key. Nothing is known where the path leaves the
    schema. Last, the keys up to the first part that may be of several kinds without a name; empty
    without one.
    """
    keys: list[int | str] = []
    of_kinds: list[int | str] = []
    here: list[Any] = [schema]
    for part in path:
        kind = [member for member in here if _is_section(member) and _kind(member) == part]
        if len(here) > 1 and kind:
            here = kind
            continue
        if len(here) > 1 and isinstance(part, str):
            # Of each kind pydantic tells by itself what is wrong.
            of_kinds = of_kinds or [*keys]
            here = [
                member
                for member in here
                if part.startswith(getattr(get_origin(member) or member, "__name__", "?"))
            ]
            continue
        keys.append(part)
        annotation = None
        if here and get_origin(here[0]) is dict:
            annotation = get_args(here[0])[1]
        elif here and get_origin(here[0]) is list:
            annotation = get_args(here[0])[0]
        elif here and _is_section(here[0]):
            fields = here[0].model_fields.items()
            annotation = next((f.annotation for n, f in fields if part in (n, f.alias)), None)
        here = list(_members(annotation))
    sections = filter(_is_section, here[:1])
    known = [f.alias or name for member in sections for name, f in member.model_fields.items()]
    return keys, known, of_kinds


def _kind(section: type[BaseModel]) -> object:
    """Read what tells a section from others in its place."""
    field = section.model_fields.get("kind")
    return None if field is None else field.default


def _members(annotation: Any) -> Iterator[Any]:
    """Go through the members of a union, without what is annotated to them."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif annotation not in (None, NoneType):
        yield annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_prior(annotation: Any) -> bool:
    if _is_section(annotation):
        return "kind" not in annotation.model_fields
    if get_origin(annotation) is tuple:
        return [end for inner in get_args(annotation) for end in _members(inner)] == [float, float]
    return annotation is float
