"""Rooms and modules that are public by themselves: what they give, and at what cost."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import bayesblina as bb
from tests.test_import_time import FIGURES, SAMPLERS, TABLES

# Modules by their names on top, where they live, and what they give.
ROOMS = {
    "classical": (
        "classical",
        "kaplan_meier nelson_aalen numbers_at_risk simon_makuch mantel_byar cox bias_ladder "
        "ever_never landmark_analysis",
    ),
    "checks": (
        "checks",
        "check compare k_fold loo influence most_influential martingale_residuals "
        "predicted_against_observed replicated_events replicated_simon_makuch cure_identifiability "
        "curve_shift with_refit",
    ),
    "priors": (
        "checks.priors",
        "prior_predictive most_sceptical_prior power_scaling power_scaling_draws sceptical_priors "
        "scepticism_limit",
    ),
    "safety": (
        "estimands.safety",
        "AdverseEvents adverse_events event_rate event_rates_by_term incidence paired_incidence "
        "phase_contrast",
    ),
    "bias": (
        "studies.bias",
        "adjust_for_confounder adjust_for_misclassification bounding_factor confounding e_value "
        "e_values informative_dropout tipping_points",
    ),
    "planning": (
        "studies.planning",
        "SampleSize StudyDesign operating_characteristics sample_size simulate_cohorts",
    ),
    "weighting": (
        "studies.weighting",
        "Weighted WeightedEffect clone_censor_weight starting_weights weighted_effect",
    ),
}
# What a whole analysis needs is on top as well.
ON_TOP = {
    *("kaplan_meier", "numbers_at_risk", "simon_makuch", "mantel_byar", "cox"),
    *("check", "compare", "k_fold", "loo", "influence"),
    *("StudyDesign", "operating_characteristics"),
    "starting_weights",
}


@pytest.mark.parametrize("name", ROOMS)
def test_a_module_gives_the_names_of_its_subject(name: str) -> None:
    home, listed = ROOMS[name]
    module = importlib.import_module(f"bayesblina.{home}")
    assert getattr(bb, name) is module
    names = set(listed.split())
    assert names <= set(module.__all__)
    for one in names:
        assert getattr(module, one) is not None
        if one in ON_TOP:
            assert getattr(bb, one) is getattr(module, one)
        else:
            assert one not in dir(bb)


def test_few_names_stand_on_top() -> None:
    functions_and_classes = [
        name for name in dir(bb) if not isinstance(getattr(bb, name), ModuleType)
    ]
    # Four of them for courses: how they are read, in two forms, and two regimes.
    assert len(functions_and_classes) <= 79


def printed(code: str) -> set[str]:
    """Words that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def loaded(module: str) -> set[str]:
    """Names of all modules that the import of one loads in a fresh interpreter."""
    return printed(f"import sys, {module} as module; dir(module); print(*sys.modules)")


@pytest.mark.parametrize("room", [home for home, _ in ROOMS.values() if home != "estimands.safety"])
def test_a_room_loads_nothing_before_it_is_used(room: str) -> None:
    heavy = {name.partition(".")[0] for name in loaded(f"bayesblina.{room}")}
    assert heavy & (SAMPLERS | FIGURES | TABLES) == set()


MODULES = [name for name in dir(bb) if isinstance(getattr(bb, name), ModuleType)]


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_can_be_imported_by_its_name_on_top(name: str) -> None:
    home = getattr(bb, name)
    assert importlib.import_module(f"bayesblina.{name}") is home
    assert dir(home) == sorted(home.__all__)
    # It costs what the module itself costs.
    public = loaded(f"bayesblina.{name}")
    assert public - {f"bayesblina.{name}"} == loaded(home.__name__) - {f"bayesblina.{name}"}
    if name not in ("paper", "safety"):
        assert {module.partition(".")[0] for module in public} & (SAMPLERS | FIGURES | TABLES) == (
            set()
        )


def test_names_of_a_public_module_can_be_imported() -> None:
    code = (
        "from bayesblina.safety import adverse_events\nfrom bayesblina.plots import survival\n"
        "from bayesblina.errors import SpecError\nimport bayesblina.tables, bayesblina.bias\n"
        "print(adverse_events.__module__, survival.__module__, SpecError.__module__, "
        "bayesblina.bias.__name__)"
    )
    assert printed(code) == {
        "bayesblina.person_time.onsets",
        "bayesblina.output.plots.curves",
        "bayesblina.core.errors",
        "bayesblina.studies.bias",
    }


@pytest.mark.parametrize("name", ["nothing", "Cohort", "safety.nothing"])
def test_what_is_no_module_cannot_be_imported(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"bayesblina.{name}")


def test_a_room_is_imported_as_it_is() -> None:
    assert isinstance(importlib.import_module("bayesblina.person_time"), ModuleType)
    assert callable(bb.person_time)
