"""How long to sample; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesblina.core.errors import SpecError, require_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How long to sample.

    `draws`, `tune`: draws kept and draws for adaptation, per chain.
    `cores`: chains that run at the same time; None means as many as the machine has.
    `target_accept`: acceptance rate that the step size is adapted to; None means the model's own.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    target_accept: float | None = None


def sampler_settings(
    draws: int, tune: int, chains: int, cores: int | None, seed: int
) -> SamplerSettings:
    """Check how long is to be sampled."""
    least: tuple[tuple[str, object, int], ...] = (
        ("draws", draws, 4),
        ("tune", tune, 1),
        ("chains", chains, 1),
        ("cores", 1 if cores is None else cores, 1),
    )
    for name, value, fewest in least:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < fewest:
            raise SpecError(f"{name} must be a whole number of at least {fewest}, got {value!r}.")
    require_seed(seed)
    return SamplerSettings(
        draws=int(draws),
        tune=int(tune),
        chains=int(chains),
        cores=None if cores is None else int(cores),
    )
