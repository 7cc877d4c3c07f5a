"""References of study, design and model files, from their pydantic models."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from numpydoc.docscrape import NumpyDocString
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

import bayesblina
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.priors import FractionPrior, HazardRatioPrior, OddsRatioPrior, SpreadPrior
from bayesblina.studies.study_sections import DesignFile, StudyFile

PRIORS = (HazardRatioPrior, OddsRatioPrior, FractionPrior, SpreadPrior)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilePage:
    """A kind of file, and what its reference needs that the schema does not say."""

    schema: type[BaseModel]
    title: str
    introduction: str
    # Sections that take what a public function or class takes: its docstring explains their keys.
    explained_by: Mapping[str, str]


STUDY = FilePage(
    schema=StudyFile,
    title="Study file",
    introduction=(
        "A TOML file that names the patients' table, the question, the model and what is varied. "
        "`bayesblina init` drafts one, `bayesblina validate` checks it, `bayesblina run` answers "
        "it. Unknown keys are errors. Paths are relative to the file. Every time is in the unit "
        "of the data."
    ),
    explained_by={
        "DataSection": "read_cohort",
        "RepairsSection": "Repairs",
        "EndpointSection": "Endpoint",
        "VisitsSection": "Visits",
        "PhaseSection": "Phase",
        "CoursesSection": "Courses",
        "CalendarSection": "Calendar",
        "QuestionSection": "Question",
        "ModelSection": "ModelDefinition.with_covariates",
        "PriorsSection": "ModelDefinition.with_priors",
        "FitSection": "fit",
        "CurvesSection": "survival",
        "FromSection": "From",
        "BetweenSection": "Between",
        "CyclesSection": "Cycles",
        "WithPhasesSection": "WithPhases",
        "SensitivitySection": "scenarios",
        "AdverseEventsSection": "safety.adverse_events",
        "AdamSection": "read_adam",
        "AdamEndpointSection": "AdamEndpoint",
        "AdamCoursesSection": "AdamCourses",
        "WeightingSection": "weighting.weighted_effect",
        "HistorySection": "read_history",
        "ReportSection": "write_report",
    },
)
DESIGN = FilePage(
    schema=DesignFile,
    title="Design file",
    introduction=(
        "A TOML file that describes a study before it is done, run by `bayesblina design`. "
        "Unknown keys are errors. Every time is in the design's `unit`."
    ),
    explained_by={
        "DesignSection": "planning.StudyDesign",
        "AnalysisSection": "planning.operating_characteristics",
        "SampleSizeSection": "planning.sample_size",
    },
)
MODEL = FilePage(
    schema=ModelDefinition,
    title="Model file",
    introduction=(
        "A TOML file that defines a hazard model in a closed vocabulary: no code, unknown keys "
        "are errors. `bayesblina models show NAME` prints the shipped ones. Where a part has "
        "kinds, `kind` chooses one, and decides which keys are known."
    ),
    explained_by={},
)


def file_page(page: FilePage) -> str:
    """Write the reference of a kind of file.

    Parameters
    ----------
    page
        The kind of file.

    Returns
    -------
    str
        The page, as Markdown.
    """
    lines = [f"# {page.title}", "", page.introduction, ""]
    # In the order of the file, each section once, priors at the end.
    waiting: list[tuple[str, type[BaseModel]]] = [("", page.schema)]
    done: set[type[BaseModel]] = set()
    priors: dict[type[BaseModel], None] = {}
    while waiting or priors:
        if not waiting:
            waiting = [("", prior) for prior in priors]
            priors = {}
        path, schema = waiting.pop(0)
        if schema in done:
            continue
        done.add(schema)
        meanings = field_meanings(schema, page.explained_by.get(schema.__name__))
        lines += [f"## {_heading(path, schema, page)}", "", meaning_of_section(schema), ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        inner: list[tuple[str, type[BaseModel]]] = []
        for name, field in schema.model_fields.items():
            key = field.alias or name
            value = describe(field.annotation, field.metadata)
            sections = list(_schemas(field.annotation))
            meaning = meanings.get(name, "")
            if len(sections) == 1 and sections[0] not in PRIORS:
                meaning = meaning_of_section(sections[0])
            elif sections and sections[0] not in PRIORS:
                meaning = "See its kinds below."
            cells = (f"`{key}`", value, _default(field), meaning)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
            below = f"{path}.{key}" if path else key
            below += ".NAME" if get_origin(field.annotation) is dict else ""
            for one in sections:
                if one in PRIORS:
                    priors[one] = None
                else:
                    inner.append((below, one))
        lines += [""]
        waiting = [*inner, *waiting]
    return "\n".join(lines)


def _heading(path: str, schema: type[BaseModel], page: FilePage) -> str:
    if schema is page.schema:
        return "Top of the file"
    if schema in PRIORS:
        return f"A prior stated by {_words(schema.__name__)}"
    kind = schema.model_fields.get("kind")
    if kind is not None and isinstance(kind.default, str):
        return f'`[{path}]`, `kind = "{kind.default}"`'
    return f"`[{path}]`"


def _words(name: str) -> str:
    """Say a prior's name in words: HazardRatioPrior is a hazard ratio."""
    words = re.findall(r"[A-Z][a-z]+", name.removesuffix("Prior"))
    text = " ".join(words).lower()
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _summary(schema: type[BaseModel]) -> str:
    """Take the first paragraph of a docstring, its code set as Markdown."""
    first = inspect.cleandoc(schema.__doc__ or "").split("\n\n")[0]
    return _markdown(first)


