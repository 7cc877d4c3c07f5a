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
from itertools import pairwise, product
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.core.errors import SpecError
from bayesblina.core.log_linear_hazard import LogLinearHazard, finite, named, numbers, over_argument

# Baseline covariates: levels with their shares, and marrow blasts in percent, a stretched beta.
AGE_GROUPS = {"18-34": 0.45, "35-54": 0.29, "55+": 0.26}
PRIOR_SALVAGE = {"no": 0.45, "yes": 0.55}
BLASTS_RANGE = (5.0, 100.0)
BLASTS_SHAPE = (2.0, 1.0)
BLASTS_CENTRE = 50.0
TERMS = ("age_group[35-54]", "age_group[55+]", "prior_salvage[yes]", "marrow_blasts")

# Months. Candidate remission is uniform in a range.
REMISSION_RANGE = (0.9, 2.3)

ENDPOINTS = ("os", "rfs")
TREATED = ("in_remission", "after_relapse")
PHASES = ("consolidation", "maintenance")
STATES = ("no_remission", *TREATED)
# The month of relapse at which the baseline hazard after relapse is that of `Truth.baseline`.
USUAL_RELAPSE = 6.0
# Months from the first dose at which the trial of `Truth.log_hazard_ratio` randomises.
RANDOMISED = 8.0
# Longest step, in months, of the integrals over the month of relapse.
STEP = 0.1


