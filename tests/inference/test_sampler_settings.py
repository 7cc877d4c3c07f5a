"""How long to sample is whole numbers, and enough of them."""

from typing import Any

import numpy as np
import pytest

from bayesblina.core.errors import SpecError
from bayesblina.inference.convergence import SamplerSettings, sampler_settings


def test_whole_numbers_of_any_kind_become_pythons() -> None:
    draws: Any = np.int64(100)
    tune: Any = np.int32(50)
    found = sampler_settings(draws, tune, 2, None, 1)
    assert found == SamplerSettings(draws=100, tune=50, chains=2)
    assert type(found.draws) is int
    assert sampler_settings(4, 1, 1, 1, 0).cores == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((3, 1, 1, None, 1), "draws must be a whole number of at least 4, got 3"),
        ((4, 0, 1, None, 1), "tune must be a whole number of at least 1, got 0"),
        ((4, 1, True, None, 1), "chains must be a whole number of at least 1, got True"),
        ((4, 1, 1, 1.5, 1), "cores must be a whole number of at least 1, got 1.5"),
        ((4, 1, 1, None, -1), "seed"),
    ],
)
def test_others_are_refused(given: tuple[int, int, int, int | None, int], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        sampler_settings(*given)
