"""Every prior of every model can be changed: in Python, in study files, as a sensitivity axis."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import PRIORS, change_priors, model_names, parse_model
from bayesblina.studies.axes import PRIOR_AXES
from bayesblina.studies.study_file import read_study
from bayesblina.studies.study_sections import PriorsSection
from bayesblina.studies.what_if.layout import Scenario, _varied

# Keys of model files that are numbers or intervals and say something else than a prior.
OTHERS = {"functions", "order", "schema"}
STUDY = """
schema = 1
[data]
file = "patients.csv"
patient = "id"
unit = "months"
[endpoints.os]
time = "months"
event = "died"
[phases]
maintenance = "m"
[question]
exposed = "maintenance"
eligible_from = "entry"
[model]
name = "{model}"
[model.priors]
{name} = {value}
"""


def stated(content: Any) -> bool:
    """A value of a model file that states a prior: an interval or a number."""
    if isinstance(content, dict):
        return not ({"kind"} & set(content)) and any(map(stated, content.values()))
    if isinstance(content, list):
        return bool(content) and all(isinstance(one, float) for one in content)
    return isinstance(content, float)


def found_in(definition: bb.ModelDefinition) -> dict[tuple[str, str], Any]:
    """Priors of a model, by walking what its file says: nothing is shared with the table."""
    content = json.loads(definition.model_dump_json(by_alias=True, exclude_none=True))
    return {
        (part, key): value
        for part, section in content.items()
        if isinstance(section, dict)
        for key, value in section.items()
        if key not in OTHERS and stated(value)
    }


def other(value: Any) -> Any:
    """A possible other value: intervals a little wider about their middle, numbers smaller."""
    if isinstance(value, dict):
        return {key: one if key in ("mass", "known") else other(one) for key, one in value.items()}
    if isinstance(value, list):
        lower, upper = value
        return [lower * 0.9, min(upper / 0.9, 0.99) if upper < 1 else upper / 0.9]
    return value * 0.9


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def state(definition: bb.ModelDefinition, place: tuple[str, str]) -> Any:
    return found_in(definition)[place]


NAMES = {(field.part, field.key): name for name, field in PRIORS.items()}
CASES = [(model, *place) for model in model_names() for place in found_in(bb.load_model(model))]


@pytest.mark.parametrize(("model", "part", "key"), CASES)
def test_every_prior_can_be_changed_everywhere(
    tmp_path: Path, model: str, part: str, key: str
) -> None:
    definition, place = bb.load_model(model), (part, key)
    assert place in NAMES, f"the prior {part}.{key} has no name by which it is changed"
    name = NAMES[place]
    wanted = other(state(definition, place))
    assert wanted != state(definition, place)
    prior = getattr(getattr(definition, part), key)
    typed = type(prior)(**wanted) if isinstance(prior, BaseModel) else wanted
    given: dict[str, Any] = {name: typed}
    changed = definition.with_priors(**given)
    assert state(changed, place) == wanted
    # Nothing else has changed.
    before, after = found_in(definition), found_in(changed)
    assert {k: v for k, v in before.items() if k != place} == {
        k: v for k, v in after.items() if k != place
    }
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(model=model, name=name, value=toml(wanted)))
    assert read_study(path).model() == changed
    question = bb.Question(exposed="maintenance", eligible_from="consolidation")
    axis = f"prior.{name}"
    assert axis in PRIOR_AXES
    base = Scenario(question=question, model=definition)
    assert _varied(base, {axis: wanted}).model == changed
    # The interval alone holds 95 %, in a file as on an axis.
    if isinstance(wanted, dict) and "mass" in wanted:
        (interval,) = [one for one in wanted.values() if isinstance(one, list)]
        plain = {**wanted, "mass": 0.95}
        path.write_text(STUDY.format(model=model, name=name, value=toml(interval)))
        assert read_study(path).model() == change_priors(definition, {name: plain})
        assert _varied(base, {axis: interval}).model == read_study(path).model()


def test_whether_an_sd_is_known_stays_where_a_prior_does_not_say() -> None:
    known, estimated = bb.load_model("over_time"), bb.load_model("by_subgroup")
    interval = bb.SpreadPrior(hazard_ratio=(0.5, 2.0))
    stated = {one: interval.model_copy(update={"known": one}) for one in (True, False)}
    for definition, before in ((known, True), (estimated, False)):
        for prior in (interval, [0.5, 2.0], {"hazard_ratio": [0.5, 2.0], "mass": 0.95}):
            after = change_priors(definition, {"phase_change": prior}).priors["phase_change"]
            assert bool(after.known) is before
            assert after.scale == pytest.approx(stated[before].scale, rel=1e-12)
        for said, prior in stated.items():
            after = definition.with_priors(phase_change=prior).priors["phase_change"]
            assert after.known is said


def test_a_prior_that_is_read_off_a_model_restores_it() -> None:
    for name in ("by_subgroup", "over_time"):
        definition = bb.load_model(name)
        prior = definition.priors["phase_change"]
        assert prior.known is (name == "over_time")
        other = bb.SpreadPrior(hazard_ratio=(0.5, 2.0), known=not prior.known)
        changed = definition.with_priors(phase_change=other)
        assert changed != definition
        assert changed.with_priors(phase_change=prior) == definition
    # Both ways of saying that the sd is estimated are one model.
    stated = bb.SpreadPrior(hazard_ratio=(0.05, 20.0), known=False)
    assert bb.load_model("by_subgroup").with_priors(phase_change=stated) == bb.load_model(
        "by_subgroup"
    )


def test_the_table_is_the_one_list_of_names() -> None:
    assert set(inspect.signature(bb.ModelDefinition.with_priors).parameters) - {"self"} == set(
        PRIORS
    )
    assert set(PriorsSection.model_fields) == set(PRIORS)
    assert tuple(f"prior.{name}" for name in PRIORS) == PRIOR_AXES
    # Each belongs to some kind of part; parts that no model has the walk finds all the same.
    for name, field in PRIORS.items():
        assert field.part in bb.ModelDefinition.model_fields, name


def test_a_model_file_takes_an_interval_alone() -> None:
    content = bb.load_model("primary").model_dump(by_alias=True)
    content["phases"]["prior"] = [0.2, 5.0]
    assert parse_model(content, source="a file") == bb.load_model("primary")


def test_what_a_model_has_is_told(tmp_path: Path) -> None:
    primary = bb.load_model("primary")
    with pytest.raises(
        SpecError, match="no prior 'change'; it has level, step, phases, covariates"
    ):
        primary.with_priors(change=bb.SpreadPrior(hazard_ratio=(0.5, 2.0)))
    # The straight line has a prior only where there is one.
    with pytest.raises(SpecError, match="no prior 'slope'"):
        bb.load_model("mixture_cure").with_priors(slope=bb.HazardRatioPrior.from_sd(1.0))
    with pytest.raises(SpecError, match="step must be"):
        primary.with_priors(step=bb.HazardRatioPrior(hazard_ratio=(0.5, 3.0)))
    with pytest.raises(SpecError, match=r"length_scale must be \[lower, upper\]"):
        bb.load_model("gaussian_process").with_priors(length_scale=(2.0, 1.0))
    path = tmp_path / "study.toml"
    for value, message in (
        ("0.5", r"model\.priors\.phases: give \[lower, upper\].*table of hazard_ratio"),
        ('["0.2", "5"]', r"model\.priors\.phases"),
        ("{ hazard = [0.5, 2.0] }", r"model\.priors\.phases.hazard: unknown key.*hazard_ratio"),
    ):
        path.write_text(STUDY.format(model="primary", name="phases", value=value))
        with pytest.raises(SpecError, match=message):
            read_study(path)
    path.write_text(STUDY.format(model="primary", name="spread", value="[0.5, 2.0]"))
    with pytest.raises(SpecError, match=r"no prior 'spread' \(model\.priors\.spread\); it has"):
        read_study(path).model()
