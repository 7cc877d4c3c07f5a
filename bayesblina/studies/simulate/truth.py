"""What generates the synthetic study: smooth hazards of an illness-death course, and what follows.

A synthetic patient who reaches remission leaves it by a relapse or by a death, and dies after a
relapse. Months count from the first dose, ``x`` are the covariates, and ``m(t)`` is 1 from the
start of maintenance on:

- without remission, death has hazard ``h_n(t) exp(x'g_n)``;
- remission ends at hazard ``h_r(t) exp(x'g_r + b_r m(t))``, and is ended by a death with
  probability ``q(x)``, by a relapse otherwise. Maintenance acts on both alike, so that relapse-free
  survival is exactly proportional in it, with log hazard ratio ``b_r``;
- after a relapse in month ``r``, death has hazard
  ``h_a(t) exp(x'g_a + d log2(r / 6) + b_a m(t) + s z(t))``, where ``z(t)`` is 1 from a second
  remission on, which comes at a constant hazard. With ``d`` below 0 those who relapse late live
  longer. A second relapse is not told apart: it is part of ``exp(s)``.

**Overall survival is not proportional.** Its hazard jumps when a patient relapses, and what
maintenance does to it is a mixture, which changes with time, of relapses put off and of longer life
after them. `Truth.survival` integrates it. **Relapse confounds the comparison of overall
survival**: treatment starts in remission, whereas comparators who have relapsed stay at risk of
death and not maintained. A time-varying hazard ratio of overall survival therefore converges to
less than a trial would find; ``docs/validation/synthetic_study.md`` says how much less.
`Truth.without_confounding` makes death independent of relapse, so that both are exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.core.errors import SpecError
from bayesblina.core.piecewise import LogLinearHazard, finite, named, numbers
from bayesblina.studies.simulate import integrals
from bayesblina.studies.simulate import parameters as fixed

__all__ = ["LogLinearHazard", "Truth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What generates a synthetic study; enough to compute its true survival curves.

    Baseline hazards are those of a patient aged 18-34 without prior salvage therapy, with 50
    percent marrow blasts, not maintained and not transplanted. States are ``"no_remission"``,
    ``"in_remission"`` and ``"after_relapse"``. Mappings become read-only.

    Parameters
    ----------
    maintenance_log_hazard_ratio
        From the start of maintenance on against before it, for ``"in_remission"`` (of relapse and
        of death alike) and ``"after_relapse"`` (of death, in those maintained before or after it).
    covariate_log_hazard_ratios
        For every state: one log hazard ratio per term (``"age_group[35-54]"``,
        ``"age_group[55+]"``, ``"prior_salvage[yes]"``, and ``"marrow_blasts"`` per percentage
        point above 50).
    baseline
        For every state, hazard per month of leaving it: by death without remission, by relapse or
        death in remission, by death after relapse. The last is that after a relapse in month 6.
    death_in_remission_log_odds
        Log odds that what ends a remission is a death and no relapse: ``"intercept"``, the
        covariate terms, and ``"transplant"`` for patients transplanted in this remission.
    late_relapse_log_hazard_ratio
        Of death after relapse, for each doubling of the month of relapse.
    second_remission_hazard
        Second remissions per month after relapse; 0 for none.
    second_remission_log_hazard_ratio
        Of death after relapse, in second remission against before it.
    transplant_log_hazard_ratio
        From a transplant on: of leaving remission if it was done ``"in_remission"``, of death if
        ``"after_relapse"``. A transplant in remission does not change what follows a relapse.
    transplant_hazard
        First transplants per month ``"in_remission"``, and in second remission
        (``"after_relapse"``), while not being maintained; 0 for none.
    retreated_share
        Shares of the places in ``"consolidation"``, and of those in ``"maintenance"``, that go to
        patients in second remission, as far as there are any; below 1, 0 for none.
    remission_log_odds
        Log odds of being a responder: ``"intercept"`` and the covariate terms.
    follow_up
        Shortest and longest potential follow-up in months; uniform, as accrual is.

    Raises
    ------
    SpecError
        If a mapping lacks a name or holds an unknown one, or a number is out of its range.

    Examples
    --------
    A study in which maintenance does nothing:

    >>> null = Truth(maintenance_log_hazard_ratio={"in_remission": 0.0, "after_relapse": 0.0})
    >>> abs(null.log_hazard_ratio["os"]) < 1e-9
    True
    """

    maintenance_log_hazard_ratio: Mapping[str, float] = fixed.MAINTENANCE
    covariate_log_hazard_ratios: Mapping[str, Mapping[str, float]] = (
        fixed.COVARIATE_LOG_HAZARD_RATIOS
    )
    baseline: Mapping[str, LogLinearHazard] = fixed.BASELINE
    death_in_remission_log_odds: Mapping[str, float] = fixed.DEATH_LOG_ODDS
    late_relapse_log_hazard_ratio: float = -0.47
    second_remission_hazard: float = 0.075
    second_remission_log_hazard_ratio: float = float(np.log(0.40))
    transplant_log_hazard_ratio: Mapping[str, float] = fixed.TRANSPLANT
    transplant_hazard: Mapping[str, float] = fixed.TRANSPLANT_HAZARD
    retreated_share: Mapping[str, float] = fixed.RETREATED
    remission_log_odds: Mapping[str, float] = fixed.REMISSION_LOG_ODDS
    follow_up: tuple[float, float] = (12.0, 36.0)

    def __post_init__(self) -> None:
        baseline = named("baseline", self.baseline, fixed.STATES)
        for state, hazard in baseline.items():
            if not isinstance(hazard, LogLinearHazard):
                raise SpecError(f"baseline['{state}'] must be a LogLinearHazard, got {hazard!r}.")
        by_state = named(
            "covariate_log_hazard_ratios", self.covariate_log_hazard_ratios, fixed.STATES
        )
        checked: dict[str, Any] = {
            "covariate_log_hazard_ratios": MappingProxyType(
                {
                    state: numbers(f"covariate_log_hazard_ratios['{state}']", terms, fixed.TERMS)
                    for state, terms in by_state.items()
                }
            ),
            "baseline": MappingProxyType(baseline),
            **{name: numbers(name, getattr(self, name), keys) for name, keys in fixed.KEYS.items()},
            **{name: finite(name, [getattr(self, name)])[0] for name in fixed.PLAIN},
            "follow_up": finite("follow_up", self.follow_up),
        }
        for name in ("transplant_hazard", "second_remission_hazard", "retreated_share"):
            given = checked[name]
            least = min(given.values()) if isinstance(given, Mapping) else given
            if least < 0:
                raise SpecError(f"{name} must be at least 0, got {least!r}.")
        largest = max(checked["retreated_share"].values())
        if largest >= 1:
            raise SpecError(f"retreated_share must be below 1, got {largest!r}.")
        follow_up = checked["follow_up"]
        if len(follow_up) != 2 or not fixed.REMISSION_RANGE[1] < follow_up[0] <= follow_up[1]:
            raise SpecError(
                "follow_up must be a shortest and a longest time in months, after the last "
                f"possible remission at {fixed.REMISSION_RANGE[1]:g}, got {follow_up!r}."
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def without_confounding(
        cls,
        *,
        log_hazard_ratio: float = fixed.MAINTENANCE["in_remission"],
        death_share: float = 0.5,
    ) -> Truth:
        """Make a truth in which a relapse changes nothing for death.

        The hazard of death is the same before and after a relapse, a fixed share of that of ending
        a remission, and maintenance multiplies all hazards by one ratio. So overall survival is
        exactly proportional in maintenance and in the covariates, nothing confounds its
        comparison, and `log_hazard_ratio` is exact for both endpoints. That is no course of
        leukaemia: about half of the remissions end in death. It is for measuring methods.
        Relapse-free survival is that of the default truth, but for its maintenance ratio.

        Parameters
        ----------
        log_hazard_ratio
            Of maintenance, for both endpoints.
        death_share
            Share of deaths among the ends of a remission, between 0 and 1.

        Returns
        -------
        Truth
            All else is as by default.

        Raises
        ------
        SpecError
            If the share is not between 0 and 1, or the log hazard ratio not finite.

        Examples
        --------
        >>> truth = Truth.without_confounding(log_hazard_ratio=-0.5)
        >>> {name: round(value, 4) for name, value in truth.log_hazard_ratio.items()}
        {'os': -0.5, 'rfs': -0.5}
        """
        (share,) = finite("death_share", [death_share])
        if not 0 < share < 1:
            raise SpecError(f"death_share must lie between 0 and 1, got {death_share!r}.")
        covariates = fixed.COVARIATE_LOG_HAZARD_RATIOS
        return cls(
            maintenance_log_hazard_ratio=dict.fromkeys(fixed.TREATED, log_hazard_ratio),
            covariate_log_hazard_ratios={**covariates, "after_relapse": covariates["in_remission"]},
            baseline={
                **fixed.BASELINE,
                "after_relapse": fixed.BASELINE["in_remission"].scaled(share),
            },
            death_in_remission_log_odds={
                **dict.fromkeys(fixed.DEATH_LOG_ODDS, 0.0),
                "intercept": float(np.log(share / (1.0 - share))),
            },
            late_relapse_log_hazard_ratio=0.0,
            second_remission_log_hazard_ratio=0.0,
            transplant_log_hazard_ratio=dict.fromkeys(
                fixed.TREATED, fixed.TRANSPLANT["in_remission"]
            ),
        )

    @property
    def log_hazard_ratio(self) -> Mapping[str, float]:
        """Maintenance against none, by endpoint, in patients with equal covariates.

        Of ``"rfs"`` it is exact at all times. Overall survival has no constant ratio. Its value
        under ``"os"`` is what Cox's regression, stratified by the covariates, would find in a very
        large trial: patients who are in remission at month 8 are randomised to maintenance from
        then on or to none, nobody is transplanted, and follow-up ends as in the study. It is
        integrated, not simulated, and exact where overall survival is proportional.

        Raises
        ------
        SpecError
            If follow-up ends before month 8.
        """
        ratio = _trial_log_hazard_ratio(json.dumps(self.as_dict()))
        return MappingProxyType(
            {"os": ratio, "rfs": self.maintenance_log_hazard_ratio["in_remission"]}
        )

    @property
    def transition_log_hazard_ratio(self) -> Mapping[str, float]:
        """Maintenance against none, by transition as the model `illness_death` names them."""
        before, after = (self.maintenance_log_hazard_ratio[state] for state in fixed.TREATED)
        return MappingProxyType(
            {RELAPSE: before, DEATH_IN_REMISSION: before, DEATH_AFTER_RELAPSE: after}
        )

    def cumulative_hazard(
        self,
        table: pd.DataFrame,
        times: ArrayLike,
        *,
        maintenance_start: float = np.inf,
    ) -> Floats:
        """Cumulative hazard of relapse or death in remission, from the first dose, no transplant.

        Relapse-free survival from a landmark L to t is ``exp(-(H(t) - H(L)))``.

        Parameters
        ----------
        table
            Columns ``age_group``, ``prior_salvage`` and ``marrow_blasts``.
        times : array_like, shape (time,)
            Months from the first dose.
        maintenance_start
            Month from which maintenance is given; by default never.

        Returns
        -------
        ndarray, shape (patient, time)
            Cumulative hazards.
        """
        at = np.asarray(times, float)
        baseline = self.baseline["in_remission"]
        before = baseline.cumulative(np.minimum(at, maintenance_start))
        ratio = np.exp(self.maintenance_log_hazard_ratio["in_remission"])
        total = before + ratio * (baseline.cumulative(at) - before)
        return np.asarray(
            self.relative_hazard("in_remission", fixed.design(table))[:, None] * total
        )

    def survival(
        self,
        endpoint: str,
        table: pd.DataFrame,
        times: ArrayLike,
        *,
        landmark: float,
        maintenance_start: float = np.inf,
    ) -> Floats:
        """Survival of patients who are in remission at a landmark and never transplanted.

        Parameters
        ----------
        endpoint
            ``"os"`` or ``"rfs"``.
        table, times, landmark, maintenance_start
            As for `state_occupancy`.

        Returns
        -------
        ndarray, shape (patient, time)
            Probability of being alive, or alive and without relapse.

        Raises
        ------
        SpecError
            If there is no such endpoint, or a time lies before the landmark.
        """
        if endpoint not in fixed.ENDPOINTS:
            raise SpecError(f"unknown endpoint '{endpoint}': expected one of os, rfs.")
        occupied = self.state_occupancy(
            table, times, landmark=landmark, maintenance_start=maintenance_start
        )
        return occupied[..., 0] if endpoint == "rfs" else occupied[..., :2].sum(axis=-1)

    def state_occupancy(
        self,
        table: pd.DataFrame,
        times: ArrayLike,
        *,
        landmark: float,
        maintenance_start: float = np.inf,
    ) -> Floats:
        """Where patients are who are in remission at a landmark and never transplanted.

        Maintenance starts in those who are still in remission; who has relapsed before is not
        maintained. It is integrated over the month of relapse, in steps of at most 0.1 months.

        Parameters
        ----------
        table
            Columns ``age_group``, ``prior_salvage`` and ``marrow_blasts``.
        times : array_like, shape (time,)
            Months from the first dose, none before the landmark.
        landmark
            Month at which patients are in remission.
        maintenance_start
            Month from which maintenance is given; by default never.

        Returns
        -------
        ndarray, shape (patient, time, 4)
            Probabilities of the states of `bayesblina.state_occupancy`: in remission, alive after
            relapse, dead in remission, dead after relapse.

        Raises
        ------
        SpecError
            If a time lies before the landmark.

        Examples
        --------
        >>> patient = pd.DataFrame(
        ...     {"age_group": ["18-34"], "prior_salvage": ["no"], "marrow_blasts": [50.0]}
        ... )
        >>> occupied = Truth().state_occupancy(patient, [8.0, 24.0], landmark=8.0)
        >>> occupied.sum(axis=-1).round(9).tolist()
        [[1.0, 1.0]]
        """
        at = np.asarray(times, float)
        if not (at >= landmark).all() or not np.isfinite(at).all():
            raise SpecError(f"times must be finite and not before the landmark at {landmark:g}.")
        grid = integrals.fine_grid(np.append(at, landmark), maintenance_start)
        total = self.cumulative_hazard(table, grid, maintenance_start=maintenance_start)
        remains = np.exp(-(total - total[:, :1]))
        terms = fixed.design(table)
        share = self.death_share(terms)[:, None]
        relapses = -np.diff(remains, axis=1) * (1.0 - share)
        middle = (grid[:-1] + grid[1:]) / 2.0
        after = integrals.alive_after_relapse(
            grid,
            relapses,
            self.after_relapse(terms[:, None], middle, maintained=middle > maintenance_start),
            self.baseline["after_relapse"],
            second_remission_hazard=self.second_remission_hazard,
            log_hazard_ratio=self.second_remission_log_hazard_ratio,
        )
        relapsed = np.concatenate([np.zeros((len(table), 1)), np.cumsum(relapses, axis=1)], axis=1)
        states = np.stack([remains, after, share * (1.0 - remains), relapsed - after], axis=-1)
        return states[:, np.searchsorted(grid, at)]

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, as plain values that JSON knows, which `from_dict` reads."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        } | {
            "covariate_log_hazard_ratios": {
                state: dict(terms) for state, terms in self.covariate_log_hazard_ratios.items()
            },
            "baseline": {
                state: {"knots": list(hazard.knots), "hazards": list(hazard.hazards)}
                for state, hazard in self.baseline.items()
            },
            "follow_up": list(self.follow_up),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Truth:
        """Make a truth from what `as_dict` gave.

        Raises
        ------
        SpecError
            If a name is missing or unknown, or a value is impossible.

        Examples
        --------
        >>> Truth.from_dict(Truth().as_dict()) == Truth()
        True
        """
        kept = named("truth", values, tuple(item.name for item in fields(cls)))
        kept["baseline"] = {
            state: LogLinearHazard(**named(f"baseline['{state}']", hazard, ("knots", "hazards")))
            for state, hazard in named("baseline", kept["baseline"], fixed.STATES).items()
        }
        return cls(**kept)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and send between processes through plain values: read-only mappings refuse."""
        return (Truth.from_dict, (self.as_dict(),))

    def relative_hazard(self, state: str, terms: Floats) -> Floats:
        """Hazard of leaving a state against the baseline patient's, by `design`'s terms."""
        return np.asarray(np.exp(_weighed(terms, self.covariate_log_hazard_ratios[state])))

    def after_relapse(self, terms: Floats, month: Floats, *, maintained: ArrayLike) -> Floats:
        """Hazard of death after a relapse in a month, before a second remission, relative."""
        late = self.late_relapse_log_hazard_ratio * np.log2(month / fixed.USUAL_RELAPSE)
        ratio = self.maintenance_log_hazard_ratio["after_relapse"]
        return np.asarray(
            self.relative_hazard("after_relapse", terms)
            * np.exp(late + ratio * np.asarray(maintained, float))
        )

    def death_share(self, terms: Floats, *, transplanted: ArrayLike = False) -> Floats:
        """Probability that what ends a remission is a death, by `design`'s terms."""
        odds = self.death_in_remission_log_odds
        return _expit(
            odds["intercept"]
            + _weighed(terms, odds)
            + odds["transplant"] * np.asarray(transplanted, float)
        )

    def remission_share(self, terms: Floats) -> Floats:
        """Probability of being a responder, by `design`'s terms."""
        odds = self.remission_log_odds
        return _expit(odds["intercept"] + _weighed(terms, odds))


def _weighed(terms: Floats, coefficients: Mapping[str, float]) -> Floats:
    """Sum up covariate terms by their coefficients."""
    return np.asarray(terms @ np.array([coefficients[term] for term in fixed.TERMS]))


def _expit(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))


