"""What is asked of the patients of a scan, whoever adds them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats, Ints
from bayesblina.person_time.cells.patterns import CovariateTerms, Terms
from bayesblina.person_time.compression import Compression

# Patients who are looked at singly, for what can be estimated from a sample.
SAMPLE = 2000

# What happens at a time: an event, the begin of time at risk, or an entry into states of an effect.
Moment = str
EVENT, BEGIN = "event", "begin"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """What one look at all patients tells; contributors are those at risk for any endpoint.

    Attributes
    ----------
    codes : ndarray of int, shape (code,)
        Combinations of categorical covariates that contributors have, rising.
    reasons : ndarray of int, shape (endpoint, reason)
        Patients by the reason for which they do not contribute; those who do come last.
    first_begin, last_begin, last_exit : ndarray, shape (endpoint,)
        Bounds of time at risk; infinite, 0 and 0 where there is none.
    time_at_risk : ndarray, shape (endpoint,)
        Its total.
    events : ndarray of int, shape (endpoint,)
        Number of events.
    low, high, sd : ndarray, shape (covariate,)
        Range and standard deviation of continuous covariates among contributors.
    earliest : int
        Of how many, all endpoints together, time at risk begins at the earliest time of all.
    """

    codes: Ints
    reasons: Ints
    first_begin: Floats
    last_begin: Floats
    last_exit: Floats
    time_at_risk: Floats
    events: Ints
    low: Floats
    high: Floats
    sd: Floats
    earliest: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouping:
    """Groups in which patients are summed: by the number of their combination of levels.

    Attributes
    ----------
    codes : ndarray of int, shape (code,)
        Combinations, rising.
    group : ndarray of int, shape (code,)
        Group of each combination.
    terms
        Covariate terms of each group; those of compressed covariates are not used.
    described
        The covariates.
    compression
        How continuous covariates are compressed.
    """

    codes: Ints
    group: Ints
    terms: Terms
    described: tuple[CovariateTerms, ...]
    compression: Compression | None

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.terms.design.shape[0])

    @property
    def moments(self) -> int:
        """Number of polynomials that sums are multiplied with."""
        return 1 if self.compression is None else self.compression.size

    def group_of(self, codes: Ints) -> Ints:
        """Find the groups of combinations; 0 for one that no contributor has.

        Parameters
        ----------
        codes : ndarray of int, shape (n,)
            Combinations.

        Returns
        -------
        ndarray of int, shape (n,)
            Groups.
        """
        place = np.minimum(np.searchsorted(self.codes, codes), self.codes.size - 1)
        return np.where(self.codes[place] == codes, self.group[place], 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupSums:
    """Sums by group.

    Attributes
    ----------
    events, person_time : ndarray, shape (endpoint, state, group, interval, moment)
        Events and person-time, multiplied by the moments' polynomials.
    first, longest : ndarray, shape (endpoint, state)
        Earliest time at which anybody is in a state, and the longest that anybody is in it.
    visitors : ndarray of int, shape (endpoint, state)
        How many patients are ever in it.
    patients : ndarray, shape (group, moment)
        Contributors.
    at_risk : ndarray, shape (endpoint, landmark, group, moment)
        Who is at risk at the landmarks.
    """

    events: Floats
    person_time: Floats
    first: Floats
    longest: Floats
    visitors: Ints
    patients: Floats
    at_risk: Floats


class Summing(Protocol):
    """A way to add up the patients of a scan."""

    def survey(self) -> Survey:
        """Look at all patients once."""
        ...

    def left_out(self, endpoint: int, reason: int) -> tuple[str, ...]:
        """Name the first few patients who do not contribute to an endpoint, for a reason."""
        ...

    def entries(self) -> dict[Moment, int]:
        """Count the entries into states of each effect, all endpoints together."""
        ...

    def order_statistics(self, ranks: Mapping[Moment, Ints]) -> dict[Moment, Floats]:
        """Look up times at given ranks, all endpoints together, and their neighbours."""
        ...

    def sums(self, grouping: Grouping, cuts: Floats, landmarks: Floats) -> GroupSums:
        """Sum events and person-time."""
        ...

    def sample(self) -> pd.DataFrame:
        """Read `SAMPLE` contributors chosen by a hash of their ids: columns of `coded`."""
        ...


def endpoint_columns(names: Sequence[str]) -> list[str]:
    """Name the columns of endpoints in the table of `coded`."""
    return [f"{kind}:{name}" for name in names for kind in ("time", "event", "entry")]
