"""One fit of the synthetic study, shared by all tests that read from a fit."""

import gc
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
from tests.groups import Grouped, rank_of

# Tests compile PyMC's own form of models too, which the package does where nothing else works.
importlib.import_module("bayesblina.hazards.op_kernels")

# The same examples in every run; HYPOTHESIS_RANDOM=1 looks for new ones.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("HYPOTHESIS_RANDOM"):
    settings.load_profile("repeatable")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let processes that share the processors multiply matrices in one thread each.

    Several threads of each wait for one another by turning round, which costs processor time.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped | None:
    """Keep the tests of a group in one process."""
    return Grouped(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest groups."""
    items.sort(key=lambda item: rank_of(item.nodeid))


def pytest_collection_finish() -> None:
    """Look for garbage less often, and never among what was imported, which stays to the end.

    With Python's own thresholds it took a tenth of the processor time of some 2,000 tests: graphs
    of models are many objects, and full rounds looked through all of the libraries' as well.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


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
