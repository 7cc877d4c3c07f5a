"""What a question may say, what a cohort's data demand of it, and how it reads as an estimand."""

import html
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.courses import Exposure, step_names
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.binding import bind


def read(*, ends: bool = False, transplants: bool = False) -> Cohort:
    table = pd.DataFrame(
        {
            "id": ["a", "b"],
            "months": [10.0, 9.0],
            "event": [1, 0],
            "first": [1.0, 2.0],
            "second": [3.0, None],
            "third": [5.0, None],
            "end": [7.0, None],
            "sct": [None, 4.0],
        }
    )
    endpoint = bb.Endpoint(time="months", event="event")
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": endpoint, "rfs": endpoint},
        phases=bb.Phases(
            induction="first",
            consolidation="second",
            maintenance=bb.Phase(start="third", end="end" if ends else None),
        ),
        transplant="sct" if transplants else None,
    )


def ask(**options: Any) -> bb.Question:
    return bb.Question(**{"exposed": "maintenance", "eligible_from": "entry", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "maintenance"}, "exposed and reference are both 'maintenance'"),
        ({"landmark": -1.0}, r"landmark must be a time from 0 on, got -1\.0"),
        ({"landmark": float("nan")}, "landmark must be a time from 0 on, got nan"),
        ({"landmark": float("inf")}, "landmark must be a time from 0 on, got inf"),
        ({"lag": -0.5}, r"lag must be a length of time from 0 on, got -0\.5"),
        ({"lag": float("nan")}, "lag must be a length of time from 0 on, got nan"),
        ({"lag": float("inf")}, "lag must be a length of time from 0 on, got inf"),
        ({"phase_end": "never"}, "phase_end must be 'ever' or 'current', got 'never'"),
        ({"transplant": "drop"}, "transplant must be 'censor', 'phase' or 'ignore', got 'drop'"),
        ({"endpoints": ()}, r"endpoints must be a tuple that names each endpoint once, got \(\)"),
        ({"endpoints": ("os", "os")}, "names each endpoint once"),
    ],
)
def test_impossible_questions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ask(**options)


