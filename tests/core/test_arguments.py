"""Every public function tells an argument of the wrong kind, and what to call first."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import BaseModel, ValidationError

import bayesblina as bb
from bayesblina import plots, simulate, tables
from bayesblina.core.arrays import require_numbers
from bayesblina.core.errors import (
    LARGEST_SEED,
    EstimandError,
    SpecError,
    require_seed,
)
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.inference.fitting import Fit
from bayesblina.studies.study_file import read_design, read_study
from bayesblina.studies.study_sections import DesignFile, StudyFile
from tests.conftest import QUESTION

# Kinds of first arguments, and what makes them.
FIRST = {
    "Fit": "bayesblina.fit ",
    "Cohort": "bayesblina.read_cohort",
    "Cohort | CohortScan": "bayesblina.read_cohort",
    "StudyDesign": "bayesblina.planning.StudyDesign",
    "AdverseEvents": "bayesblina.safety.adverse_events",
    "Sensitivity": "bayesblina.sensitivity",
    "Weighted": "bayesblina.weighting.starting_weights",
    "PersonTime": "bayesblina.person_time",
    "Prediction": "bayesblina.loo",
    "Account": "cohort.account",
    "xr.Dataset": "bayesblina.",
}


SUBJECTS = (
    *(bb.bias, bb.checks, bb.classical, bb.paper, bb.planning, bb.priors, bb.safety, bb.weighting),
    plots,
)
PLACES = ((bb, dir(bb)), *((module, dir(module)) for module in SUBJECTS))


def public(module: Any, name: str) -> bool:
    """Whether a function stands in a module for users: not what it imports for itself."""
    value = getattr(module, name)
    listed = getattr(module, "__all__", None)
    if not inspect.isfunction(value) or name.startswith("_"):
        return False
    return value.__module__ == module.__name__ if listed is None else name in listed


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module, names in PLACES:
        for name in names:
            if public(module, name):
                yield f"{module.__name__}.{name}", getattr(module, name)


def first_of(function: Callable[..., Any]) -> inspect.Parameter | None:
    parameters = list(inspect.signature(function).parameters.values())
    return (
        parameters[0]
        if parameters and parameters[0].kind is not parameters[0].KEYWORD_ONLY
        else None
    )


def cases() -> Iterator[Any]:
    for name, function in functions():
        first = first_of(function)
        if first is not None and str(first.annotation) in FIRST:
            yield pytest.param(function, FIRST[str(first.annotation)], id=name)


# Values of kinds that no function takes first, or that are swapped with one it takes.
WRONG = [QUESTION, "text", None, 3.0, pd.DataFrame(), np.zeros(3)]


@pytest.mark.parametrize(("function", "made_by"), list(cases()))
def test_a_wrong_first_argument(function: Callable[..., Any], made_by: str) -> None:
    signature = inspect.signature(function)
    for wrong in WRONG:
        given = [wrong] * sum(
            one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty
            for one in signature.parameters.values()
        )
        named = {
            name: None
            for name, one in signature.parameters.items()
            if one.kind is one.KEYWORD_ONLY and one.default is one.empty
        }
        # A table may be one that the function draws: then its columns are what is wrong.
        errors = (TypeError, bb.errors.SpecError) if isinstance(wrong, pd.DataFrame) else TypeError
        with pytest.raises(errors, match=re.escape(made_by.strip())):
            function(*given, **named)


def test_most_functions_are_looked_at() -> None:
    assert len(list(cases())) > 75


def test_what_people_do() -> None:
    cohort = bb.simulate.blinatumomab_cohort(seed=1).cohort
    with pytest.raises(TypeError, match=r"fit: expected Fit, got Cohort: call bayesblina\.fit "):
        bb.hazard_ratio(cohort)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cohort: expected Cohort or CohortScan, got Question"):
        bb.fit(QUESTION, cohort, seed=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cohort: expected Cohort, got Question"):
        bb.mantel_byar(QUESTION, cohort)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="question: expected Question, got str"):
        bb.cox(cohort, "maintenance")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"gives, got Cohort: call bayesblina\.survival first"):
        plots.survival(cohort)  # type: ignore[arg-type]
    with pytest.raises(bb.errors.SpecError, match=r"Expected what bayesblina\.survival gives"):
        plots.survival(xr.Dataset())
    with pytest.raises(TypeError, match="predictions: expected Mapping"):
        bb.compare([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scenarios: expected list or tuple, got Cohort"):
        bb.sensitivity(cohort, cohort, out="unused", seed=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path: expected str or PathLike, got Cohort"):
        bb.load(cohort)  # type: ignore[arg-type]


# All public functions, and all wrong kinds --------------------------------------------------------

EVERYWHERE = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in (*PLACES, (tables, tables.__all__), (simulate, simulate.__all__))
    for name in names
    if public(module, name)
}
# What the first argument may be, by its annotation, of the kinds below.
TAKES = {
    "Any": ("str", "DataFrame"),
    "ArrayLike": ("float", "array", "DataFrame"),
    "Cohort": ("Cohort",),
    "Cohort | CohortScan": ("Cohort",),
    "Fit": ("Fit",),
    "Mapping[str, Fit | Prediction]": ("Dataset",),
    "Mapping[str, Mapping[str, Sequence[int]]]": ("Dataset",),
    "float": ("float",),
    "int": (),
    "pd.DataFrame": ("DataFrame",),
    "str | PathLike[str]": ("str",),
    "str | PathLike[str] | Any": ("str", "DataFrame"),
    "xr.Dataset": ("Dataset", "DataFrame"),
}
# Told in an error of the package rather than a TypeError: tables of unknown kinds, and numbers.
WORDED = {"Any", "str | PathLike[str] | Any", "int", "xr.Dataset", "pd.DataFrame"}


def walked() -> Iterator[Any]:
    for name, function in EVERYWHERE.items():
        if first_of(function) is not None:
            yield pytest.param(function, id=name)


@pytest.mark.parametrize("function", list(walked()))
def test_no_public_function_fails_in_a_library(
    function: Callable[..., Any], synthetic_fit: Fit
) -> None:
    cohort = bb.simulate.blinatumomab_cohort(seed=1).cohort
    kinds = {
        "Fit": synthetic_fit,
        "Cohort": cohort,
        "Question": QUESTION,
        "None": None,
        "str": "SECRET",
        "float": 3.0,
        "DataFrame": pd.DataFrame({"SECRET": ["SECRET"]}),
        "Dataset": xr.Dataset(),
        "array": np.zeros(3),
    }
    parameters = list(inspect.signature(function).parameters.values())
    first = first_of(function)
    assert first is not None
    kind = str(first.annotation)
    for name, wrong in kinds.items():
        if name in TAKES.get(kind, ()):
            continue
        given = [wrong] * sum(
            one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty for one in parameters
        )
        named = {
            one.name: None
            for one in parameters
            if one.kind is one.KEYWORD_ONLY and one.default is one.empty
        }
        expected = (TypeError, bb.errors.BayesblinaError) if kind in WORDED else TypeError
        with pytest.raises(expected) as caught:
            function(*given, **named)
        if isinstance(caught.value, TypeError):
            place = str(caught.traceback[-1].path)
            assert "bayesblina" in place.split(os.sep), (name, caught.value)
            assert re.search(r"expected |Expected ", str(caught.value)), (name, caught.value)
        # Neither cells of a table nor draws are printed.
        if name != "str":
            assert "SECRET" not in str(caught.value)


def test_all_are_walked() -> None:
    assert len(list(walked())) > 110


def test_tables_name_what_makes_them() -> None:
    for function, made_by in (
        (tables.probabilities, "bayesblina.probabilities"),
        (tables.bias_ladder, "bayesblina.classical.bias_ladder"),
        (tables.models, "bayesblina.compare"),
        (tables.scenarios, "bayesblina.sensitivity"),
        (tables.baseline, "fit.gate"),
    ):
        with pytest.raises(TypeError, match=f"expected DataFrame, got str: call {made_by} first"):
            function("text")  # type: ignore[arg-type]


def test_numbers() -> None:
    assert require_numbers([1, 2.5], "ratio").tolist() == [1.0, 2.5]
    for wrong in ("2", None, [True], ["2"], [[1.0], [1.0, 2.0]], object()):
        with pytest.raises(TypeError, match="ratio: expected numbers, got"):
            require_numbers(wrong, "ratio")
    with pytest.raises(TypeError, match="lower: expected a number, got str"):
        bb.priors.scepticism_limit("0.5", 0.9)  # type: ignore[arg-type]
    regimes = "Never or From or Between or Cycles or WithPhases"
    with pytest.raises(TypeError, match=f"regime: expected {regimes}, got str"):
        bb.contrast(xr.Dataset(), "never", "from")  # type: ignore[arg-type]


@pytest.mark.parametrize("horizon", [None, "24", True, [24.0]])
def test_a_horizon_is_a_number(synthetic_fit: Fit, horizon: Any) -> None:
    for function in (bb.rmst, bb.restricted_mean_time_lost):
        with pytest.raises(EstimandError, match=r"horizon must be .* such as horizon=\d"):
            function(synthetic_fit, horizon=horizon)
    single: Any = np.float32(24.0)
    assert (
        bb.restricted_mean_time_lost(synthetic_fit, horizon=single)["restricted_mean_time_lost"]
        .notnull()
        .all()
    )


# Seeds --------------------------------------------------------------------------------------------

BAD_SEEDS = (-1, 2**63, 10**4000, 10**5000, 1.0, True, None, "1", [1])


def test_seeds() -> None:
    for good in (0, 1, LARGEST_SEED, np.int64(5), np.uint64(LARGEST_SEED)):
        require_seed(good)
    for seed in BAD_SEEDS:
        with pytest.raises(
            SpecError, match=r"seed must be a whole number from 0 to 2\^63 - 1"
        ) as bad:
            require_seed(seed)
        assert len(str(bad.value)) < 120


def seeded() -> Iterator[Any]:
    for name, function in EVERYWHERE.items():
        parameter = inspect.signature(function).parameters.get("seed")
        if parameter is not None and parameter.default is parameter.empty:
            yield pytest.param(function, id=name)


@pytest.mark.parametrize("function", list(seeded()))
def test_every_seed_is_looked_at_first(function: Callable[..., Any], synthetic_fit: Fit) -> None:
    cohort = bb.simulate.blinatumomab_cohort(seed=1).cohort
    drawn = bb.simulate.adverse_events(cohort, seed=1)
    kinds: dict[str, Any] = {
        "Fit": synthetic_fit,
        "Cohort": cohort,
        "Cohort | CohortScan": cohort,
        "Question": QUESTION,
        "ModelDefinition": synthetic_fit.definition,
        "PersonTime": synthetic_fit.person_time,
        "StudyDesign": bb.planning.StudyDesign(
            patients=100, hazards=(0.1,), start_hazards=(0.1,), hazard_ratio=0.7, follow_up=24.0
        ),
        "AdverseEvents": bb.safety.adverse_events(
            drawn, cohort, patient="patient_id", term="term", start="month", transplant="censor"
        ),
        "pd.DataFrame": bb.simulate.blinatumomab_table(1),
        "Weighted": None,
    }
    if str(next(iter(inspect.signature(function).parameters.values())).annotation) == "Weighted":
        kinds["Weighted"] = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os")
    for seed in (10**4000, True, -1):
        given = {
            name: kinds.get(str(one.annotation))
            for name, one in inspect.signature(function).parameters.items()
            if one.default is one.empty
        }
        if "scenarios" in given:
            given["scenarios"] = bb.scenarios(cohort, QUESTION, {"lag": [0.0]})
        with pytest.raises(SpecError, match="seed must be a whole number"):
            function(**(given | {"seed": seed}))


STUDY = """
schema = {schema}
[data]
file = "patients.csv"
patient = "id"
unit = "months"
[endpoints.os]
time = "t"
event = "e"
[phases]
m = "m"
[question]
exposed = "m"
eligible_from = "entry"
[fit]
seed = {seed}
"""
DESIGN = """
schema = {schema}
[design]
patients = 100
hazards = [0.1]
start_hazards = [0.1]
hazard_ratio = 0.7
follow_up = 24.0
[analysis]
seed = {seed}
"""


@pytest.mark.parametrize(
    ("read", "text", "key"),
    [(read_study, STUDY, "fit.seed"), (read_design, DESIGN, "analysis.seed")],
)
def test_seeds_and_versions_of_files(
    tmp_path: Path, read: Callable[..., Any], text: str, key: str
) -> None:
    path = tmp_path / "file.toml"
    path.write_text(text.format(schema=1, seed=LARGEST_SEED))
    read(path)
    for seed in (LARGEST_SEED + 1, "1" + "0" * 4000, "true", "1.0", -1):
        path.write_text(text.format(schema=1, seed=seed))
        with pytest.raises(SpecError, match=key) as caught:
            read(path)
        assert len(str(caught.value)) < 300
    path.write_text(text.format(schema="true", seed=1))
    with pytest.raises(SpecError, match="schema: expected a number, got true"):
        read(path)


def test_the_version_of_a_model_file() -> None:
    content = bb.load_model("primary").model_dump(by_alias=True, exclude_none=True)
    parse_model({**content, "schema": 1}, source="model.toml")
    with pytest.raises(SpecError, match="schema: expected a number, got true"):
        parse_model({**content, "schema": True}, source="model.toml")


def parts_of(kind: Any, found: dict[type[BaseModel], None]) -> dict[type[BaseModel], None]:
    """List a schema with all its sections."""
    for one in get_args(kind):
        parts_of(one, found)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
        found[kind] = None
        for one in kind.model_fields.values():
            parts_of(one.annotation, found)
    return found


def is_number(kind: Any) -> bool:
    """Whether a field takes nothing but one number, or none."""
    return kind in (int, float) or kind == Literal[1]


@pytest.mark.parametrize("schema", [StudyFile, DesignFile, ModelDefinition])
def test_true_is_no_number_in_any_field(schema: type[BaseModel]) -> None:
    """Python counts true as 1: no field of numbers does, alone or in a list."""
    looked = 0
    for part in parts_of(schema, {}):
        for name, field in part.model_fields.items():
            key = field.alias or name
            leaves = [field.annotation, *get_args(field.annotation)]
            single = any(is_number(one) for one in leaves) and bool not in leaves
            listed = any(
                get_origin(one) in (list, tuple) and "Any" not in str(one) and bool not in leaves
                for one in leaves
            )
            for value in [True] * single + [[True, True]] * listed:
                looked += 1
                with pytest.raises(ValidationError) as caught:
                    part.model_validate({key: value})
                assert any(one["loc"][:1] == (key,) for one in caught.value.errors()), (part, key)
    assert looked > 3


@pytest.mark.parametrize(
    "change",
    [
        {"hazard_ratio": True},
        {"follow_up": True},
        {"accrual": True},
        {"dropout": False},
        {"hazards": (True,)},
        {"hazards": (0.1, 0.2), "cuts": (True,)},
        {"patients": True},
    ],
)
def test_true_is_no_number_of_a_design(change: dict[str, Any]) -> None:
    """As a grid of a design file would give it."""
    design: dict[str, Any] = {
        "patients": 100,
        "hazards": (0.1,),
        "start_hazards": (0.1,),
        "hazard_ratio": 0.7,
        "follow_up": 24.0,
    }
    bb.planning.StudyDesign(**design)
    with pytest.raises(SpecError, match=r"numbers?.*got|whole number"):
        bb.planning.StudyDesign(**(design | change))


def test_true_is_no_cut() -> None:
    for cuts in ([True], [True, 2.0], np.array([True])):
        with pytest.raises(SpecError, match="cuts must be numbers"):
            bb.scenarios(bb.simulate.blinatumomab_cohort(seed=1).cohort, QUESTION, {"cuts": [cuts]})


BAD_PHASE = """
import sys
import bayesblina as bb
cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
try:
    bb.fit(cohort, bb.Question(exposed="maintenence", eligible_from="entry"), seed=1)
except bb.errors.SpecError as error:
    assert "Nearest: maintenance" in str(error)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_bad_phase_is_told_before_a_sampler_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BAD_PHASE], capture_output=True, text=True, check=True
    )
    assert not {"pymc", "pytensor", "numba", "nutpie", "arviz"} & set(done.stdout.split())
