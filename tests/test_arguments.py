"""Every public function tells an argument of the wrong kind, and what to call first."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina import plots
from tests.conftest import QUESTION

# Kinds of first arguments, and what makes them.
FIRST = {
    "Fit": "bayesblina.fit ",
    "Cohort": "bayesblina.read_cohort",
    "Cohort | CohortScan": "bayesblina.read_cohort",
    "StudyDesign": "bayesblina.StudyDesign",
    "AdverseEvents": "bayesblina.adverse_events",
    "Sensitivity": "bayesblina.sensitivity",
    "Weighted": "bayesblina.starting_weights",
    "Exposure": "bayesblina.expose",
    "Prediction": "bayesblina.leave_one_out",
    "Account": "cohort.account",
    "xr.Dataset": "bayesblina.",
}


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module, names in ((bb, bb._HOME), (plots, plots.__all__)):
        for name in names:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value


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
