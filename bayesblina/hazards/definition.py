"""What a model file may say: a closed vocabulary, no code, unknown keys refused."""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from os import PathLike
from pathlib import Path
from statistics import NormalDist
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bayesblina.errors import SpecError, nearest

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class HazardRatioPrior(_Section):
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
    mass: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @model_validator(mode="after")
    def _ordered(self) -> HazardRatioPrior:
        if self.hazard_ratio[0] >= self.hazard_ratio[1]:
            raise ValueError("hazard_ratio must be [lower, upper] with lower < upper")
        return self

    @property
    def mean(self) -> float:
        """Prior mean of the log hazard ratio."""
        lower, upper = self.hazard_ratio
        return (math.log(lower) + math.log(upper)) / 2.0

    @property
    def sd(self) -> float:
        """Prior standard deviation of the log hazard ratio."""
        lower, upper = self.hazard_ratio
        width = math.log(upper) - math.log(lower)
        return width / (2.0 * NormalDist().inv_cdf((1.0 + self.mass) / 2.0))

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


class RandomWalk(_Section):
    """A width-aware Gaussian random walk on each endpoint's log baseline hazard."""

    kind: Literal["random_walk"] = "random_walk"
    level_sd: Positive = 1.5
    walk_sd: Positive = 1.5
    # Whether walk_sd is the walk's sd itself, rather than the half-normal scale of its prior. A
    # large known sd gives nearly independent intervals.
    walk_sd_known: bool = False


class ProportionalPhases(_Section):
    """Phase effects that multiply the hazard by a constant."""

    kind: Literal["proportional"] = "proportional"
    prior: HazardRatioPrior


class Covariates(_Section):
    """Covariate effects that multiply the hazard by a constant."""

    prior: HazardRatioPrior


class Endpoints(_Section):
    """How the endpoints hang together."""

    kind: Literal["independent"] = "independent"


class ModelDefinition(_Section):
    """A named hazard model.

    Parameters
    ----------
    schema_version
        Version of the vocabulary (``schema`` in the file).
    name, title, description
        What it is called, in a word, a line and a paragraph.
    baseline, phases, covariates, endpoints
        Its parts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    description: str = ""
    baseline: RandomWalk
    phases: ProportionalPhases
    covariates: Covariates
    endpoints: Endpoints = Endpoints()

    def with_priors(
        self,
        *,
        phases: HazardRatioPrior | None = None,
        covariates: HazardRatioPrior | None = None,
        level_sd: float | None = None,
        walk_sd: float | None = None,
        walk_sd_known: bool | None = None,
    ) -> ModelDefinition:
        """Return the same model with other priors.

        Parameters
        ----------
        phases, covariates
            Priors of the hazard ratios.
        level_sd, walk_sd
            Scales of the baseline's prior.
        walk_sd_known
            Whether `walk_sd` is the walk's sd itself, rather than the scale of its prior.

        Returns
        -------
        ModelDefinition
            A new definition; priors not given stay.

        Raises
        ------
        SpecError
            If a scale is not positive.

        Examples
        --------
        >>> wide = load_model("primary").with_priors(phases=HazardRatioPrior.from_sd(10.0))
        >>> round(wide.phases.prior.sd, 6)
        10.0
        """
        content = self.model_dump(by_alias=True)
        if phases is not None:
            content["phases"]["prior"] = phases.model_dump()
        if covariates is not None:
            content["covariates"]["prior"] = covariates.model_dump()
        if level_sd is not None:
            content["baseline"]["level_sd"] = level_sd
        if walk_sd is not None:
            content["baseline"]["walk_sd"] = walk_sd
        if walk_sd_known is not None:
            content["baseline"]["walk_sd_known"] = walk_sd_known
        return parse_model(content, source=f"model '{self.name}'")


def parse_model(content: dict[str, Any], *, source: str) -> ModelDefinition:
    """Check the content of a model file.

    Parameters
    ----------
    content
        The parsed file.
    source
        Its name, for messages.

    Returns
    -------
    ModelDefinition
        The definition.

    Raises
    ------
    SpecError
        If a key is unknown, missing or has an impossible value; lists the known keys.
    """
    try:
        return ModelDefinition.model_validate(content)
    except ValidationError as error:
        raise SpecError(explain(error, ModelDefinition, source=source)) from None


def explain(error: ValidationError, schema: type[BaseModel], *, source: str) -> str:
    """Word a validation error: where, what, and the keys that are known there.

    Parameters
    ----------
    error
        The error.
    schema
        The schema it came from.
    source
        Name of the file, for the message.

    Returns
    -------
    str
        One line for each problem.
    """
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "the file"
        if item["type"] == "extra_forbidden":
            known = _known_keys(schema, item["loc"][:-1])
            lines.append(f"{where}: unknown key. {nearest(str(item['loc'][-1]), known)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}.")
    count = len(lines)
    head = f"{count} problem{'s' if count != 1 else ''} in {source}:"
    return "\n".join([head, *(f"  - {line}" for line in lines)])


def _known_keys(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """List the keys that a schema knows at a path; none where the path leaves the schema."""
    here: Any = schema
    for part in path:
        if get_origin(here) is dict:
            here = get_args(here)[1]
        elif isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields.items()
            here = next((f.annotation for n, f in fields if part in (n, f.alias)), None)
        else:
            return []
        if get_origin(here) is Annotated:
            here = get_args(here)[0]
        if isinstance(here, UnionType):
            here = next((one for one in get_args(here) if one is not NoneType), None)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def model_names() -> tuple[str, ...]:
    """Names of the models that ship with the package.

    Returns
    -------
    tuple of str
        In alphabetical order.

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
    SpecError
        If there is no such model, or its file is not valid.

    Examples
    --------
    >>> load_model("primary").baseline.kind
    'random_walk'
    """
    if not isinstance(model, str | PathLike):
        raise SpecError(f"model must be a name, a path or a ModelDefinition, got {model!r}.")
    path = Path(model)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SpecError(f"No model file '{path}'.")
        text = path.read_text(encoding="utf-8")
    elif str(model) in model_names():
        path = Path(f"{model}.toml")
        text = files("bayesblina.models").joinpath(path.name).read_text(encoding="utf-8")
    else:
        raise SpecError(f"No model '{model}'. {nearest(str(model), model_names())}")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path.name} is not valid TOML: {error}.") from None
    return parse_model(content, source=path.name)