def meaning_of_section(schema: type[BaseModel]) -> str:
    """Say what a section is for, without the name that the table gives already."""
    text = re.sub(r"^`\[.*?\]`: ", "", _summary(schema))
    return text[0].upper() + text[1:]


def _markdown(text: str) -> str:
    """Turn the marks of reStructuredText in a docstring's sentence into Markdown's."""
    text = " ".join(text.replace("``", "`").split())
    return re.sub(r"(?<!`)`bayesblina\.([\w.]+)`(?!`)", r"{py:obj}`bayesblina.\1`", text)


def field_meanings(schema: type[BaseModel], explained_by: str | None) -> dict[str, str]:
    """Collect what is said of a section's keys.

    Comments above a field come first, then the class's own docstring, then that of the public name
    that takes the same.

    Parameters
    ----------
    schema
        The section.
    explained_by
        The public name, below ``bayesblina``, or None.

    Returns
    -------
    dict of str
        Sentences by field.
    """
    found: dict[str, str] = {}
    if explained_by is not None:
        target: Any = bayesblina
        for part in explained_by.split("."):
            target = getattr(target, part)
        found |= _parameters(target)
    found |= _parameters(schema)
    for one in reversed(schema.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found |= _comments(one)
    return {name: text for name, text in found.items() if name in schema.model_fields}


def _parameters(target: Any) -> dict[str, str]:
    docstring = NumpyDocString(inspect.cleandoc(target.__doc__ or ""))
    found = {}
    for parameter in docstring["Parameters"]:
        for name in parameter.name.split(","):
            # A paragraph is enough: the rest is on the function's own page.
            found[name.strip()] = _markdown(" ".join(parameter.desc).split("  ")[0])
    return found


def _comments(schema: type[BaseModel]) -> dict[str, str]:
    found, said = {}, []
    for line in inspect.getsource(schema).splitlines():
        text = line.strip()
        field = re.match(r"(\w+): ", text)
        if text.startswith("# "):
            said.append(text[2:])
            continue
        if field and said:
            found[field.group(1)] = " ".join(said)
        said = []
    return found


def describe(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say in words which values a key takes.

    Parameters
    ----------
    annotation
        The field's type.
    metadata
        Its constraints.

    Returns
    -------
    str
        Such as "number > 0".
    """
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    constraints = [one for item in metadata for one in _flat(item)]
    members = [one for one in _members(annotation) if one is not NoneType]
    if len(members) == 1 and get_origin(members[0]) is Annotated:
        return describe(members[0], metadata)
    if len(members) > 1 and all(_is_schema(one) and "kind" in one.model_fields for one in members):
        kinds = [str(one.model_fields["kind"].default) for one in members]
        return f"table with `kind` = {_either([f'`{json.dumps(kind)}`' for kind in kinds])}"
    words = _either([_describe_one(one, constraints) for one in members])
    shorthand = [one.func.__doc__ or "" for one in metadata if isinstance(one, BeforeValidator)]
    if get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        shorthand += [
            one.func.__doc__ or ""
            for one in (get_args(inner)[1:] if get_origin(inner) is Annotated else ())
            if isinstance(one, BeforeValidator)
        ]
    if shorthand:
        words += f" (shorthand: {shorthand[0][0].lower()}{shorthand[0][1:].rstrip('.')})"
    return words


def _flat(item: Any) -> Iterator[Any]:
    """Take the constraints out of a nested field."""
    yield from item.metadata if isinstance(item, FieldInfo) else [item]


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _describe_one(annotation: Any, constraints: Sequence[Any]) -> str:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        constraints = [*constraints, *(one for item in more for one in _flat(item))]
    if get_origin(annotation) is Literal:
        return _either([f"`{json.dumps(value)}`" for value in get_args(annotation)])
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)
        if inner[-1] is Ellipsis:
            return f"list of {describe(inner[0])}"
        return f"list of {len(inner)}: {describe(inner[0])} each"
    if get_origin(annotation) is list:
        return f"list of {describe(get_args(annotation)[0])}{_length(constraints)}"
    if get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        bare = get_args(inner)[0] if get_origin(inner) is Annotated else inner
        what = "table" if _is_schema(bare) else describe(inner)
        return f"table: NAME = {what}"
    if _is_schema(annotation):
        if annotation in PRIORS:
            return f"[lower, upper], or table ({_words(annotation.__name__)})"
        return "table"
    names = {str: "text", float: "number", int: "whole number", bool: "`true` or `false`"}
    return f"{names.get(annotation, 'any value')}{_limits(constraints)}"


def _limits(constraints: Sequence[Any]) -> str:
    limits = []
    for one in constraints:
        if isinstance(one, annotated_types.Gt):
            limits.append(f"> {one.gt}")
        elif isinstance(one, annotated_types.Ge):
            limits.append(f"≥ {one.ge}")
        elif isinstance(one, annotated_types.Lt):
            limits.append(f"< {one.lt}")
        elif isinstance(one, annotated_types.Le):
            limits.append(f"≤ {one.le}")
        elif getattr(one, "pattern", None):
            limits.append(f"matching `{one.pattern}`")
    return f" {', '.join(limits)}" if limits else ""


def _length(constraints: Sequence[Any]) -> str:
    least = next((o.min_length for o in constraints if hasattr(o, "min_length")), None)
    most = next((o.max_length for o in constraints if hasattr(o, "max_length")), None)
    if least is not None and least == most:
        return f", exactly {least}"
    return f", at least {least}" if least else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def _schemas(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the sections inside a type."""
    if _is_schema(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _schemas(inner)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