def _population(truth: Truth, month: float) -> tuple[pd.DataFrame, Floats]:
    """Patterns of covariates, and the share of each among those in remission at a month."""
    table, share = fixed.patterns()
    terms = fixed.design(table)
    begun = np.linspace(*fixed.REMISSION_RANGE, 15)
    baseline = truth.baseline["in_remission"]
    left = baseline.cumulative(month) - baseline.cumulative(begun)
    gone = {"no_remission": truth.baseline["no_remission"].cumulative(begun), "in_remission": left}
    early, late = (
        truth.relative_hazard(state, terms)[:, None] * cumulative
        for state, cumulative in gone.items()
    )
    share = share * truth.remission_share(terms) * np.exp(-early - late).mean(axis=1)
    return table, share / share.sum()


@lru_cache(maxsize=64)
def _trial_log_hazard_ratio(values: str) -> float:
    """Integrate the trial that `Truth.log_hazard_ratio` describes."""
    truth = Truth.from_dict(json.loads(values))
    shortest, longest = truth.follow_up
    begin = fixed.RANDOMISED
    if longest <= begin:
        raise SpecError(
            f"The log hazard ratio of overall survival is that of a trial from month "
            f"{begin:g} on, but follow-up ends at {longest:g}."
        )
    table, share = _population(truth, begin)
    times = np.linspace(begin, longest, 1 + int(np.ceil((longest - begin) / integrals.STEP)))
    middle = (times[:-1] + times[1:]) / 2.0
    followed = (
        np.clip((longest - middle) / (longest - shortest), 0.0, 1.0)
        if longest > shortest
        else np.ones(middle.size)
    )
    treated, untreated = (
        truth.survival("os", table, times, landmark=begin, maintenance_start=start)
        for start in (begin, np.inf)
    )
    return integrals.trial_log_hazard_ratio(treated, untreated, followed, share)