# Calibrated: `docs/validation/synthetic_study.md` shows what these defaults give.
MAINTENANCE = MappingProxyType(
    {"in_remission": float(np.log(0.70)), "after_relapse": float(np.log(0.60))}
)
BASELINE = MappingProxyType(
    {
        "no_remission": LogLinearHazard(
            knots=(0.0, 2.0, 8.0, 14.0), hazards=(0.062, 0.125, 0.120, 0.075)
        ),
        "in_remission": LogLinearHazard(
            knots=(1.0, 3.0, 6.0, 12.0, 24.0), hazards=(0.032, 0.048, 0.073, 0.097, 0.025)
        ),
        "after_relapse": LogLinearHazard(knots=(0.0,), hazards=(0.105,)),
    }
)
COVARIATE_LOG_HAZARD_RATIOS = MappingProxyType(
    {
        state: MappingProxyType(dict(zip(TERMS, np.log(ratios).tolist(), strict=True)))
        for state, ratios in {
            "no_remission": (1.15, 1.50, 1.20, 1.004),
            "in_remission": (1.10, 1.30, 1.35, 1.005),
            "after_relapse": (1.10, 1.40, 1.30, 1.003),
        }.items()
    }
)
REMISSION_LOG_ODDS = MappingProxyType(
    dict(zip(("intercept", *TERMS), (0.50, 0.0, 0.10, -0.40, -0.010), strict=True))
)
DEATH_LOG_ODDS = MappingProxyType(
    dict(zip(("intercept", *TERMS, "transplant"), (-2.35, 0.2, 0.6, 0.1, 0.0, 1.9), strict=True))
)
TRANSPLANT = MappingProxyType(
    {"in_remission": float(np.log(0.85)), "after_relapse": float(np.log(0.60))}
)
# The trial's maintenance was for those in continued remission.
RETREATED = MappingProxyType({"consolidation": 0.05, "maintenance": 0.0})
TRANSPLANT_HAZARD = MappingProxyType({"in_remission": 0.030, "after_relapse": 0.060})


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

    maintenance_log_hazard_ratio: Mapping[str, float] = MAINTENANCE
    covariate_log_hazard_ratios: Mapping[str, Mapping[str, float]] = COVARIATE_LOG_HAZARD_RATIOS
    baseline: Mapping[str, LogLinearHazard] = BASELINE
    death_in_remission_log_odds: Mapping[str, float] = DEATH_LOG_ODDS
    late_relapse_log_hazard_ratio: float = -0.47
    second_remission_hazard: float = 0.075
    second_remission_log_hazard_ratio: float = float(np.log(0.40))
    transplant_log_hazard_ratio: Mapping[str, float] = TRANSPLANT
    transplant_hazard: Mapping[str, float] = TRANSPLANT_HAZARD
    retreated_share: Mapping[str, float] = RETREATED
    remission_log_odds: Mapping[str, float] = REMISSION_LOG_ODDS
    follow_up: tuple[float, float] = (12.0, 36.0)

    def __post_init__(self) -> None:
        baseline = named("baseline", self.baseline, STATES)
        for state, hazard in baseline.items():
            if not isinstance(hazard, LogLinearHazard):
                raise SpecError(f"baseline['{state}'] must be a LogLinearHazard, got {hazard!r}.")
        covariates = {
            state: numbers(f"covariate_log_hazard_ratios['{state}']", terms, TERMS)
            for state, terms in named(
                "covariate_log_hazard_ratios", self.covariate_log_hazard_ratios, STATES
            ).items()
        }
        checked: dict[str, Any] = {
            "covariate_log_hazard_ratios": MappingProxyType(covariates),
            "baseline": MappingProxyType(baseline),
        }
        for name, expected in (
            ("maintenance_log_hazard_ratio", TREATED),
            ("death_in_remission_log_odds", ("intercept", *TERMS, "transplant")),
            ("transplant_log_hazard_ratio", TREATED),
            ("transplant_hazard", TREATED),
            ("retreated_share", PHASES),
            ("remission_log_odds", ("intercept", *TERMS)),
        ):
            checked[name] = numbers(name, getattr(self, name), expected)
        for name in (
            "late_relapse_log_hazard_ratio",
            "second_remission_hazard",
            "second_remission_log_hazard_ratio",
        ):
            (checked[name],) = finite(name, [getattr(self, name)])
        for name, least in (
            ("transplant_hazard", min(checked["transplant_hazard"].values())),
            ("second_remission_hazard", checked["second_remission_hazard"]),
            ("retreated_share", min(checked["retreated_share"].values())),
        ):
            if least < 0:
                raise SpecError(f"{name} must be at least 0, got {least!r}.")
        largest = max(checked["retreated_share"].values())
        if largest >= 1:
            raise SpecError(f"retreated_share must be below 1, got {largest!r}.")
        follow_up = finite("follow_up", self.follow_up)
        if len(follow_up) != 2 or not REMISSION_RANGE[1] < follow_up[0] <= follow_up[1]:
            raise SpecError(
                "follow_up must be a shortest and a longest time in months, after the last "
                f"possible remission at {REMISSION_RANGE[1]:g}, got {follow_up!r}."
            )
        for name, value in {**checked, "follow_up": follow_up}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def without_confounding(
        cls, *, log_hazard_ratio: float = MAINTENANCE["in_remission"], death_share: float = 0.5
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
        covariates = COVARIATE_LOG_HAZARD_RATIOS
        transplant = TRANSPLANT["in_remission"]
        return cls(
            maintenance_log_hazard_ratio=dict.fromkeys(TREATED, log_hazard_ratio),
            covariate_log_hazard_ratios={**covariates, "after_relapse": covariates["in_remission"]},
            baseline={**BASELINE, "after_relapse": BASELINE["in_remission"].scaled(share)},
            death_in_remission_log_odds={
                **dict.fromkeys(DEATH_LOG_ODDS, 0.0),
                "intercept": float(np.log(share / (1.0 - share))),
            },
            late_relapse_log_hazard_ratio=0.0,
            second_remission_log_hazard_ratio=0.0,
            transplant_log_hazard_ratio=dict.fromkeys(TREATED, transplant),
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
        before, after = (self.maintenance_log_hazard_ratio[state] for state in TREATED)
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

        Examples
        --------
        >>> truth = Truth()
        >>> patient = pd.DataFrame(
        ...     {"age_group": ["18-34"], "prior_salvage": ["no"], "marrow_blasts": [50.0]}
        ... )
        >>> untreated, treated = (
        ...     truth.cumulative_hazard(patient, [12.0], maintenance_start=s)[0, 0]
        ...     for s in (np.inf, 6.0)
        ... )
        >>> bool(treated < untreated)
        True
        """
        at = np.asarray(times, float)
        baseline = self.baseline["in_remission"]
        before = baseline.cumulative(np.minimum(at, maintenance_start))
        ratio = np.exp(self.maintenance_log_hazard_ratio["in_remission"])
        total = before + ratio * (baseline.cumulative(at) - before)
        return np.asarray(self.relative_hazard("in_remission", design(table))[:, None] * total)

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

        Examples
        --------
        >>> truth = Truth()
        >>> patient = pd.DataFrame(
        ...     {"age_group": ["18-34"], "prior_salvage": ["no"], "marrow_blasts": [50.0]}
        ... )
        >>> alive, relapse_free = (
        ...     truth.survival(endpoint, patient, [24.0], landmark=8.0)[0, 0]
        ...     for endpoint in ("os", "rfs")
        ... )
        >>> bool(alive > relapse_free)
        True
        """
        if endpoint not in ENDPOINTS:
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
        grid = _fine(np.append(at, landmark), maintenance_start)
        total = self.cumulative_hazard(table, grid, maintenance_start=maintenance_start)
        remains = np.exp(-(total - total[:, :1]))
        share = self.death_share(design(table))[:, None]
        relapses = -np.diff(remains, axis=1) * (1.0 - share)
        after = self._alive_after_relapse(design(table), relapses, grid, maintenance_start)
        relapsed = np.concatenate([np.zeros((len(table), 1)), np.cumsum(relapses, axis=1)], axis=1)
        states = np.stack([remains, after, share * (1.0 - remains), relapsed - after], axis=-1)
        return states[:, np.searchsorted(grid, at)]

    def _alive_after_relapse(
        self, terms: Floats, relapses: Floats, grid: Floats, maintenance_start: float
    ) -> Floats:
        """Probability of being alive after a relapse at each time of a grid, by patient.

        Those who relapse within a step do so in its middle. Within a step the hazard is its mean,
        for which first and second remission after relapse have exact probabilities.
        """
        middle = (grid[:-1] + grid[1:]) / 2.0
        relative = self.after_relapse(terms[:, None], middle, maintained=middle > maintenance_start)
        reached = self.baseline["after_relapse"].cumulative(grid)
        halfway = self.baseline["after_relapse"].cumulative(middle)
        first, second = np.zeros_like(relapses), np.zeros_like(relapses)
        alive = np.zeros((relapses.shape[0], grid.size))
        for step, length in enumerate(np.diff(grid)):
            old, new = slice(0, step), slice(step, step + 1)
            first[:, new] = relapses[:, new]
            for which, months, hazard in (
                (old, length, reached[step + 1] - reached[step]),
                (new, length / 2.0, reached[step + 1] - halfway[step]),
            ):
                stays, moves, lives = self._step_after_relapse(relative[:, which] * hazard, months)
                second[:, which] = second[:, which] * lives + first[:, which] * moves
                first[:, which] *= stays
            alive[:, step + 1] = (first[:, : step + 1] + second[:, : step + 1]).sum(axis=1)
        return alive

    def _step_after_relapse(self, dying: Floats, months: float) -> tuple[Floats, Floats, Floats]:
        """Probabilities of a step at constant hazards, `dying` being that of death, cumulative.

        To stay alive before a second remission; to come into it and live; to stay alive in it.
        """
        entering = self.second_remission_hazard * months
        lives = np.exp(-np.exp(self.second_remission_log_hazard_ratio) * dying)
        gap = -np.expm1(self.second_remission_log_hazard_ratio) * dying + entering
        return np.exp(-dying - entering), entering * lives * over_argument(-gap, np.expm1), lives

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, as plain values that JSON knows.

        Returns
        -------
        dict
            What `from_dict` reads.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }
        return plain | {
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

        Parameters
        ----------
        values
            All fields by name.

        Returns
        -------
        Truth
            Equal to the one that `as_dict` was called on.

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
            for state, hazard in named("baseline", kept["baseline"], STATES).items()
        }
        return cls(**kept)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and send between processes through plain values: read-only mappings refuse."""
        return (Truth.from_dict, (self.as_dict(),))

    def relative_hazard(self, state: str, terms: Floats) -> Floats:
        """Hazard of leaving a state relative to the baseline patient's.

        Parameters
        ----------
        state
            ``"no_remission"``, ``"in_remission"`` or ``"after_relapse"``.
        terms : ndarray, shape (..., term)
            As `design` gives them.

        Returns
        -------
        ndarray, shape (...)
            Ratios.
        """
        ratios = self.covariate_log_hazard_ratios[state]
        return np.asarray(np.exp(terms @ np.array([ratios[term] for term in TERMS])))

    def after_relapse(self, terms: Floats, month: Floats, *, maintained: ArrayLike) -> Floats:
        """Hazard of death after a relapse, before a second remission, relative to the baseline.

        Parameters
        ----------
        terms : ndarray, shape (..., term)
            As `design` gives them.
        month : ndarray
            Month of relapse.
        maintained : array_like of bool
            Whether maintenance had started.

        Returns
        -------
        ndarray
            Ratios, of the shape in which the three agree.
        """
        late = self.late_relapse_log_hazard_ratio * np.log2(month / USUAL_RELAPSE)
        ratio = self.maintenance_log_hazard_ratio["after_relapse"]
        return np.asarray(
            self.relative_hazard("after_relapse", terms)
            * np.exp(late + ratio * np.asarray(maintained, float))
        )

    def death_share(self, terms: Floats, *, transplanted: ArrayLike = False) -> Floats:
        """Probability that what ends a remission is a death.

        Parameters
        ----------
        terms : ndarray, shape (..., term)
            As `design` gives them.
        transplanted : array_like of bool
            Whether the patient has been transplanted in this remission.

        Returns
        -------
        ndarray, shape (...)
            Probabilities.
        """
        odds = self.death_in_remission_log_odds
        return _expit(
            odds["intercept"]
            + terms @ np.array([odds[term] for term in TERMS])
            + odds["transplant"] * np.asarray(transplanted, float)
        )

    def remission_share(self, terms: Floats) -> Floats:
        """Probability of being a responder.

        Parameters
        ----------
        terms : ndarray, shape (..., term)
            As `design` gives them.

        Returns
        -------
        ndarray, shape (...)
            Probabilities.
        """
        odds = self.remission_log_odds
        return _expit(odds["intercept"] + terms @ np.array([odds[term] for term in TERMS]))


def design(table: pd.DataFrame) -> Floats:
    """Lay out the covariate terms of each patient.

    Returns
    -------
    ndarray, shape (patient, term)
        Terms as `Truth` names them.
    """
    age = table["age_group"].to_numpy()
    return np.column_stack(
        [
            age == "35-54",
            age == "55+",
            table["prior_salvage"].to_numpy() == "yes",
            table["marrow_blasts"].to_numpy(float) - BLASTS_CENTRE,
        ]
    ).astype(float)


def _expit(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))


def _fine(times: Floats, maintenance_start: float) -> Floats:
    """Make a grid from the first to the last time with all of them, in steps of at most `STEP`."""
    low, high = times.min(), times.max()
    marks = np.unique(np.append(times, np.clip(maintenance_start, low, high)))
    parts = [
        np.linspace(begin, end, int(np.ceil((end - begin) / STEP)) + 1)[1:]
        for begin, end in pairwise(marks)
    ]
    return np.concatenate([marks[:1], *parts])


def _population(truth: Truth, month: float) -> tuple[pd.DataFrame, Floats]:
    """Patterns of covariates, and the share of each among those in remission at a month."""
    quantiles = (np.arange(8) + 0.5) / 8
    # Marrow blasts: quantiles of the beta distribution with shape (2, 1), the square root.
    blasts = BLASTS_RANGE[0] + (BLASTS_RANGE[1] - BLASTS_RANGE[0]) * np.sqrt(quantiles)
    rows = list(product(AGE_GROUPS, PRIOR_SALVAGE, blasts))
    table = pd.DataFrame(rows, columns=["age_group", "prior_salvage", "marrow_blasts"])
    terms = design(table)
    begun = np.linspace(*REMISSION_RANGE, 15)
    early, left = (
        truth.relative_hazard(state, terms)[:, None] * cumulative
        for state, cumulative in (
            ("no_remission", truth.baseline["no_remission"].cumulative(begun)),
            (
                "in_remission",
                truth.baseline["in_remission"].cumulative(month)
                - truth.baseline["in_remission"].cumulative(begun),
            ),
        )
    )
    drawn = [AGE_GROUPS[age] * PRIOR_SALVAGE[salvage] for age, salvage, _ in rows]
    share = np.array(drawn) * truth.remission_share(terms) * np.exp(-early - left).mean(axis=1)
    return table, share / share.sum()


@lru_cache(maxsize=64)
def _trial_log_hazard_ratio(values: str) -> float:
    """Solve the score equation of the trial that `Truth.log_hazard_ratio` describes."""
    truth = Truth.from_dict(json.loads(values))
    shortest, longest = truth.follow_up
    if longest <= RANDOMISED:
        raise SpecError(
            f"The log hazard ratio of overall survival is that of a trial from month "
            f"{RANDOMISED:g} on, but follow-up ends at {longest:g}."
        )
    table, share = _population(truth, RANDOMISED)
    times = np.linspace(RANDOMISED, longest, 1 + int(np.ceil((longest - RANDOMISED) / STEP)))
    middle = (times[:-1] + times[1:]) / 2.0
    followed = np.ones(middle.size)
    if longest > shortest:
        followed = np.clip((longest - middle) / (longest - shortest), 0.0, 1.0)
    treated, untreated = (
        truth.survival("os", table, times, landmark=RANDOMISED, maintenance_start=start)
        for start in (RANDOMISED, np.inf)
    )
    dying = [-np.diff(one, axis=1) for one in (treated, untreated)]
    at_risk = [(one[:, :-1] + one[:, 1:]) / 2.0 for one in (treated, untreated)]

    def score(ratio: float) -> float:
        exposed = np.exp(ratio) * at_risk[0]
        terms = dying[0] - (dying[0] + dying[1]) * exposed / (exposed + at_risk[1])
        return float(share @ (terms @ followed))

    return float(brentq(score, -20.0, 20.0, xtol=1e-13))
