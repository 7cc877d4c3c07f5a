"""Where a model definition keeps its priors, and by which name each is changed: one table.

The table is read off the schema, so that a prior that is added to a part of a model has a name at
once: in `ModelDefinition.with_priors`, under ``[model.priors]`` of study files and as an axis
``prior.NAME`` of a sensitivity study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorField:
    """Where a prior stands.

    Attributes
    ----------
    part, key
        Section of a model file, and the key in it.
    """

    part: str
    key: str


def prior_fields(schema: type[BaseModel]) -> Mapping[str, PriorField]:
    """Find the priors of a schema of models.

    By the name by which each is changed, in the order of the schema. Priors are sections without a
    kind, intervals, and numbers that are not whole.
    """
    found: dict[str, PriorField] = {}
    for part, field in schema.model_fields.items():
        for kind in _sections(field.annotation):
            for key, inner in kind.model_fields.items():
                if any(_is_prior(one) for one in _members(inner.annotation)):
                    name = OWN_NAMES.get((part, key), PREFIXES.get(part, "") + key)
                    place = PriorField(part=part, key=key)
                    if found.setdefault(name, place) != place:
                        raise TypeError(f"two priors have the name '{name}'")
    return MappingProxyType(found)


def _members(annotation: Any) -> Iterator[Any]:
    """Go through the members of a union, without what is annotated to them."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _members(one)
    elif annotation is not NoneType:
        yield annotation


def _sections(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _members(annotation) if _is_section(one)]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_prior(annotation: Any) -> bool:
    if _is_section(annotation):
        return "kind" not in annotation.model_fields
    if get_origin(annotation) is tuple:
        members = [one for inner in get_args(annotation) for one in _members(inner)]
        return members == [float, float]
    return annotation is float
