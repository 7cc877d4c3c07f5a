"""Models as values: loaded from files by name or path, their priors and covariates changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bayesblina.core.errors import EstimandError, SpecError, nearest, no_boolean, require_kind
from bayesblina.core.files import read_toml
from bayesblina.hazards.parts import (
    Baseline,
    Borrowing,
    Correlated,
    Covariates,
    Cure,
    Differing,
    Endpoints,
    Free,
    Groups,
    IllnessDeath,
    Independent,
    Mixture,
    Part,
    PatientFrailty,
    Phases,
    PhasesBySubgroup,
    ProportionalPhases,
    RandomWalk,
    SiteFrailty,
)
from bayesblina.hazards.priors import (
    FractionPrior,
    HazardRatioPrior,
    ModelTable,
    OddsRatioPrior,
    SpreadPrior,
    explain,
    prior_fields,
)

# Covariates that a model gives a part of their own: which one, by what they are to it.
ROLES = {"stratum": "baseline", "subgroup": "phases", "group": "groups", "source": "borrowing"}


class ModelDefinition(ModelTable):
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
        free, borrowing = isinstance(self.baseline, Free), self.borrowing
        own = isinstance(self.baseline, RandomWalk) and not self.baseline.shared
        shape = isinstance(borrowing, Differing) and "shape" in borrowing.covers
        for wrong, message in (
            (
                self.cure is not None and isinstance(self.endpoints, IllnessDeath),
                "cure is for endpoints of their own, not for an illness-death course",
            ),
            (
                self.cure is not None and isinstance(self.groups, PatientFrailty),
                "cure and effects of single patients cannot be told apart: take one",
            ),
            (
                shape and not free and not own,
                "borrowing covers the shape only of a random_walk that endpoints do not share: "
                "leave 'shape' out of covers",
            ),
            (
                free
                and (
                    not isinstance(self.phases, ProportionalPhases)
                    or isinstance(self.endpoints, Correlated)
                    or self.groups is not None
                    or isinstance(borrowing, Differing)
                    or self.cure is not None
                ),
                "a free baseline goes with proportional phases and independent endpoints, "
                "without groups, cure and external patients other than of a power prior",
            ),
        ):
            if wrong:
                raise ValueError(message)
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
        has = {
            "stratum": isinstance(self.baseline, RandomWalk) and self.baseline.stratified,
            "subgroup": isinstance(self.phases, PhasesBySubgroup),
            "group": isinstance(self.groups, SiteFrailty),
            "source": self.borrowing is not None,
        }
        return {role: getattr(getattr(self, ROLES[role]), role) for role, own in has.items() if own}

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
        for role, name in ((role, name) for role, name in given.items() if name is not None):
            if role not in self.roles:
                raise SpecError(
                    f"Model '{self.name}' has no {role}; what it can be given: "
                    f"{', '.join(self.roles) or 'none'}."
                )
            content[ROLES[role]][role] = name
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
        if not isinstance(self.borrowing, Differing):
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
        unused = {part: None for part in ("phases", "covariates") if part not in tuple(covers)}
        content["borrowing"] |= {"covers": tuple(covers), **unused}
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
        parts = {name: (getattr(self, prior.part), prior.key) for name, prior in PRIORS.items()}
        return {
            name: getattr(part, key)
            for name, (part, key) in parts.items()
            if part is not None and key in part.writable()
        }


# By which name each prior is changed, in Python, study files and sensitivity axes.
PRIORS = prior_fields(ModelDefinition)


def change_priors(
    definition: ModelDefinition, priors: Mapping[str, object], *, where: str = ""
) -> ModelDefinition:
    """Put other priors into a model.

    `priors`: by name: a prior, or what a file says of it: the interval ``[lower, upper]`` that
    holds 95 % of it, a table such as ``{hazard_ratio = [0.5, 2.0], mass = 0.9}``, or a number.
    Whether the sd of a spread is known stays as it is where a prior does not say.
    """
    if not priors:
        return definition
    content = definition.model_dump(by_alias=True)
    has = definition.priors
    for name, prior in priors.items():
        section = f" ({where}{name})" if where else ""
        if name not in PRIORS:
            raise SpecError(f"No prior '{name}'{section}. {nearest(name, tuple(PRIORS))}")
        if name not in has:
            raise SpecError(
                f"Model '{definition.name}' has no prior '{name}'{section}; "
                f"it has {', '.join(has)}."
            )
        field = PRIORS[name]
        content[field.part][field.key] = _instead_of(getattr(has[name], "known", None), prior)
    names = ", ".join(f"{where}{name}" for name in priors)
    return parse_model(content, source=f"model '{definition.name}' with other priors ({names})")


def _settled(content: Any) -> Any:
    """Say of every spread whether its sd is known: what was not said is estimated."""
    if isinstance(content, dict):
        settled = {key: _settled(value) for key, value in content.items()}
        return settled | {"known": False} if settled.get("known", False) is None else settled
    return content


def _instead_of(known: bool | None, prior: object) -> object:
    """Content of a prior that replaces one whose sd is known, or not; None if it has no sd."""
    content = prior.model_dump() if isinstance(prior, BaseModel) else prior
    if known is None:
        return content
    if isinstance(content, list | tuple):
        content = {"hazard_ratio": content}
    if isinstance(content, dict) and content.get("known") is None and "hazard_ratio" in content:
        return content | {"known": known}
    return content


def require_roles(
    definition: ModelDefinition, levels: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Check the covariates to which a model gives a part of their own."""
    named = {}
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
        named[role] = name
    apart = [name for role, name in named.items() if role != "subgroup"]
    if len(set(apart)) != len(apart):
        raise SpecError("One covariate cannot be two of stratum, group and source.")
    return named


def parse_model(content: dict[str, Any], *, source: str) -> ModelDefinition:
    """Check the content of a model file."""
    try:
        definition = ModelDefinition.model_validate(content)
    except ValidationError as error:
        raise SpecError(explain(error, ModelDefinition, source=source)) from None
    return ModelDefinition.model_validate(_settled(definition.model_dump(by_alias=True)))


def model_names() -> tuple[str, ...]:
    """Names of the models that ship with the package.

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
    file = files("bayesblina.models") / f"{model}.toml"
    return parse_model(tomllib.loads(file.read_text(encoding="utf-8")), source=file.name)
