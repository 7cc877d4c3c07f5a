"""A question asked of a cohort once."""

from dataclasses import replace

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.classical import comparison
from bayesblina.classical.comparison import Comparison, levels_of_patients
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes, find_episodes
from bayesblina.person_time.question import Question

QUESTION = Question(exposed="maintenance", eligible_from="consolidation", transplant="phase")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1).cohort


def test_all_rungs_are_of_the_same_episodes(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(cohort: Cohort, question: Question) -> dict[str, Episodes]:
        calls.append(question)
        return find_episodes(cohort, question)

    monkeypatch.setattr(comparison, "find_episodes", counted)
    ladder = bb.classical.bias_ladder(cohort, QUESTION, landmarks=[6.0, 8.0])
    assert ladder["method"].nunique() > 6
    assert calls == [QUESTION]


def test_groups_leave_out_states_that_are_neither(cohort: Cohort) -> None:
    asked = Comparison.of(cohort, QUESTION)
    assert asked.labels == ("maintenance", "no maintenance")
    episodes = asked.episodes["os"]
    exposed, reference = asked.groups(episodes)
    names = np.array(episodes.phases)[episodes.phase]
    np.testing.assert_array_equal(exposed, names == "maintenance")
    np.testing.assert_array_equal(reference, ~np.isin(names, ["maintenance", "transplant"]))
    named = replace(QUESTION, reference="consolidation")
    asked = Comparison.of(cohort, named)
    assert asked.labels == ("maintenance", "consolidation")
    with pytest.raises(TypeError, match=r"^cohort: expected Cohort"):
        Comparison.of("cohort", QUESTION)  # type: ignore[arg-type]


def test_combinations_of_levels(cohort: Cohort) -> None:
    number, labels = levels_of_patients(cohort, ["age_group", "prior_salvage"])
    ages, salvages = (cohort.covariates[name] for name in ("age_group", "prior_salvage"))
    assert labels == [f"{age}, {one}" for age in ages.levels for one in salvages.levels]
    for patient in (0, 5, 17):
        age = ages.levels[int(ages.values[patient])]
        salvage = salvages.levels[int(salvages.values[patient])]
        assert labels[number[patient]] == f"{age}, {salvage}"
    number, labels = levels_of_patients(cohort, [])
    assert labels == [""]
    assert not number.any()
    with pytest.raises(SpecError, match="No categorical covariate 'age'"):
        levels_of_patients(cohort, ["age"])
