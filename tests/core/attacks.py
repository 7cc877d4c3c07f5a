"""What attacks on hidden counts share: accounts to mask, and the formula of two rungs."""

import math

import pandas as pd

WIDE = 2 * 1.959963984540054


def account_of(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Make an account of so many patients and events, with as much person-time in each row."""
    columns = ["step", "endpoint", "phase", "what", "patients", "events"]
    table = pd.DataFrame(rows, columns=columns).assign(person_time=900.0)
    return table.astype({"events": "Int64"})


def information(lower: float, upper: float) -> float:
    """Inverse variance of a log ratio, from its interval."""
    return (WIDE / math.log(upper / lower)) ** 2


def recovered(variance: float, weighted: float, ratio: float) -> float:
    """Work out the exposed phase's events from what two methods make of the same risk sets.

    Parameters
    ----------
    variance, weighted
        Sums of p(1 - p) over events, with the exposed share p of those at risk (Mantel-Byar), and
        with it weighted by the hazard ratio (Cox).
    ratio
        The hazard ratio.
    """
    share = (1 - math.sqrt(ratio * variance / weighted)) / (1 - ratio)
    inside = share * ratio / (1 - share + share * ratio)
    return variance * inside / (share * (1 - share))
