"""Values go to other processes, as any value of Python does; what cannot says so."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, Problem
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import Lazily, front
from tests.conftest import QUESTION


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def test_a_fit_is_the_same_afterwards(synthetic_fit: Fit) -> None:
    same = again(synthetic_fit)
    assert repr(same) == repr(synthetic_fit)
    assert same.question == synthetic_fit.question
    assert same.definition == synthetic_fit.definition
    assert same.provenance == synthetic_fit.provenance
    assert same.person_time.people.identical(synthetic_fit.person_time.people)
    assert same.person_time.episodes.identical(synthetic_fit.person_time.episodes)
    assert same.person_time.left_out == synthetic_fit.person_time.left_out
    assert bb.hazard_ratio(same).identical(bb.hazard_ratio(synthetic_fit))
    regimes: list[Regime] = [bb.Never(), bb.From(8.0)]
    curves = bb.survival(same, regimes=regimes, landmark=8.0)
    assert curves.identical(bb.survival(synthetic_fit, regimes=regimes, landmark=8.0))


def test_a_loaded_fit_is_the_same_afterwards(synthetic_fit: Fit, tmp_path: Path) -> None:
    bb.save(synthetic_fit, tmp_path / "fit.nc")
    loaded = again(bb.load(tmp_path / "fit.nc"))
    assert bb.hazard_ratio(loaded).identical(bb.hazard_ratio(synthetic_fit))


def make_cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1).cohort


MAKERS: dict[str, Callable[[], Any]] = {
    "phases": lambda: bb.Phases(a="a_month", b=bb.Phase(start="b_month", end="b_end")),
    "question": lambda: QUESTION,
    "regime": lambda: bb.WithPhases({"consolidation": 3.0, "maintenance": 8.0}),
    "design": lambda: bb.planning.StudyDesign(
        patients=100,
        hazards=(0.1,),
        start_hazards=(0.1,),
        hazard_ratio=0.7,
        follow_up=24.0,
    ),
    "scenarios": lambda: bb.scenarios(make_cohort(), QUESTION, {"lag": [0.0, 1.0]}),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("to", [again, copy.deepcopy])
def test_values_are_equal_afterwards(name: str, to: Callable[[Any], Any]) -> None:
    value = MAKERS[name]()
    assert to(value) == value


def test_exposures_are_the_same_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = make_cohort()
    held = bb.person_time(cohort, QUESTION)
    monkeypatch.setattr(front, "MANY", 1)
    lazy = bb.person_time(cohort, QUESTION)
    for person_time in (held, lazy):
        same = again(person_time)
        assert same.table.identical(person_time.table)
        assert same.people.identical(person_time.people)


def test_what_is_made_lazily_is_made_once_before_it_goes() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return 7

    lazy = Lazily(make)
    assert again(lazy)() == 7
    assert lazy() == 7
    assert len(made) == 1


def test_errors_come_back_as_they_were_raised() -> None:
    problem = Problem(column="os", found="missing", expected="A time.", patients=("P1", "P2"))
    error = DataError([problem], source="patients.csv")
    back = again(error)
    assert str(back) == str(error)
    assert back.problems == error.problems
    assert back.source == "patients.csv"


NONSENSE = partial(
    bb.read_cohort,
    pd.DataFrame({"id": ["a", "b"], "t": [1.0, 2.0]}),
    patient="id",
    unit="months",
    endpoints={"os": bb.Endpoint(time="t", event="died")},
    phases=bb.Phases(maintenance="m"),
)


def test_a_pool_of_processes(synthetic_fit: Fit) -> None:
    """Spawned, as on macOS and Windows: nothing is inherited."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(bb.hazard_ratio, synthetic_fit)
        refused = pool.submit(NONSENSE)
        np.testing.assert_allclose(
            there.result()["hazard_ratio"], bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
        )
        with pytest.raises(DataError, match="2 problems in the table"):
            refused.result()


def test_joblib(synthetic_fit: Fit, tmp_path: Path) -> None:
    """Its processes, loky's, and its files, where arrays lie beside the pickle or are mapped."""
    joblib = pytest.importorskip("joblib", reason="not a dependency of the package's own")
    expected = bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
    # Arrays above this size go to the processes as maps of files, read-only.
    there = joblib.Parallel(n_jobs=2, backend="loky", max_nbytes="1K")(
        joblib.delayed(bb.hazard_ratio)(fit) for fit in (synthetic_fit, again(synthetic_fit))
    )
    for found in there:
        np.testing.assert_array_equal(found["hazard_ratio"], expected)
    joblib.dump(synthetic_fit, tmp_path / "fit.joblib")
    for mapped in (None, "r"):
        same = joblib.load(tmp_path / "fit.joblib", mmap_mode=mapped)
        assert same.question == synthetic_fit.question
        assert same.provenance == synthetic_fit.provenance
        np.testing.assert_array_equal(bb.hazard_ratio(same)["hazard_ratio"], expected)
    cohort = make_cohort()
    made = joblib.Parallel(n_jobs=2, backend="loky", max_nbytes="1K")(
        joblib.delayed(bb.kaplan_meier)(one) for one in (cohort, cohort)
    )
    for table in made:
        pd.testing.assert_frame_equal(table, bb.kaplan_meier(cohort))


def test_patients_in_an_engine_stay_there(tmp_path: Path) -> None:
    path = tmp_path / "patients.parquet"
    pd.DataFrame({"id": ["a", "b"], "t": [1.0, 2.0], "e": [1, 0], "m": [0.5, None]}).to_parquet(
        path
    )
    scan = bb.scan_cohort(
        str(path),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(maintenance="m"),
    )
    with pytest.raises(TypeError, match="bayesblina\\.scan_cohort"):
        pickle.dumps(scan)


def test_adverse_events_are_the_same_afterwards() -> None:
    cohort = make_cohort()
    table = bb.simulate.adverse_events(cohort, seed=1)
    events = bb.safety.adverse_events(
        table, cohort, patient="patient_id", term="term", start="month", transplant="censor"
    )
    made = again(events)
    pd.testing.assert_frame_equal(made.table(), events.table())
    assert (made.left_out, made.file_hashes) == (events.left_out, events.file_hashes)
    with pytest.raises(TypeError, match="does not support item assignment"):
        made.left_out["x"] = 1