def test_who_is_at_risk_and_what_is_compared_have_no_default() -> None:
    with pytest.raises(TypeError, match="eligible_from"):
        bb.Question(exposed="maintenance")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="exposed"):
        bb.Question(eligible_from="entry")  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        ask().exposed = "consolidation"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "cohort", "message"),
    [
        (
            {"exposed": "maintenence"},
            {},
            "exposed: .* no phase 'maintenence'. Nearest: maint.*nce.",
        ),
        ({"exposed": "entry"}, {}, "exposed: the cohort has no phase 'entry'"),
        ({"reference": "x"}, {}, "reference: .*There are: induction, consolidation, maintenance."),
        (
            {"reference": "off treatment"},
            {},
            "'off treatment' is a state and no phase: leave reference out, and all eligible time "
            "that is not in maintenance is the reference",
        ),
        ({"reference": "before any phase"}, {}, "is a state and no phase: leave reference out"),
        ({"eligible_from": "start"}, {}, "eligible_from: .* Expected a phase or 'entry'"),
        (
            {"eligible_from": "consolidation", "reference": "induction"},
            {},
            "reference 'induction' comes before eligible_from 'consolidation'",
        ),
        ({"endpoints": ("os", "rsf")}, {}, "endpoints: .* no endpoint 'rsf'. Nearest: rfs"),
        ({"transplant": "censor"}, {}, "transplant='censor', but the cohort records no transpl"),
        ({"transplant": "phase"}, {}, "transplant='phase', but the cohort records no transpl"),
        ({}, {"transplants": True}, "records transplants: say what happens at one"),
        ({}, {"ends": True}, "records phase ends: say what happens at one"),
    ],
)
def test_questions_that_a_cohort_cannot_answer(
    options: dict[str, Any], cohort: dict[str, bool], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        bind(ask(**options), read(**cohort))


@pytest.mark.parametrize(
    ("options", "cohort", "endpoints"),
    [
        ({}, {}, ("os", "rfs")),
        ({"endpoints": ("rfs",)}, {}, ("rfs",)),
        ({"endpoints": ("rfs", "os")}, {}, ("rfs", "os")),
        ({"eligible_from": "consolidation", "reference": "consolidation"}, {}, ("os", "rfs")),
        ({"eligible_from": "maintenance"}, {}, ("os", "rfs")),
        ({"exposed": "induction", "reference": "maintenance"}, {}, ("os", "rfs")),
        # Nothing is recorded, so nothing is decided by saying what would happen.
        ({"transplant": "ignore", "phase_end": "ever"}, {}, ("os", "rfs")),
        ({"transplant": "ignore"}, {"transplants": True}, ("os", "rfs")),
        ({"phase_end": "current"}, {"ends": True}, ("os", "rfs")),
    ],
)
def test_questions_that_a_cohort_can_answer(
    options: dict[str, Any], cohort: dict[str, bool], endpoints: tuple[str, ...]
) -> None:
    assert bind(ask(**options), read(**cohort)) == endpoints


def test_the_plainest_estimand() -> None:
    assert ask().estimand() == {
        "population": "all patients, from each endpoint's own entry",
        "treatment": "maintenance (time-varying) against every eligible moment without maintenance",
        "variable": "all endpoints",
        "intercurrent events": "none recorded",
        "summary measure": "conditional hazard ratio; survival curves standardised over the "
        "population's covariates",
    }


@pytest.mark.parametrize(
    ("options", "attribute", "text"),
    [
        (
            {"eligible_from": "consolidation"},
            "population",
            "patients who reached consolidation, from its start",
        ),
        (
            {"reference": "consolidation", "lag": 1.5},
            "treatment",
            "maintenance (time-varying) against consolidation; exposure counts from 1.5 after its "
            "start, not before",
        ),
        ({"endpoints": ("os", "rfs")}, "variable", "os, rfs"),
        (
            {"phase_end": "ever"},
            "intercurrent events",
            "at a phase's end the patient stays in it",
        ),
        (
            {"phase_end": "current", "transplant": "censor"},
            "intercurrent events",
            "at a phase's end the patient returns to off treatment; transplant censors follow-up",
        ),
        (
            {"transplant": "ignore"},
            "intercurrent events",
            "transplant is ignored (treatment policy)",
        ),
    ],
)
def test_estimand_says_what_was_chosen(options: dict[str, Any], attribute: str, text: str) -> None:
    got, plain = ask(**options).estimand(), ask().estimand()
    assert got.pop(attribute) == text
    plain.pop(attribute)
    assert got == plain


def test_transplant_as_a_phase_is_not_in_the_reference() -> None:
    got = ask(transplant="phase").estimand()
    assert got["intercurrent events"] == "transplant is a state of its own"
    assert got["treatment"].endswith("without maintenance and before transplant")
    named = ask(transplant="phase", reference="consolidation").estimand()
    assert named["treatment"] == "maintenance (time-varying) against consolidation"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"landmark": "8"}, "landmark must be a number"),
        ({"landmark": True}, "landmark must be a number"),
        ({"lag": None}, "lag must be a number"),
        ({"endpoints": "os"}, "endpoints must be a tuple"),
        ({"endpoints": 5}, "endpoints must be a tuple"),
    ],
)
def test_wrong_types_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ask(**options)


@pytest.mark.parametrize("landmark", [None, 6.0])
@pytest.mark.parametrize("given", ["8", True, [8.0]])
def test_a_landmark_of_curves_is_a_number(landmark: float | None, given: Any) -> None:
    with pytest.raises(SpecError, match="landmark must be a number, got"):
        ask(landmark=landmark).require_landmark(given)


def test_numbers_of_numpy_and_lists_become_plain() -> None:
    question = ask(landmark=np.int64(8), lag=np.float32(2.0), endpoints=["os"])
    assert question == ask(landmark=8.0, lag=2.0, endpoints=("os",))
    assert type(question.landmark) is type(question.lag) is float


@pytest.mark.parametrize(("landmark", "shown"), [(0.0, "0"), (8.0, "8"), (2.5, "2.5")])
def test_estimand_names_the_landmark(landmark: float, shown: str) -> None:
    population = ask(landmark=landmark).estimand()["population"]
    assert population.startswith("all patients, from each endpoint's own entry, ")
    assert population.endswith(f" {shown}")


def test_notebooks_show_the_estimand() -> None:
    shown = ask(transplant="ignore")._repr_html_()
    for attribute, text in ask(transplant="ignore").estimand().items():
        assert attribute in shown
        assert html.escape(text) in shown


@pytest.mark.parametrize(
    ("question", "cohort", "message"),
    [
        ("maintenance", None, "question: expected Question, got str"),
        (None, pd.DataFrame(), "cohort: expected Cohort or CohortScan, got DataFrame"),
    ],
)
def test_no_such_values(question: Any, cohort: Any, message: str) -> None:
    asked = bb.Question(exposed="second", eligible_from="entry") if question is None else question
    with pytest.raises(TypeError, match=message):
        bb.person_time(read() if cohort is None else cohort, asked)


# References that would hold the treatment itself -------------------------------------------------


