"""Every broken input ends in one clear error, soon; tests/data/broken/make.py made them."""

import time
from pathlib import Path

import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from tests.paths import DATA

BROKEN = DATA / "broken"
CASES = sorted(path.name.removesuffix(".expected") for path in BROKEN.glob("*.expected"))
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation")


def analyse(path: Path) -> bb.PersonTime:
    cohort = bb.read_cohort(
        path,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=bb.Phases(consolidation="c_month", maintenance="m_month"),
        covariates=["age"],
    )
    return bb.person_time(cohort, QUESTION)


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
    assert {path.name for path in BROKEN.iterdir() if path.name != "__pycache__"} == {
        "make.py",
        *CASES,
        *(f"{name}.expected" for name in CASES),
    }


@pytest.mark.parametrize("name", CASES)
def test_broken_input(name: str) -> None:
    expected = (BROKEN / f"{name}.expected").read_text(encoding="utf-8").splitlines()
    began = time.perf_counter()
    with pytest.raises(DataError) as caught:  # a warning would be an error too
        analyse(BROKEN / name)
    assert time.perf_counter() - began < 2
    message = caught.value.words(show_ids=True)
    assert expected
    for text in expected:
        assert text in message
    assert len(message) < 3_000
