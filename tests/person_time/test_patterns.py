"""Patients grouped by their covariates, on a few rows."""

from typing import Any

import numpy as np
import pytest

from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells.patterns import (
    CovariateTerms,
    Terms,
    compressed_terms,
    covariate_patterns,
    describe_covariates,
    groups_of_codes,
    levels_of_codes,
    terms_of,
    unique_rows,
)
from bayesblina.person_time.compression import Axis, Compression
from tests.person_time.by_hand import read

SITE = CovariateTerms(name="site", kind="categorical", levels=("a", "b", "c"))
SEX = CovariateTerms(name="sex", kind="categorical", levels=("f", "m"))
SCORE = CovariateTerms(name="score", kind="continuous", low=-1.0, high=2.0)
SAME = CovariateTerms(name="same", kind="continuous", low=3.0, high=3.0)


def cohort() -> Cohort:
    table: dict[str, list[Any]] = {
        "months": [5.0] * 6,
        "died": [1] * 6,
        "start": [1.0, None] * 3,
        "same": [7.0] * 6,
        "site": ["a", "b", "c", "c", "b", "d"],
        "score": [9.0, 2.0, 1.0, 1.0, 2.0, -5.0],
    }
    return read(table, covariates=["same", "site", "score"])


USED = np.array([1, 2, 3, 4])


def test_covariates_of_those_used() -> None:
    """Patients with the first level, the last, the largest and the smallest number are not."""
    assert describe_covariates(cohort(), USED) == [
        CovariateTerms(name="same", kind="continuous", low=7.0, high=7.0),
        CovariateTerms(name="site", kind="categorical", levels=("b", "c")),
        CovariateTerms(name="score", kind="continuous", low=1.0, high=2.0),
    ]


def test_terms_follow_one_that_does_not_vary() -> None:
    values = {
        "same": np.full(3, 3.0),
        "site": np.array(["a", "c", "b"]),
        "score": np.array([-1.0, 2.0, 0.5]),
    }
    found = terms_of([SAME, SITE, SCORE], values, size=3)
    assert found.names == ("site[b]", "site[c]", "score")
    assert found.continuous == (False, False, True)
    assert found.design.tolist() == [[0, 0, -1], [0, 1, 2], [1, 0, 0.5]]
    nothing = terms_of([SAME], values, size=3)
    assert (nothing.names, nothing.continuous, nothing.design.shape) == ((), (), (3, 0))


def test_numbers_of_combinations() -> None:
    """The last covariate varies fastest; continuous ones have no part in it."""
    found = levels_of_codes([SITE, SCORE, SEX], np.arange(6))
    assert found["site"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert found["sex"].tolist() == ["f", "m", "f", "m", "f", "m"]
    assert set(found) == {"site", "sex"}


def test_combinations_that_occur() -> None:
    """Nobody is in site a, so that b is the reference."""
    described, terms, group = groups_of_codes([SITE, SCORE, SEX], np.array([2, 4, 5]))
    assert described == [
        CovariateTerms(name="site", kind="categorical", levels=("b", "c")),
        SCORE,
        SEX,
    ]
    assert terms.names == ("site[c]", "score", "sex[m]")
    assert terms.continuous == (False, True, False)
    assert terms.design.tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert group.tolist() == [0, 1, 2]


def test_combinations_that_differ_in_nothing_that_varies() -> None:
    described, terms, group = groups_of_codes([SAME], np.array([0]))
    assert described == [SAME]
    assert terms.design.shape == (1, 0)
    assert group.tolist() == [0]


def test_patterns_of_those_used() -> None:
    pattern, terms = covariate_patterns(cohort(), USED)
    assert terms.names == ("site[c]", "score")
    assert terms.continuous == (False, True)
    assert terms.design.tolist() == [[0, 2], [1, 1]]
    assert pattern.tolist() == [0, 1, 1, 0]
    own, terms = covariate_patterns(cohort(), USED, by_patient=True)
    assert own.tolist() == [0, 1, 2, 3]
    assert own.dtype.kind == "i"
    assert terms.design.tolist() == [[0, 2], [1, 1], [1, 1], [0, 2]]


@pytest.mark.parametrize(
    ("rows", "different", "which"),
    [
        ([[2.0, 1.0], [1.0, 5.0], [2.0, 1.0]], [[1, 5], [2, 1]], [1, 0, 1]),
        ([[], [], []], [[]], [0, 0, 0]),
    ],
)
def test_different_rows(rows: Any, different: Any, which: list[int]) -> None:
    unique, inverse = unique_rows(np.array(rows))
    assert unique.tolist() == different
    assert inverse.tolist() == which
    # Positions: they index others.
    assert inverse.dtype == np.int64


def test_groups_crossed_with_nodes() -> None:
    axis = Axis(name="score", low=-1.0, high=2.0, nodes=3, swing=1.0)
    compression = Compression(axes=(axis,))
    categories = Terms(
        names=("score", "sex[m]"),
        continuous=(True, False),
        design=np.array([[0.0, 0.0], [0.0, 1.0]]),
    )
    terms, node = compressed_terms(categories, compression)
    assert (terms.names, terms.continuous) == (categories.names, categories.continuous)
    assert node.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(terms.design[:, 0], np.tile(axis.values, 2))
    assert terms.design[:, 1].tolist() == [0, 0, 0, 1, 1, 1]
    # The groups' own terms stay as they are.
    assert categories.design.tolist() == [[0, 0], [0, 1]]
