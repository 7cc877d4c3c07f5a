"""Numbers are written by stated rules."""

from __future__ import annotations

import math

import pytest

from bayesblina.core.errors import SpecError
from bayesblina.core.tables import Kind, numbers


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("ratio", 0.4567, "0.46"),
        ("ratio", 0.0049, "<0.01"),
        ("ratio", 0.0, "0.00"),
        ("ratio", 1.0, "1.00"),
        ("ratio", 250.4, "250"),
        ("ratio", math.inf, "∞"),
        ("ratio", math.nan, "–"),
        ("probability", 0.5, "0.50"),
        ("probability", 0.0994, "0.099"),
        ("probability", 0.1, "0.10"),
        ("probability", 0.9004, "0.900"),
        ("probability", 0.0004, "<0.001"),
        ("probability", 0.9996, ">0.999"),
        ("probability", 1.0, ">0.999"),
        ("percent", 35 / 36, "97.2"),
        ("percent", 1.0, "100.0"),
        ("time", 15.46, "15.5"),
        ("time", -0.01, "0.0"),
        ("time", -3.26, "−3.3"),
        ("time", math.inf, "not reached"),
        ("log density", -172.04, "−172.0"),
        ("number", 0.012345, "0.0123"),
        ("number", 9.9999, "10.0"),
        ("number", 1234.6, "1235"),
        ("number", 1e-9, "0.00000000100"),
        ("number", -7.0, "−7"),
        ("number", 123456.0, "123456"),
    ],
)
def test_numbers(kind: Kind, value: float, text: str) -> None:
    assert numbers.writer(kind)(value) == text


def test_times_by_unit() -> None:
    assert [numbers.time(15.467, unit) for unit in ("days", "weeks", "months", "years")] == [
        "15",
        "15.5",
        "15.5",
        "15.47",
    ]
    with pytest.raises(SpecError, match="Unknown unit 'moons'"):
        numbers.time(1.0, "moons")
    with pytest.raises(SpecError, match="kind must be one of"):
        numbers.writer("hr")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="between 0 and 1"):
        numbers.probability(1.2)


def test_intervals() -> None:
    assert numbers.interval(0.45, 0.2234, 0.91, kind="ratio") == "0.45 (0.22 to 0.91)"
    assert numbers.interval(-1.0, -2.5, 0.5, kind="time") == "−1.0 (−2.5 to 0.5)"
    assert numbers.interval(math.nan, 0.1, 0.2) == "–"
