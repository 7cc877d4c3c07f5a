"""A question asked of a cohort: episodes, its two groups, and the Mantel-Byar test of them.

By Mantel and Byar patients change groups when phases change, and no time is immortal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import chdtrc, ndtri

from bayesblina.core.arguments import require_kind
from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.product_limit import count_at_risk, count_events
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes, find_episodes, roles_of
from bayesblina.person_time.question import Question

LABEL = (
    "The Mantel-Byar odds ratio approximates the hazard ratio where the effect is small and the "
    "groups at risk are of like size; elsewhere Peto's one-step estimate can be far from it."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Who is compared, with the time at risk of each.

    `episodes`: time at risk by endpoint.
    """

    cohort: Cohort
    question: Question
    episodes: Mapping[str, Episodes]

    @classmethod
    def of(cls, cohort: Cohort, question: Question) -> Comparison:
        """Ask a question of a cohort."""
        require_kind(cohort, Cohort, "cohort")
        require_kind(question, Question, "question")
        return cls(cohort=cohort, question=question, episodes=find_episodes(cohort, question))

    @property
    def labels(self) -> tuple[str, str]:
        """Names of the exposed and the reference group."""
        exposed = self.question.exposed
        return exposed, self.question.reference or f"no {exposed}"

    def groups(self, episodes: Episodes) -> tuple[Bools, Bools]:
        """Episodes of the exposed and of the reference group; other states belong to neither."""
        role = np.asarray(roles_of(episodes.phases, self.question))[episodes.phase]
        return role == "exposed", role == "reference"


def levels_of_patients(cohort: Cohort, names: Sequence[str]) -> tuple[Ints, list[str]]:
    """Give each patient the number of its combination of levels; and the combinations' labels."""
    if isinstance(names, str):
        raise SpecError(f"strata must be a list of covariates, such as ['{names}'].")
    categorical = [
        name for name, covariate in cohort.covariates.items() if covariate.kind == "categorical"
    ]
    number, labels = np.zeros(cohort.size, dtype=np.int64), [""]
    for name in names:
        if name not in categorical:
            raise SpecError(f"No categorical covariate '{name}'. {nearest(name, categorical)}")
        covariate = cohort.covariates[name]
        number = number * len(covariate.levels) + covariate.values.astype(np.int64)
        labels = [
            f"{label}, {level}" if label else level
            for label in labels
            for level in covariate.levels
        ]
    return number, labels


def mantel_byar(cohort: Cohort, question: Question, *, strata: Sequence[str] = ()) -> xr.Dataset:
    """Compare exposed with reference by the Mantel-Byar test.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    strata
        Categorical covariates: patients are compared with those of the same levels only, and
        observed and expected events and the variance are summed over all combinations of levels.

    Returns
    -------
    xarray.Dataset
        Over endpoint: ``observed``, ``expected``, ``observed_reference``, ``expected_reference``,
        ``variance``, ``chi2`` (one degree of freedom), ``p_value``, ``peto_odds_ratio`` with
        ``peto_lower`` and ``peto_upper`` (95 %), ``pike_odds_ratio``. NaN where there is no
        event time with both groups at risk.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or a stratum is no categorical covariate.

    Notes
    -----
    Mantel and Byar (1974), doi:10.2307/2285644. It is the score test of the Cox model with the
    phase as a time-varying covariate.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> bool((bb.mantel_byar(cohort, question)["peto_odds_ratio"] < 1).all())
    True
    """
    comparison = Comparison.of(cohort, question)
    return mantel_byar_of(comparison, levels_of_patients(cohort, strata)[0])


def mantel_byar_of(comparison: Comparison, stratum: Ints | None = None) -> xr.Dataset:
    """Compare the groups of a comparison, within strata of the cohort's patients if given."""
    if stratum is None:
        stratum = np.zeros(comparison.cohort.size, dtype=np.int64)
    sums = []
    for episodes in comparison.episodes.values():
        own, groups = stratum[episodes.patient], comparison.groups(episodes)
        parts = (
            _excess(episodes, *(rows & (own == level) for rows in groups))
            for level in np.unique(own)
        )
        sums.append(sum(parts, start=np.zeros(5)))
    observed, expected, other, other_expected, variance = np.array(sums).reshape(-1, 5).T
    excess, known = observed - expected, variance > 0
    nothing = np.full(variance.shape, np.nan)
    log_ratio = np.divide(excess, variance, out=nothing.copy(), where=known)
    chi2 = log_ratio * excess
    half = -ndtri(0.025) / np.sqrt(np.where(known, variance, np.nan))
    both = (other > 0) & (expected > 0) & (other_expected > 0)
    pike = np.divide(observed * other_expected, expected * other, out=nothing, where=both)
    columns = {
        "observed": observed,
        "expected": expected,
        "observed_reference": other,
        "expected_reference": other_expected,
        "variance": variance,
        "chi2": chi2,
        "p_value": chdtrc(1.0, chi2),
        "peto_odds_ratio": np.exp(log_ratio),
        "peto_lower": np.exp(log_ratio - half),
        "peto_upper": np.exp(log_ratio + half),
        "pike_odds_ratio": pike,
    }
    return xr.Dataset(
        {name: ("endpoint", values) for name, values in columns.items()},
        coords={"endpoint": list(comparison.episodes)},
        attrs={"note": LABEL, "synthetic": int(comparison.cohort.synthetic)},
    )


def _excess(episodes: Episodes, exposed: Bools, reference: Bools) -> Floats:
    """Sum observed and expected events of both groups, and the variance, over event times."""
    times = np.unique(episodes.stop[episodes.event & (exposed | reference)])
    groups = (exposed, reference)
    at_risk = [count_at_risk(episodes.start[rows], episodes.stop[rows], times) for rows in groups]
    events = [count_events(episodes.stop[episodes.event & rows], times) for rows in groups]
    n, d = at_risk[0] + at_risk[1], events[0] + events[1]
    share = at_risk[0] / n
    rest = np.divide(n - d, n - 1, out=np.zeros(n.size), where=n > 1)
    variance = (d * share * (1 - share) * rest).sum()
    return np.array(
        [events[0].sum(), (d * share).sum(), events[1].sum(), (d * (1 - share)).sum(), variance]
    )
