"""What a schema of files says of itself: where priors stand, and which keys are known where.

Priors are read off the schema, so that one that is added to a part of a model has a name at once:
in `ModelDefinition.with_priors`, under ``[model.priors]`` of study files and as an axis
``prior.NAME`` of a sensitivity study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bayesblina.core.errors import listed, nearest

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
    lines = []
    for item in error.errors():
        path = item["loc"]
        where = ".".join(map(str, _follow(schema, path)[0])) or "the file"
        if item["type"] == "extra_forbidden":
            known = _follow(schema, path[:-1])[1]
            lines.append(f"{where}: unknown key. {nearest(str(path[-1]), known)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}.")
    return listed(lines, source=source)


def _follow(
    schema: type[BaseModel], path: Sequence[int | str]
) -> tuple[list[int | str], list[str]]:
    """Follow a path into a schema: the keys on it, and the keys that are known at its end.

    What tells the kinds of a part apart is no key. Nothing is known where the path leaves the
    schema.
    """
    keys: list[int | str] = []
    here: list[Any] = [schema]
    for part in path:
        kind = [member for member in here if _is_section(member) and _kind(member) == part]
        if len(here) > 1 and kind:
            here = kind
            continue
        keys.append(part)
        annotation = None
        if here and get_origin(here[0]) is dict:
            annotation = get_args(here[0])[1]
        elif here and _is_section(here[0]):
            fields = here[0].model_fields.items()
            annotation = next((f.annotation for n, f in fields if part in (n, f.alias)), None)
        here = list(_members(annotation))
    sections = filter(_is_section, here[:1])
    return keys, [f.alias or name for member in sections for name, f in member.model_fields.items()]


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
        return [one for inner in get_args(annotation) for one in _members(inner)] == [float, float]
    return annotation is float
