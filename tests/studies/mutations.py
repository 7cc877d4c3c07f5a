"""Run a seeded sample of a module's mutants against the tests that pin its numbers.

mutmut makes the mutants, and one of them is on at a time; its own runner calls pytest anew for
each. Here a test file is collected and run once, fixtures and compiled models included, and a
process is forked for each mutant that runs those tests which reach the changed function, the
quickest first. docs/validation/mutation.md has the table and the results.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
INLINED = '@numba.njit(inline="always")\n'
EXAMPLES = """
import doctest, importlib, pytest
FIND = doctest.DocTestFinder().find
FOUND = [one for name in (NAMES,) for one in FIND(importlib.import_module(name))]
KEPT = [one for one in FOUND if one.examples and "mutmut" not in one.name]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
@pytest.mark.parametrize("example", KEPT, ids=lambda one: one.name)
def test_example(example):
    assert not doctest.DocTestRunner(optionflags=FLAGS).run(example, clear_globs=False).failed
"""


# Sessions of test files by module; those of one session share its fixtures.
SCANS = (
    "tests/person_time/test_exposure.py",
    "tests/core/test_near_ties.py tests/person_time/test_pointed.py",
)
ESTIMANDS = (
    "tests/estimands/test_curves_of_a_fit.py tests/estimands/test_paths.py "
    "tests/estimands/test_ratios_of_a_fit.py "
    "tests/estimands/test_regimes.py tests/estimands/test_summaries.py "
    "tests/estimands/test_numbers_needed.py tests/estimands/test_populations.py "
    "tests/person_time/test_pointed.py",
    "tests/hazards/test_varying.py -k 'ratios_since or over_time_and or by_subgroup or means_and'",
)
COURSES = (
    "tests/estimands/test_courses.py",
    "tests/hazards/test_illness_death.py tests/core/test_occupancy.py",
)
CELLS = (
    "tests/person_time/test_assembling.py tests/person_time/test_front.py "
    "tests/person_time/test_lookup.py tests/person_time/test_many.py "
    "tests/person_time/test_patterns.py tests/person_time/test_summing.py "
    "tests/person_time/test_value.py",
)
CHECKS = ("tests/checks/test_checks.py tests/checks/test_weaknesses.py",)
RISKS = (
    "tests/classical/test_r_survival.py tests/classical/test_curves.py "
    "tests/classical/test_rank_tests.py",
)
# Modules with functions that numba compiles: by themselves, without it.
COMPILED = {"core.episodes", "person_time.passes", "person_time.cells.survey"}
TESTS: dict[str, tuple[str, ...]] = {
    "inference.baseline_gate": ("tests/inference/test_baseline_gate.py",),
    "checks.posterior": ("tests/checks/test_posterior.py", "tests/checks/test_cure.py", *CHECKS),
    "checks.refit": (
        "tests/checks/test_refit.py tests/checks/test_curves.py",
        "tests/checks/test_curve_shift.py",
    ),
    "checks.replicates": ("tests/checks/test_drawn_events.py", "tests/checks/test_histories.py"),
    "checks.weaknesses": (
        "tests/checks/test_weaknesses_told.py tests/checks/test_pulls.py "
        "tests/checks/test_proportional.py",
        "tests/checks/test_weaknesses.py",
    ),
    "classical": RISKS,
    "inference.convergence": (
        "tests/inference/test_convergence.py tests/person_time/test_pointed.py",
        "tests/inference/test_mixing.py tests/inference/test_sampler_settings.py",
    ),
    "estimands.averages": (*ESTIMANDS, *COURSES),
    "estimands.comparisons": ("tests/estimands/test_comparisons.py", *ESTIMANDS),
    "estimands.curves": ("tests/estimands/test_curves.py", *ESTIMANDS, *COURSES),
    "estimands.draws": ("tests/estimands/test_support.py", *CHECKS),
    "estimands.occupancies": ("tests/estimands/test_cures.py", *COURSES),
    "estimands.paths": (*ESTIMANDS, *COURSES),
    "estimands.populations": (
        "tests/estimands/test_members.py tests/estimands/test_curves.py "
        "tests/estimands/test_comparisons.py tests/estimands/test_courses.py "
        "tests/estimands/test_cures.py",
        *ESTIMANDS,
    ),
    "estimands.ratios": (
        "tests/estimands/test_ratios.py tests/estimands/test_support.py "
        "tests/estimands/test_companions.py",
        *ESTIMANDS,
        *COURSES,
    ),
    "estimands.sources": ("tests/estimands/test_sources.py",),
    "estimands.states": COURSES,
    "person_time.cells.each": SCANS,
    "person_time.cells.assembling": CELLS,
    "person_time.cells.blocks": (
        "tests/person_time/test_survey.py tests/person_time/test_blocks.py",
    ),
    "person_time.cells.front": CELLS,
    "person_time.cells.lookup": CELLS,
    "person_time.cells.many": (*CELLS, *SCANS),
    "person_time.cells.ordered": ("tests/person_time/test_ordered.py",),
    "person_time.cells.patterns": CELLS,
    "person_time.cells.ranks": ("tests/person_time/test_survey.py",),
    "person_time.cells.survey": ("tests/person_time/test_survey.py",),
    "patients.scan.passes": ("tests/patients/test_passes.py",),
    "person_time.cells.singles": (*CELLS, *SCANS),
    "person_time.cells.summing": CELLS,
    "person_time.cells.value": CELLS,
    "person_time.follow_up": (
        "tests/person_time/test_follow_up.py tests/person_time/test_segments.py "
        "tests/patients/test_account.py",
        "tests/hazards/test_frailty.py -kobserved",
        *SCANS,
    ),
    "core.episodes": (
        "tests/core/test_episodes.py",
        "tests/person_time/test_segments.py tests/person_time/test_follow_up.py "
        "tests/person_time/test_pointed.py tests/person_time/test_tabulation.py",
    ),
    "core.intervals": ("tests/core/test_intervals.py",),
    "core.product_limit": ("tests/core/test_product_limit.py", *RISKS),
    "person_time.risk_sets": ("tests/person_time/test_risk_sets.py", *RISKS),
    "person_time.segments": ("tests/person_time/test_segments.py", *SCANS),
    "person_time.tabulation": ("tests/person_time/test_tabulation.py",),
    "person_time.transitions": (
        "tests/hazards/test_illness_death.py -k 'transitions or courses or phases_may'",
    ),
}


class Session:
    """A pytest plugin: runs the tests once, then a forked process for each mutant."""

    def __init__(self, mutants: list[str], given: argparse.Namespace) -> None:
        self.left, self.longest, self.until = mutants, given.longest, given.until
        self.found: dict[str, str] = {}

    def pytest_collection(self) -> None:
        """Stop hypothesis from looking for the simplest of examples that fail."""
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", derandomize=True, phases=phases, database=None)
        settings.load_profile("mutants")

    def _run(self, item: Any) -> bool:
        item.session._setupstate.teardown_exact(item.parent)
        # The file stays set up, and its fixtures with it.
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=item.getparent(pytest.Module))
        return bool(item.session.testsfailed == 0)

    def _clean(self, items: list[Any]) -> list[tuple[float, Any, set[str]]]:
        state = library("state").state()
        tests = []
        for item in items:
            state._stats.clear()
            select("stats")
            begin = time.monotonic()
            if not self._run(item):
                raise SystemExit(f"{item.nodeid} fails without a mutant")
            tests.append((time.monotonic() - begin, item, set(state._stats)))
        return tests

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what was collected, for all mutants that are left."""
        tests = sorted(self._clean(session.items), key=lambda one: one[0])
        select("")
        # Nothing that is there is collected in a child: that would copy all pages.
        gc.freeze()
        # A second run must pass too, in a fork, where nothing is changed.
        for number, mutant in enumerate(["", *self.left]):
            if mutant and time.monotonic() > self.until:
                self.found |= dict.fromkeys(self.left[number - 1 :], "unfinished")
                break
            base = mutant.rpartition("__mutmut_")[0]
            mine = [
                (spent, item)
                for spent, item, reached in tests
                if spent <= self.longest and (base in reached or not mutant)
            ]
            if not mine:
                continue
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(1, 2)
                select(mutant)
                os._exit(0 if all(self._run(item) for _, item in mine) else 1)
            how = wait(child, 20.0 + 10.0 * sum(spent for spent, _ in mine))
            if mutant:
                self.found[mutant] = how
            elif how != "survived":
                raise SystemExit("a second run of the tests fails without a mutant")
        return True


