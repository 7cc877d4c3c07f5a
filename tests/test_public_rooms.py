"""Rooms and modules that are public by themselves: what they give, and at what cost."""

import importlib
import subprocess
import sys

import pytest

import bayesblina as bb
from tests.test_import_time import FIGURES, SAMPLERS, TABLES

ROOMS = {
    "classical": "kaplan_meier nelson_aalen numbers_at_risk simon_makuch mantel_byar cox "
    "bias_ladder ever_never landmark_analysis",
    "checks": "check compare k_fold loo influence most_influential martingale_residuals "
    "predicted_against_observed replicated_events replicated_simon_makuch cure_identifiability "
    "curve_shift with_refit",
    "checks.priors": "prior_predictive most_sceptical_prior power_scaling power_scaling_draws "
    "sceptical_priors scepticism_limit",
    "estimands.safety": "AdverseEvents adverse_events event_rate event_rates_by_term incidence "
    "paired_incidence phase_contrast",
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_gives_what_the_package_gives(room: str) -> None:
    module = importlib.import_module(f"bayesblina.{room}")
    names = ROOMS[room].split()
    assert set(names) <= set(module.__all__)
    for name in names:
        assert getattr(module, name) is getattr(bb, name)


@pytest.mark.parametrize("room", ["classical", "checks", "checks.priors"])
def test_a_room_loads_nothing_before_it_is_used(room: str) -> None:
    code = f"import sys, bayesblina.{room} as room; dir(room); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {name.partition(".")[0] for name in done.stdout.split()}
    assert heavy & (SAMPLERS | FIGURES | TABLES) == set()
