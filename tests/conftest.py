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

# These need the same compiled models: in one process each is compiled once.
MODELS = {
    *("test_models", "test_varying", "test_likelihood", "test_sources"),
    *("test_reference", "test_comparison", "test_prediction", "test_folds"),
    *("test_illness_death", "test_cure"),
}

# These share long fits.
PRIORS = {"test_scaling", "test_scepticism"}

# These read the results of one run of the demo.
RESULTS = {
    "test_analysis",
    "test_cli",
    "test_hiding",
    "test_interrupts",
    "test_report",
    "test_report_browser",
    "test_results",
}

LONG = {"test_what_if", "test_weights", "test_weighted_effect", "test_cli", "test_examples"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file, and those of the models, in one process."""
    for item in items:
        stem = item.path.stem
        groups = {"models": MODELS, "results": RESULTS, "priors": PRIORS}
        group = next((name for name, stems in groups.items() if stem in stems), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))
    # The longest first, so that no process waits for another at the end.
    items.sort(
        key=lambda item: (
            item.path.stem not in MODELS,
            item.path.stem not in RESULTS,
            item.path.stem not in LONG,
        )
    )


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