def say(text: str) -> None:
    """Print a line at once: forked processes must not print it again."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def library(name: str) -> Any:
    """Import a part of mutmut, which only the dependency group of mutations installs."""
    return importlib.import_module(f"mutmut.{name}")


def select(mutant: str) -> None:
    """Switch one mutant on."""
    library("mutation.trampoline").set_mutant_under_test(mutant)


def wait(child: int, longest: float) -> str:
    """Wait for a process, and end it if it hangs."""
    until = time.monotonic() + longest
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if status == 0 else "noticed"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def forms(code: str) -> dict[str, ast.FunctionDef]:
    """Functions of a mutated module by their names, docstrings taken off."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            found[node.name] = node
    return found


def difference(found: dict[str, ast.FunctionDef], mutant: str, words: bool = True) -> str:
    """Lines that a mutant changes; without ``words`` none of sentences and ``strict=``."""
    texts = []
    for name in (original(mutant), mutant):
        node: Any = ast.parse(ast.unparse(found[name])).body[0]
        node.name = ""
        for part in ast.walk(node) if not words else ():
            if isinstance(part, ast.Constant) and " " in str(part.value):
                part.value = ""
            elif isinstance(part, ast.Call):
                part.keywords = [one for one in part.keywords if one.arg != "strict"]
        texts.append(ast.unparse(node).splitlines())
    before, after = texts
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    return "\n".join(line for line in lines if not line.startswith("@@"))


