"""One fit of the synthetic study, shared by all tests that read from a fit."""

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.inference.fitting import Fit

# Tests compile PyMC's own form of models too, which the package does where nothing else works.
importlib.import_module("bayesblina.hazards.op_kernels")

# The same examples in every run; HYPOTHESIS_RANDOM=1 looks for new ones.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("HYPOTHESIS_RANDOM"):
    settings.load_profile("repeatable")

# What runs in one process: files that share fits, or a run of the demo, and files that compile the
# same models, which another process would compile at the same time. The longest groups come first,
# so that no process waits for another at the end; then all other files, each a group of its own.
GROUPS = {
    "models": {
        *("hazards/test_models", "hazards/test_sources", "hazards/test_varying"),
        *("hazards/test_likelihood", "hazards/test_illness_death", "hazards/test_cure"),
        "hazards/test_external",
        "studies/test_reference",
    },
    "results": {
        *("output/test_analysis", "output/test_hiding", "output/test_report"),
        *("output/test_report_browser", "output/test_report_figures", "output/test_results"),
        *("cli/test_cli", "cli/test_interrupts", "core/test_masking"),
    },
    "what if": {"studies/test_what_if"},
    "sampling": {"inference/test_sampling", "inference/test_compiling"},
    "predictions": {"checks/test_comparison", "checks/test_prediction", "checks/test_folds"},
    "examples": {"test_examples"},
    "priors": {"checks/priors/test_scaling", "checks/priors/test_scepticism"},
    "weights": {"studies/test_weights", "studies/test_weighted_effect"},
    "processes": {"inference/test_compile_cache"},
    "safety": {"estimands/test_safety"},
    "masked": {"output/test_masked_folder"},
    "marks": {"output/test_marks"},
    "corruption": {"core/test_corruption"},
}
GROUP_OF = {stem: name for name, stems in GROUPS.items() for stem in stems}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a group in one process, and begin with the longest groups."""
    here = Path(__file__).parent
    rank = {name: place for place, name in enumerate(GROUPS)}
    order = {}
    for item in items:
        path = item.path.with_suffix("")
        stem = path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
        group = GROUP_OF.get(stem, str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))
        order[item] = rank.get(group, len(rank))
    items.sort(key=order.__getitem__)


QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@pytest.fixture(scope="session")
def synthetic_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, seed=1, progress=False)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Run the demo: its folder, and what the command line gave."""
    out = tmp_path_factory.mktemp("demo") / "results" / "demo"
    return out, CliRunner().invoke(cli.app, ["demo", "--out", str(out)])


# What may stand in anybody's table: markup, text from right to left with an override that would
# turn what follows around, emoji, and far too much.
HOSTILE = {
    "title": "</title><script>window.hacked = 1</script>",
    "os": "<script>window.hacked = 2</script>",
    "rfs": "\u0645\u0631\u062d\u0628\u0627 \u202egnirts \U0001f9ec",
    "consolidation": "'\"><img src=x onerror='window.hacked = 3'>",
    "maintenance": "m" * 500,
    "age_group": "{{ 7 * 7 }} & <b>age</b>",
}


@pytest.fixture(scope="session")
def hostile_names() -> dict[str, str]:
    """Names of the hostile results, by what they stand for."""
    return HOSTILE


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write results with hostile names, from a fit that is far too short to converge."""
    folder = tmp_path_factory.mktemp("hostile")
    names = {
        "consolidation_month": "a",
        "maintenance_month": "b",
        "age_group": HOSTILE["age_group"],
    }
    cohort = bb.read_cohort(
        bb.simulate.blinatumomab_table(seed=1).rename(columns=names),
        patient="patient_id",
        unit="months",
        endpoints={
            HOSTILE["os"]: bb.Endpoint(time="os_months", event="died"),
            HOSTILE["rfs"]: bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases.from_dict({HOSTILE["consolidation"]: "a", HOSTILE["maintenance"]: "b"}),
        covariates=[HOSTILE["age_group"], "prior_salvage"],
        transplant="transplant_month",
    )
    question = bb.Question(
        exposed=HOSTILE["maintenance"],
        eligible_from=HOSTILE["consolidation"],
        transplant="censor",
    )
    short = bb.fit(cohort, question, seed=1, draws=20, tune=50, chains=2, progress=False)
    analysis = bb.analyse(
        replace(cohort, source="<b>patients</b>.csv"),
        question,
        fit=short,
        landmark=8.0,
        landmarks=[12.0],
        starts=[8.0],
        title=HOSTILE["title"],
    )
    # Not the whole folder: matplotlib warns of names so long, and of letters that its font lacks.
    analysis.write_report(folder / "report.html")
    return folder
