"""How long to sample; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How long to sample.

    Parameters
    ----------
    draws, tune
        Draws kept and draws for adaptation, per chain.
    cores
        Chains that run at the same time; None means as many as the machine has.
    target_accept
        Acceptance rate that the step size is adapted to; None means the model's own.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    target_accept: float | None = None