def of_phases(*names: str, ends: bool = True) -> Cohort:
    """One patient who is in each phase for a month."""
    table = pd.DataFrame({"id": ["a"], "t": [20.0], "e": [1]})
    for number, name in enumerate(names, start=1):
        table[f"{name} from"], table[f"{name} to"] = [2.0 * number], [2.0 * number + 1.0]
    columns = {
        name: bb.Phase(start=f"{name} from", end=f"{name} to" if ends else None) for name in names
    }
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="t", event="e"),
        phases=bb.Phases.from_dict(columns),
    )


@pytest.mark.parametrize(
    ("names", "exposed", "others"),
    [
        (("cycle1", "cycle2", "cycle3"), "cycle1", "cycle2, cycle3"),
        (("cycle1", "cycle2", "cycle3"), "cycle3", "cycle1, cycle2"),
        (("cycle1", "cycle2", "cycle3"), ["cycle1", "cycle2"], "cycle3"),
        (("Cycle 1", "rest", "cycle_2"), "Cycle 1", "cycle_2"),
        (("1st course", "2st course"), "1st course", "2st course"),
    ],
)
def test_further_courses_do_not_stand_in_the_reference(
    names: tuple[str, ...], exposed: Any, others: str
) -> None:
    cohort = of_phases(*names)
    for measure in ("current", "ever", "episode"):
        with pytest.raises(SpecError, match="would stand in the reference, and dilute") as caught:
            bind(bb.Question(exposed=exposed, eligible_from="entry", measure=measure), cohort)
        assert f"by the names {others} are further courses of it" in str(caught.value)
    # What the message asks for can be asked.
    every = [name for name in names if name != "rest"]
    assert f"exposed={every!r}, measure='current'" in str(caught.value)
    bind(bb.Question(exposed=every, eligible_from="entry", measure="current"), cohort)
    bind(bb.Question(exposed=every, eligible_from="entry", measure="episode"), cohort)
    alone = exposed if isinstance(exposed, str) else exposed[0]
    against = next(name for name in every if name != alone)
    question = bb.Question(
        exposed=alone, eligible_from="entry", reference=against, measure="current"
    )
    bind(question, cohort)


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ((1.0,), ["1 cycle", "2 cycles and more"]),
        ((1.0, 2.0, 5.0), ["1 cycle", "2 cycles", "3 to 5 cycles", "6 cycles and more"]),
        ((3.0, 4.0), ["up to 3 cycles", "4 cycles", "5 cycles and more"]),
        # Those that a model chooses lie between.
        ((1.5, 3.5), ["1 cycle", "2 to 3 cycles", "4 cycles and more"]),
        ((0.5,), None),
        ((1.2, 1.8), None),
    ],
)
def test_steps_of_cycles_are_named_by_cycles(
    steps: tuple[float, ...], names: list[str] | None
) -> None:
    words = {"phases": (0,), "label": "a", "measure": "cumulative", "amount": "cycles"}
    if names is None:
        with pytest.raises(SpecError, match="steps of cycles begin after whole numbers of them"):
            Exposure(**words, steps=steps)  # type: ignore[arg-type]
        return
    found, begins = step_names(Exposure(**words, steps=steps))  # type: ignore[arg-type]
    assert (found, begins) == ([f"a {name}" for name in names], [0.0, *steps])


def test_phases_without_numbers_of_their_own_are_phases() -> None:
    for names in (("a", "b"), ("1", "2"), ("induction 1", "maintenance 2"), ("m", "m2x")):
        cohort = of_phases(*names)
        bind(bb.Question(exposed=names[1], eligible_from="entry", phase_end="current"), cohort)


def test_combinations_do_not_stand_in_the_reference() -> None:
    table = pd.DataFrame({"id": ["a"], "t": [20.0], "e": [1]})
    stays = pd.DataFrame(
        {"id": ["a", "a"], "from": [1.0, 2.0], "to": [4.0, 6.0], "drug": ["blina", "tki"]}
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="t", event="e"),
        phases=bb.Courses(
            table=stays,
            patient="id",
            start="from",
            stop="to",
            phase="drug",
            phases=["blina", "tki"],
            overlap={"blina + tki": "both"},
        ),
    )
    with pytest.raises(SpecError, match=r"both are combinations with it.*\['blina', 'both'\]"):
        bind(bb.Question(exposed="blina", eligible_from="entry", measure="current"), cohort)
    for exposed, reference in ((["blina", "both"], None), ("both", None), ("blina", "tki")):
        question = bb.Question(
            exposed=exposed, eligible_from="entry", reference=reference, measure="current"
        )
        bind(question, cohort)


def test_time_since_the_end_needs_ends() -> None:
    question = bb.Question(exposed="m", eligible_from="entry", measure="since_end")
    with pytest.raises(SpecError, match=r"nothing is known of when phases end.*since_entry"):
        bind(question, of_phases("m", ends=False))
    bind(question, of_phases("m"))
