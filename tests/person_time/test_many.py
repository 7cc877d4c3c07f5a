"""Many patients in one pass: the same as patient by patient, however they are grouped."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime, many
from bayesblina.person_time.cells.many import _codes, tabulate_many
from tests.person_time.by_hand import MAINTENANCE, read, same_person_time
from tests.person_time.patients import DECLARED, QUESTION, table

CUTS = np.array([2.0, 5.5])


def cohort(*covariates: str) -> Cohort:
    return bb.read_cohort(table(), **DECLARED, covariates=list(covariates))


def both_ways(cohort: Cohort, **given: Any) -> tuple[PersonTime, PersonTime]:
    """Patient by patient, and in one pass."""
    options: dict[str, Any] = {"cuts": CUTS, "phase_cuts": None, "weight": None, "compress": None}
    options |= given
    each = {"weights" if name == "weight" else name: one for name, one in options.items()}
    return (
        bb.person_time(cohort, QUESTION, **each),
        tabulate_many(cohort, QUESTION, **options),
    )


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some parts of 15 patients, the last of fewer."""
    monkeypatch.setattr(many, "PART", 15)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("covariates", [(), ("site", "sex"), ("site", "score", "sex"), ("score",)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_table_and_the_same_patients(
    covariates: tuple[str, ...], weighted: bool, compress: bool
) -> None:
    patients = cohort(*covariates)
    weight = np.linspace(0.5, 2.0, patients.size) if weighted else None
    one, other = both_ways(patients, weight=weight, compress=compress)
    same = replace(
        other, table=other.table.assign_attrs(compression=one.table.attrs["compression"])
    )
    same_person_time(one, same)
    assert (one.compression is None) == (other.compression is None)
    if one.compression is not None and other.compression is not None:
        for axis, mine in zip(one.compression.axes, other.compression.axes, strict=True):
            assert (axis.name, axis.low, axis.high) == (mine.name, mine.low, mine.high)
            assert (axis.nodes, axis.swing) == pytest.approx((mine.nodes, mine.swing))
    assert set(one.people.variables) == set(other.people.variables)
    for name in one.people.variables:
        assert one.people[name].dims == other.people[name].dims
        np.testing.assert_array_equal(other.people[name].values, one.people[name].values, name)
    assert one.episodes.equals(other.episodes)
    assert one.left_out == other.left_out
    assert other.unit == "months"
    assert not other.synthetic
    for time in (0.0, 1.25, 4.0):
        np.testing.assert_allclose(other.at_risk(time), one.at_risk(time), atol=1e-9)


def test_pieces_of_the_phase_and_default_cuts() -> None:
    patients = cohort("site")
    one, other = both_ways(patients, cuts=None, phase_cuts=np.array([1.0, 3.0]))
    assert one.cuts.size > 2
    np.testing.assert_allclose(other.cuts, one.cuts, rtol=1e-12)
    same_person_time(one, other)
    assert one.episodes.equals(other.episodes)
    assert other.table["since"].values.tolist() == one.table["since"].values.tolist()


def test_weights_of_one_are_none() -> None:
    """As are those of patients who do not contribute."""
    patients = cohort()
    one, _ = both_ways(patients)
    used = np.isin(patients.patients, one.people["patient"].values)
    assert not used.all()
    for weight, weighted in ((np.ones(patients.size), False), (np.where(used, 1.0, 9.0), False)):
        one, other = both_ways(patients, weight=weight)
        assert other.weighted is weighted
        same_person_time(one, other)


def test_rows_of_persons() -> None:
    patients = cohort("site")
    persons = np.array([f"person {row // 3}" for row in range(patients.size)])
    one, other = both_ways(replace(patients, persons=persons))
    assert 1 < other.table.attrs["persons"] == one.table.attrs["persons"] < other.size
    assert other.in_pieces
    np.testing.assert_array_equal(one.persons.of, other.persons.of)


def test_synthetic_patients_stay_so() -> None:
    _, other = both_ways(replace(cohort(), synthetic=True))
    assert other.synthetic


@pytest.mark.parametrize("listed", [6, 5])
def test_numbers_of_combinations(monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    """Listed, or those that occur: site varies slowest, the numbers of score have no part."""
    monkeypatch.setattr(many, "LISTED", listed)
    patients = cohort("site", "score", "sex")
    place, present, declared = _codes(patients)
    assert list(declared) == ["site", "sex"]
    assert place.dtype == np.int32
    site, sex = (patients.covariates[name].values for name in ("site", "sex"))
    np.testing.assert_array_equal(present[place], 2 * site + sex)
    assert present.tolist() == list(range(6))
    one, other = both_ways(patients, compress=False)
    same_person_time(one, other)


def scored(score: list[float], *, start: list[Any], months: Floats) -> Cohort:
    size = len(score)
    columns = {"months": list(months), "died": [1] * size, "start": start, "score": score}
    return read(columns, covariates=["score"])


def test_compressed_by_default_where_that_is_worth_it() -> None:
    """A thousand numbers of which all differ become nodes; a thousand of which ten do, do not."""
    random = np.random.default_rng(1)
    start = [1.5, None] * 600
    months = random.uniform(2.0, 9.0, 1200)
    apart = random.normal(size=1200)
    for score, compressed in ((apart, True), (np.rint(3.0 * apart), False)):
        patients = scored(score.tolist(), start=start, months=months)
        found = tabulate_many(
            patients, MAINTENANCE, cuts=CUTS, phase_cuts=None, weight=None, compress=None
        )
        assert (found.compression is not None) is compressed


def test_the_range_is_that_of_contributors() -> None:
    """A number that does not vary among those at risk has no term."""
    question = replace(MAINTENANCE, landmark=4.0)
    patients = scored(
        [5.0, 1.0, 1.0, 1.0],
        start=[1.5, 1.0, None, None],
        months=np.array([3.0, 8.0, 9.0, 7.0]),
    )
    found = tabulate_many(
        patients, question, cuts=CUTS, phase_cuts=None, weight=None, compress=None
    )
    assert found.table.sizes["term"] == 0
    (score,) = found.covariates
    assert (score.low, score.high) == (1.0, 1.0)
    assert found.table["patients"].values.tolist() == [3.0]


def test_nobody_to_compare() -> None:
    patients = scored([1.0, 2.0], start=[1.5, None], months=np.array([3.0, 8.0]))
    with pytest.raises(DataError, match="no patient is ever eligible"):
        tabulate_many(
            patients,
            replace(MAINTENANCE, landmark=9.0),
            cuts=CUTS,
            phase_cuts=None,
            weight=None,
            compress=None,
        )
