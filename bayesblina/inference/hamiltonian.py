"""Hamiltonian Monte Carlo with many short chains side by side; numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesblina.core.arrays import Floats

# Log densities, (chain,), and their gradients, (chain, coordinate), of (chain, coordinate).
Density = Callable[[Floats], tuple[Floats, Floats]]

ACCEPT = 0.8
# Length of a path in units in which the density has sds of about 1.
PATH = 1.6
MOST_STEPS = 40


def hamiltonian(
    density: Density, start: Floats, *, draws: int, warm_up: int, seed: int | tuple[int, ...]
) -> Floats:
    """Draw from a density in coordinates whose sds are about 1.

    `density`: gives log densities and gradients of many points at once.
    `start`, shape (chain, coordinate): where chains start.
    `draws`, `warm_up`: draws kept and not kept, per chain. The size of steps, which all chains
    share, is set in the warm-up.
    Result, shape (chain, draw, coordinate): the draws.

    Neal (2011), doi:10.1201/b10905-6; numbers of steps are random, so that no path is periodic.
    """
    rng = np.random.default_rng(seed)
    point = start.copy()
    value, gradient = density(point)
    kept = np.empty((start.shape[0], draws, start.shape[1]))
    log_step, settled = np.log(0.5), np.log(0.5)
    for index in range(warm_up + draws):
        step = float(np.exp(log_step if index < warm_up else settled))
        most = min(MOST_STEPS, max(1, int(np.ceil(PATH / step))))
        count = int(rng.integers((most + 1) // 2, most + 1))
        momentum = rng.normal(size=point.shape)
        new, force = point, gradient
        moved = momentum
        for _ in range(count):
            moved = moved + 0.5 * step * force
            new = new + step * moved
            new_value, force = density(new)
            moved = moved + 0.5 * step * force
        energy = new_value - 0.5 * (moved**2).sum(axis=1)
        energy -= value - 0.5 * (momentum**2).sum(axis=1)
        energy = np.where(np.isfinite(energy), energy, -np.inf)
        accepted = np.log(rng.random(point.shape[0])) < energy
        point = np.where(accepted[:, None], new, point)
        gradient = np.where(accepted[:, None], force, gradient)
        value = np.where(accepted, new_value, value)
        if index < warm_up:
            rate = float(np.minimum(1.0, np.exp(np.minimum(energy, 0.0))).mean())
            log_step += (rate - ACCEPT) / np.sqrt(1.0 + index / 5.0)
            settled += (log_step - settled) / np.sqrt(1.0 + index)
        else:
            kept[:, index - warm_up] = point
    return kept