def in_fork(work: Any) -> Any:
    """Do something in a process of its own, and take what it returns through JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as out:
            json.dump(work(), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as found:
        text = found.read()
    os.waitpid(child, 0)
    return json.loads(text)


def mutate(name: str, given: argparse.Namespace) -> tuple[dict[str, ast.FunctionDef], int]:
    """Put a module's mutants in the place of the module, and choose some of them."""
    path = Path("bayesblina", *name.split(".")).with_suffix(".py")
    # Without numba the inlined functions are like the others.
    made = library("mutation.file_mutation").mutate_file_contents(
        str(path), (ROOT / path).read_text().replace(INLINED, "")
    )
    every = forms(made.code)
    names = [one for one in made.mutant_names if difference(every, one, words=False)]
    path.write_text(made.code)
    chosen = names
    if given.again:
        chosen = json.loads(Path(f"survivors-{name}.json").read_text())
    elif len(names) > given.sample:
        chosen = random.Random(given.seed).sample(names, given.sample)
    return {one: every[one] for each in chosen for one in (each, original(each))}, len(names)


def original(mutant: str) -> str:
    """Name of the function that a mutant stands for."""
    return mutant.rpartition("__mutmut_")[0] + "__mutmut_orig"


def run(modules: Sequence[str], given: argparse.Namespace) -> None:
    """Mutate modules, run their tests, and print what survives."""
    made = {name: mutate(name, given) for name in modules}
    files = {name: given.tests or TESTS[name] for name in modules}
    left = {
        f"bayesblina.{name}.{one}": name
        for name in modules
        for one in made[name][0]
        if not one.endswith("_orig")
    }
    size, status = Counter(left.values()), dict.fromkeys(left, "reached by no test")
    names = ", ".join(f'"bayesblina.{name}"' for name in modules)
    Path("tests/test_docstrings.py").write_text(EXAMPLES.replace("NAMES", names))

    def work(file: str, mine: list[str]) -> Any:
        session = Session(mine, given)
        options = ["-n0", "--no-cov", "-q", "--assert=plain", "-pno:cacheprovider", "-pno:logging"]
        pytest.main([*options, *shlex.split(file)], plugins=[session])
        return session.found

    sessions = dict.fromkeys(file for name in modules for file in files[name])
    # Examples of docstrings come last: many of them fit.
    for file in [*sessions, *([] if given.tests else ["tests/test_docstrings.py"])]:
        begin = time.monotonic()
        mine = [one for one, name in left.items() if file not in sessions or file in files[name]]
        if not mine:
            continue
        found = in_fork(lambda file=file, mine=mine: work(file, mine))
        status |= {
            one: how for one, how in found.items() if status[one] != "survived" or how == "noticed"
        }
        left = {one: name for one, name in left.items() if status[one] != "noticed"}
        say(f"{file}: {len(found)}, {len(left)} left, {time.monotonic() - begin:.0f} s")
    for name in modules:
        mine = [one for one in left if left[one] == name]
        unfinished = [one for one in mine if status[one] == "unfinished"]
        size[name] -= len(unfinished)
        mine = [one for one in mine if one not in unfinished]
        counts = made[name][1], size[name], size[name] - len(mine), len(mine), given.seed
        say(f"| `{name}` | {' | '.join(map(str, counts))} |")
        short = [one.rpartition(".")[2] for one in mine]
        Path(f"survivors-{name}.json").write_text(json.dumps(short))
        for one in short:
            say(f"--- {one}: {status[f'bayesblina.{name}.{one}']}")
            say(difference(made[name][0], one))
        path = Path("bayesblina", *name.split(".")).with_suffix(".py")
        shutil.copy2(ROOT / path, path)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module", choices=TESTS, nargs="+", help="compiled ones by themselves")
    parser.add_argument("--tests", nargs="*", help="instead of those of the table")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, default=1e6, help="what is left then is not run")
    parser.add_argument("--again", action="store_true", help="run the last survivors")
    parser.add_argument("--copy", type=lambda name: Path(name).resolve(), default=ROOT / "mutants")
    given = parser.parse_args()
    given.until = time.monotonic() + 60.0 * given.minutes
    os.environ["OMP_NUM_THREADS"] = "1"
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for name in listed:
        (given.copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, given.copy / name)
    os.chdir(given.copy)
    sys.path.insert(0, str(given.copy))
    # A function in a trampoline is none that numba could compile.
    os.environ["NUMBA_DISABLE_JIT"] = str(int(set(given.module) <= COMPILED))
    run(given.module, given)


if __name__ == "__main__":
    main()
