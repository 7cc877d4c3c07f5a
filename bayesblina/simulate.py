"""Synthetic cohorts with a known truth: nothing in here is, or stems from, patient data.

`blinatumomab_cohort` draws a study shaped like the published blinatumomab arm of NCT02013167
(Blood Advances 2020;4(7):1518). The numbers of patients per treatment phase are exactly the
published ones, and the Simon-Makuch medians are calibrated to the published medians, for patients
who reached consolidation, from its start, with transplant censored
(``docs/validation/synthetic_study.md``). The true log hazard ratios come with it.

How a patient is made (time in months from the first dose):

1. Until remission everybody dies at the ``"no_remission"`` hazard. A responder who is alive at
   the candidate remission month is in remission from then on; the others keep that hazard.
2. In remission, death has hazard ``h_os(t) exp(x'g_os + b_os m(t))``, and relapse-or-death has
   ``h_rfs(t) exp(x'g_rfs + b_rfs m(t))``, where ``m(t)`` is 1 from the start of maintenance on.
   Relapse itself has the difference of the two, which `Truth` proves positive. Both hazards are
   low until month 3, so that medians hardly depend on whether patients are at risk from remission
   or from consolidation.
3. The death hazard does *not* depend on relapse. This is a simplification: in patients a relapse
   shortens survival. It buys that both endpoints are exactly proportional in maintenance given
   the covariates, and that relapse, which bars a patient from maintenance, cannot confound the
   effect of maintenance on survival.
4. Consolidation is handed out by lottery among those who reach their candidate month in
   remission, alive, relapse-free, followed and not transplanted; maintenance by a second lottery
   among those in consolidation who reach theirs. Neither lottery knows the future, covariates
   play no part in it, and consolidation itself changes no hazard.
5. Transplant comes at a constant hazard after remission, only while relapse-free and not
   maintained; it multiplies both hazards by the same ratio.
6. Follow-up ends at the data cut-off: accrual is uniform, so censoring is uniform too.

Times are exact draws by inversion of piecewise-linear cumulative hazards. Where a lottery changes
a hazard, the path up to that moment is drawn without the change, and what remains is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesblina.cohort import Cohort, Endpoint, Phases
from bayesblina.episodes import cut_follow_up, state_bounds
from bayesblina.errors import SpecError
from bayesblina.readers import read_cohort

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Baseline covariates: levels with their shares, and marrow blasts in percent, a stretched beta.
AGE_GROUPS = {"18-34": 0.45, "35-54": 0.29, "55+": 0.26}
PRIOR_SALVAGE = {"no": 0.45, "yes": 0.55}
BLASTS_RANGE = (5.0, 100.0)
BLASTS_SHAPE = (2.0, 1.0)
BLASTS_CENTRE = 50.0

# Months. Candidate remission is uniform in a range; consolidation, and maintenance after it, come
# after a shortest time and an exponential delay, given by its mean.
REMISSION_RANGE = (0.9, 2.3)
CONSOLIDATION_DELAY = (2.7, 0.4)
MAINTENANCE_DELAY = (3.3, 0.8)

ENDPOINTS = ("os", "rfs")
PROCESSES = (*ENDPOINTS, "no_remission")
TERMS = ("age_group[35-54]", "age_group[55+]", "prior_salvage[yes]", "marrow_blasts")

# With the default sizes, fewer than one draw in a hundred has too few patients for a lottery.
MAX_DRAWS = 200


def _named(what: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> dict[str, Any]:
    """Return a mapping's values in the expected order; raise unless it names exactly these."""
    if not isinstance(given, Mapping):
        raise SpecError(f"{what} must map {', '.join(expected)}, got {given!r}.")
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    if missing or unknown:
        raise SpecError(
            f"{what} must name exactly {', '.join(expected)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    return {name: given[name] for name in expected}


def _finite(what: str, values: Iterable[Any]) -> tuple[float, ...]:
    """Return plain finite numbers; raise if they are not."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise SpecError(f"{what} must be made of numbers, got {values!r}.") from None
    if not np.isfinite(numbers).all():
        raise SpecError(f"{what} must be finite, got {numbers!r}.")
    return numbers


def _numbers(what: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> Mapping[str, float]:
    """Return a read-only mapping of exactly the expected names to plain finite numbers."""
    values = _named(what, given, expected)
    return MappingProxyType(dict(zip(values, _finite(what, values.values()), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseHazard:
    """A piecewise-constant hazard of one of the synthetic event processes.

    Parameters
    ----------
    cuts
        Inner cut points in months, strictly increasing and positive. Pieces are (start, stop];
        the last one is open.
    hazards
        Events per patient-month in each piece, positive; one more than there are cuts.

    Raises
    ------
    SpecError
        If the cuts are not positive and increasing, if a hazard is not positive and finite, or
        if there is not exactly one hazard more than there are cuts.

    Examples
    --------
    >>> float(PiecewiseHazard(cuts=(6.0,), hazards=(0.1, 0.05)).cumulative(8.0).round(3))
    0.7
    """

    cuts: tuple[float, ...]
    hazards: tuple[float, ...]

    def __post_init__(self) -> None:
        cuts = _finite("cuts", self.cuts)
        hazards = _finite("hazards", self.hazards)
        if len(hazards) != len(cuts) + 1:
            raise SpecError(
                f"{len(cuts)} cuts make {len(cuts) + 1} pieces, but {len(hazards)} hazards were "
                "given: give one hazard per piece."
            )
        if not (np.diff((0.0, *cuts)) > 0).all():
            raise SpecError(f"cuts must be positive and strictly increasing, got {cuts!r}.")
        if min(hazards) <= 0:
            raise SpecError(f"hazards must be positive, got {hazards!r}.")
        object.__setattr__(self, "cuts", cuts)
        object.__setattr__(self, "hazards", hazards)

    def cumulative(self, times: ArrayLike) -> Floats:
        """Cumulative hazard from the first dose to each time.

        Parameters
        ----------
        times
            Months from the first dose, any shape.

        Returns
        -------
        ndarray
            Cumulative hazards, of the same shape.
        """
        at = np.asarray(times, float)[..., None]
        starts, stops = (0.0, *self.cuts), (*self.cuts, np.inf)
        return np.asarray((np.clip(at, starts, stops) - starts) @ np.array(self.hazards))

    def _in_pieces(self, cuts: Floats) -> Floats:
        """Hazard in each of the pieces that finer cuts make."""
        return np.array(self.hazards)[np.searchsorted(self.cuts, np.append(cuts, np.inf))]


# Calibrated: `docs/validation/synthetic_study.md` shows what these defaults give.
LOG_HAZARD_RATIO = MappingProxyType({"os": float(np.log(0.45)), "rfs": float(np.log(0.70))})
BASELINE = MappingProxyType(
    {
        "os": PiecewiseHazard(cuts=(3.0, 18.0), hazards=(0.006, 0.040, 0.018)),
        "rfs": PiecewiseHazard(cuts=(3.0, 6.0, 18.0), hazards=(0.010, 0.057, 0.085, 0.045)),
        "no_remission": PiecewiseHazard(cuts=(1.0, 9.0), hazards=(0.060, 0.108, 0.070)),
    }
)
COVARIATE_LOG_HAZARD_RATIOS = MappingProxyType(
    {
        process: MappingProxyType(dict(zip(TERMS, np.log(ratios).tolist(), strict=True)))
        for process, ratios in {
            "os": (1.15, 1.40, 1.30, 1.004),
            "rfs": (1.10, 1.30, 1.35, 1.005),
            "no_remission": (1.15, 1.50, 1.20, 1.004),
        }.items()
    }
)
REMISSION_LOG_ODDS = MappingProxyType(
    dict(zip(("intercept", *TERMS), (0.50, 0.0, 0.10, -0.40, -0.010), strict=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What generates a synthetic study; enough to compute its true survival curves.

    Baseline hazards are those of a patient aged 18-34 without prior salvage therapy, with 50
    percent marrow blasts, in remission (``"os"``, ``"rfs"``) or not (``"no_remission"``), not
    maintained, not transplanted. Mappings become read-only.

    Parameters
    ----------
    log_hazard_ratio
        Maintenance against no maintenance, for ``"os"`` and ``"rfs"``, given the covariates.
    covariate_log_hazard_ratios
        For ``"os"``, ``"rfs"`` and ``"no_remission"``: one log hazard ratio per term
        (``"age_group[35-54]"``, ``"age_group[55+]"``, ``"prior_salvage[yes]"``, and
        ``"marrow_blasts"`` per percentage point above 50).
    baseline
        Baseline hazard per month, for ``"os"``, ``"rfs"`` and ``"no_remission"``.
    transplant_log_hazard_ratio
        After transplant against before it, the same for both endpoints.
    transplant_hazard
        Transplants per month while relapse-free in remission and not maintained; 0 for none.
    remission_log_odds
        Log odds of being a responder: ``"intercept"`` and the covariate terms.
    follow_up
        Shortest and longest potential follow-up in months; uniform, as accrual is.

    Raises
    ------
    SpecError
        If a mapping lacks a name or holds an unknown one, if a number is out of its range, or if
        the hazard of relapse, the difference of the hazards of the two endpoints, is not positive
        for every possible patient and time.

    Examples
    --------
    A study in which maintenance does nothing:

    >>> null = Truth(log_hazard_ratio={"os": 0.0, "rfs": 0.0})
    >>> cohort, truth = blinatumomab_cohort(1, truth=null)
    >>> truth.log_hazard_ratio["os"]
    0.0
    """

    log_hazard_ratio: Mapping[str, float] = LOG_HAZARD_RATIO
    covariate_log_hazard_ratios: Mapping[str, Mapping[str, float]] = COVARIATE_LOG_HAZARD_RATIOS
    baseline: Mapping[str, PiecewiseHazard] = BASELINE
    transplant_log_hazard_ratio: float = float(np.log(0.85))
    transplant_hazard: float = 0.03
    remission_log_odds: Mapping[str, float] = REMISSION_LOG_ODDS
    follow_up: tuple[float, float] = (12.0, 36.0)

    def __post_init__(self) -> None:
        baseline = _named("baseline", self.baseline, PROCESSES)
        for process, hazard in baseline.items():
            if not isinstance(hazard, PiecewiseHazard):
                raise SpecError(f"baseline['{process}'] must be a PiecewiseHazard, got {hazard!r}.")
        covariates = {
            process: _numbers(f"covariate_log_hazard_ratios['{process}']", terms, TERMS)
            for process, terms in _named(
                "covariate_log_hazard_ratios", self.covariate_log_hazard_ratios, PROCESSES
            ).items()
        }
        (ratio,) = _finite("transplant_log_hazard_ratio", [self.transplant_log_hazard_ratio])
        (hazard,) = _finite("transplant_hazard", [self.transplant_hazard])
        if hazard < 0:
            raise SpecError(f"transplant_hazard must be at least 0, got {hazard!r}.")
        follow_up = _finite("follow_up", self.follow_up)
        if len(follow_up) != 2 or not REMISSION_RANGE[1] < follow_up[0] <= follow_up[1]:
            raise SpecError(
                "follow_up must be a shortest and a longest time in months, after the last "
                f"possible remission at {REMISSION_RANGE[1]:g}, got {follow_up!r}."
            )
        checked = {
            "log_hazard_ratio": _numbers("log_hazard_ratio", self.log_hazard_ratio, ENDPOINTS),
            "covariate_log_hazard_ratios": MappingProxyType(covariates),
            "baseline": MappingProxyType(baseline),
            "transplant_log_hazard_ratio": ratio,
            "transplant_hazard": hazard,
            "remission_log_odds": _numbers(
                "remission_log_odds", self.remission_log_odds, ("intercept", *TERMS)
            ),
            "follow_up": follow_up,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        share = self._smallest_relapse_share()
        if not share > 0:
            raise SpecError(
                "the hazard of relapse is the rfs hazard minus the os hazard and must be positive "
                "for every patient and time, but its smallest share of the rfs hazard is "
                f"{share:.3f}: raise the rfs hazards or lower the os ones."
            )

    def cumulative_hazard(
        self,
        endpoint: str,
        table: pd.DataFrame,
        times: ArrayLike,
        *,
        maintenance_start: float = np.inf,
    ) -> Floats:
        """Cumulative hazard in remission, from the first dose on, not transplanted.

        Survival from a landmark L to t is ``exp(-(H(t) - H(L)))``.

        Parameters
        ----------
        endpoint
            ``"os"`` or ``"rfs"``.
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

        Raises
        ------
        SpecError
            If `endpoint` is neither ``"os"`` nor ``"rfs"``.

        Examples
        --------
        >>> truth = Truth()
        >>> patient = pd.DataFrame(
        ...     {"age_group": ["18-34"], "prior_salvage": ["no"], "marrow_blasts": [50.0]}
        ... )
        >>> untreated, treated = (
        ...     truth.cumulative_hazard("rfs", patient, [12.0], maintenance_start=s)[0, 0]
        ...     for s in (np.inf, 6.0)
        ... )
        >>> bool(treated < untreated)
        True
        """
        if endpoint not in ENDPOINTS:
            raise SpecError(f"unknown endpoint '{endpoint}': expected one of os, rfs.")
        at = np.asarray(times, float)
        baseline = self.baseline[endpoint]
        before = baseline.cumulative(np.minimum(at, maintenance_start))
        ratio = np.exp(self.log_hazard_ratio[endpoint])
        total = before + ratio * (baseline.cumulative(at) - before)
        return np.asarray(self._relative_hazard(endpoint, _design(table))[:, None] * total)

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, as plain values that JSON knows.

        Returns
        -------
        dict
            What `from_dict` reads.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "log_hazard_ratio": dict(self.log_hazard_ratio),
            "covariate_log_hazard_ratios": {
                process: dict(terms) for process, terms in self.covariate_log_hazard_ratios.items()
            },
            "baseline": {
                process: {"cuts": list(hazard.cuts), "hazards": list(hazard.hazards)}
                for process, hazard in self.baseline.items()
            },
            "remission_log_odds": dict(self.remission_log_odds),
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
        kept = _named("truth", values, tuple(item.name for item in fields(cls)))
        kept["baseline"] = {
            process: PiecewiseHazard(
                **_named(f"baseline['{process}']", hazard, ("cuts", "hazards"))
            )
            for process, hazard in _named("baseline", kept["baseline"], PROCESSES).items()
        }
        return cls(**kept)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and send between processes through plain values: read-only mappings refuse."""
        return (Truth.from_dict, (self.as_dict(),))

    def _relative_hazard(self, process: str, design: Floats) -> Floats:
        """Hazard of each patient relative to the baseline patient, shape (patient,)."""
        terms = self.covariate_log_hazard_ratios[process]
        return np.asarray(np.exp(design @ np.array([terms[term] for term in TERMS])))

    def _joint_cuts(self) -> Floats:
        return np.union1d(self.baseline["os"].cuts, self.baseline["rfs"].cuts)

    def _smallest_relapse_share(self) -> float:
        """Smallest share of relapse in the hazard of relapse or death.

        It is taken over all times, covariates and both states of maintenance; transplant cancels.
        """
        age_middle, age_old, salvage, blasts = (
            self.covariate_log_hazard_ratios["os"][term]
            - self.covariate_log_hazard_ratios["rfs"][term]
            for term in TERMS
        )
        worst = (
            max(0.0, age_middle, age_old)
            + max(0.0, salvage)
            + max(blasts * (percent - BLASTS_CENTRE) for percent in BLASTS_RANGE)
            + max(0.0, self.log_hazard_ratio["os"] - self.log_hazard_ratio["rfs"])
        )
        death, failure = (self.baseline[e]._in_pieces(self._joint_cuts()) for e in ENDPOINTS)
        return float(1.0 - (death / failure).max() * np.exp(worst))


class SyntheticStudy(NamedTuple):
    """A synthetic cohort, never patient data, and the truth that generated it.

    Attributes
    ----------
    cohort : Cohort
        The validated synthetic cohort, marked as synthetic.
    truth : Truth
        Its true log hazard ratios, baselines and all else.
    """

    cohort: Cohort
    truth: Truth


def blinatumomab_cohort(
    seed: int,
    *,
    n_patients: int = 267,
    n_consolidation: int = 86,
    n_maintenance: int = 36,
    truth: Truth | None = None,
) -> SyntheticStudy:
    """Draw the synthetic blinatumomab study as a cohort; this is never patient data.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same study, within rounding on another processor.
    n_patients, n_consolidation, n_maintenance
        Exact numbers of patients in all, in consolidation and in maintenance. The defaults are
        those of NCT02013167.
    truth
        What generates the study; by default the calibrated `Truth`.

    Returns
    -------
    SyntheticStudy
        The cohort in months, with endpoints ``"os"`` (from the first dose) and ``"rfs"`` (delayed
        entry at remission), phases ``consolidation`` and ``maintenance``, three baseline
        covariates and the transplant; and the truth.

    Raises
    ------
    SpecError
        As for `blinatumomab_table`.

    See Also
    --------
    blinatumomab_table : the same study as a table, with the full account.

    Examples
    --------
    >>> study = blinatumomab_cohort(1)
    >>> round(float(np.exp(study.truth.log_hazard_ratio["os"])), 2)
    0.45
    """
    truth = Truth() if truth is None else truth
    table = blinatumomab_table(
        seed,
        n_patients=n_patients,
        n_consolidation=n_consolidation,
        n_maintenance=n_maintenance,
        truth=truth,
    )
    cohort = read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={
            "os": Endpoint(time="os_months", event="died"),
            "rfs": Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month"),
        },
        phases=Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        covariates=["age_group", "prior_salvage", "marrow_blasts"],
        transplant="transplant_month",
        synthetic=True,
    )
    return SyntheticStudy(cohort=cohort, truth=truth)


def blinatumomab_table(
    seed: int,
    *,
    n_patients: int = 267,
    n_consolidation: int = 86,
    n_maintenance: int = 36,
    truth: Truth | None = None,
) -> pd.DataFrame:
    """Draw the synthetic blinatumomab study as a table, one row per synthetic patient.

    No row is, or stems from, a patient. The death hazard does not depend on relapse, which is a
    simplification (see the module's text); it makes the true log hazard ratios of both endpoints
    exact for patients in remission, given covariates and with transplant censored.

    If fewer patients reach a lottery than it has places, the whole table is drawn again from the
    next substream of the same seed. With the default sizes and truth this is rare.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same table, within rounding on another processor.
    n_patients, n_consolidation, n_maintenance
        Exact numbers of patients in all, in consolidation and in maintenance.
    truth
        What generates the study; by default the calibrated `Truth`.

    Returns
    -------
    pandas.DataFrame
        ``attrs["synthetic"]`` is True. All times are months from the first dose; NaN means never.

        - ``patient_id``: ``"SYN-0001"`` and so on.
        - ``os_months``, ``died``: end of follow-up, and whether by death (0/1).
        - ``rfs_months``, ``relapse_or_death``: end of relapse-free follow-up, and whether by
          relapse or death (0/1); at risk from ``remission_month`` on. NaN if never in remission.
        - ``remission_month``, ``consolidation_month``, ``maintenance_month``,
          ``transplant_month``.
        - ``age_group``, ``prior_salvage``, ``marrow_blasts`` (percent).

    Raises
    ------
    SpecError
        If the seed is not a non-negative integer, if the numbers are not
        0 <= maintenance <= consolidation <= all, or if too few patients reach a lottery in every
        one of many draws.

    References
    ----------
    Published counts and medians: Blood Advances 2020;4(7):1518 (NCT02013167).

    Examples
    --------
    >>> table = blinatumomab_table(1)
    >>> table.attrs["synthetic"]
    True
    >>> table[["consolidation_month", "maintenance_month"]].notna().sum().tolist()
    [86, 36]
    """
    whole: dict[str, object] = {
        "seed": seed,
        "n_maintenance": n_maintenance,
        "n_consolidation": n_consolidation,
        "n_patients": n_patients,
    }
    for name, number in whole.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise SpecError(f"{name} must be an integer from 0 on, got {number!r}.")
    if not n_maintenance <= n_consolidation <= n_patients or n_patients == 0:
        raise SpecError(
            "expected n_maintenance <= n_consolidation <= n_patients and at least one patient, "
            f"got {n_maintenance}, {n_consolidation}, {n_patients}."
        )
    truth = Truth() if truth is None else truth
    best = (0, 0)
    for attempt in range(MAX_DRAWS):
        rng = np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(attempt,)))
        drawn = _draw(rng, n_patients, n_consolidation, n_maintenance, truth)
        if isinstance(drawn, pd.DataFrame):
            return drawn
        best = max(best, drawn)
    raise SpecError(
        f"in {MAX_DRAWS} draws of {n_patients} patients, at best {best[0]} reached the start of "
        f"consolidation ({n_consolidation} wanted) and {best[1]} that of maintenance "
        f"({n_maintenance} wanted): ask for fewer or draw more patients."
    )


# Events per month of a synthetic patient, by phase in order; falling as treatment goes on.
ADVERSE_EVENT_RATES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "cytopenia": (0.30, 0.12, 0.06),
        "fever": (0.45, 0.10, 0.04),
        "headache": (0.25, 0.08, 0.05),
        "infection": (0.20, 0.15, 0.12),
        "neurologic event": (0.15, 0.04, 0.01),
        "raised liver enzymes": (0.12, 0.08, 0.08),
    }
)
# Months for which adverse events are reported after the start of each phase.
REPORTED_MONTHS = 4.0
GRADE_SHARES = (0.40, 0.30, 0.20, 0.08, 0.02)


def adverse_events(cohort: Cohort, *, seed: int) -> pd.DataFrame:
    """Draw synthetic adverse events for a cohort, more of them in earlier phases.

    Parameters
    ----------
    cohort
        The patients, with phases in order; from the third phase on rates stay as in the third.
    seed
        Non-negative; the same seed gives the same table, within rounding on another processor.

    Returns
    -------
    pandas.DataFrame
        One row per event: ``patient_id``, ``term``, ``grade`` (1 to 5) and ``month`` from the
        origin. ``attrs["synthetic"]`` is True. Events happen at constant rates within 4 months of
        the start of each phase, while the patient is in it and alive.

    Raises
    ------
    SpecError
        If the seed is negative, or the cohort is not in months.

    Examples
    --------
    >>> cohort, truth = blinatumomab_cohort(seed=1)
    >>> list(adverse_events(cohort, seed=1).columns)
    ['patient_id', 'term', 'grade', 'month']
    """
    if seed < 0:
        raise SpecError(f"seed must be a whole number from 0 on, got {seed!r}.")
    if cohort.unit != "months":
        raise SpecError(f"The rates are per month, but the cohort is in {cohort.unit}.")
    rng = np.random.default_rng(seed)
    stop = np.fmax.reduce(np.stack([one.time for one in cohort.endpoints.values()]), axis=0)
    bounds, _, state = state_bounds(cohort.phases, cohort.phase_start)
    row, segment, begin, end = cut_follow_up(bounds, np.zeros(cohort.size), stop)
    length = np.minimum(end - begin, REPORTED_MONTHS)
    parts = []
    for term, rates in ADVERSE_EVENT_RATES.items():
        rate = np.asarray(rates)[np.minimum(state[segment], len(rates) - 1)]
        episode = np.repeat(np.arange(row.size), rng.poisson(rate * length))
        month = begin[episode] + rng.random(episode.size) * length[episode]
        parts.append(
            pd.DataFrame(
                {
                    "patient_id": cohort.patients[row[episode]].astype(str),
                    "term": term,
                    "grade": rng.choice(5, size=episode.size, p=GRADE_SHARES) + 1,
                    "month": month,
                }
            )
        )
    table = pd.concat(parts).sort_values(["patient_id", "month"], kind="stable", ignore_index=True)
    table.attrs["synthetic"] = True
    return table


def _draw(
    rng: np.random.Generator,
    n_patients: int,
    n_consolidation: int,
    n_maintenance: int,
    truth: Truth,
) -> pd.DataFrame | tuple[int, int]:
    """Draw one table, or return how many reached the lotteries if these are too few."""
    covariates = _draw_covariates(rng, n_patients)
    design = _design(covariates)
    censoring = rng.uniform(*truth.follow_up, n_patients)

    no_remission = truth.baseline["no_remission"]
    early_death = _next_event(
        rng,
        np.zeros(n_patients),
        np.outer(truth._relative_hazard("no_remission", design), no_remission.hazards),
        np.array(no_remission.cuts),
    )
    log_odds = truth.remission_log_odds["intercept"] + design @ np.array(
        [truth.remission_log_odds[term] for term in TERMS]
    )
    responder = rng.random(n_patients) < 1.0 / (1.0 + np.exp(-log_odds))
    remission = rng.uniform(*REMISSION_RANGE, n_patients)
    in_remission = responder & (remission < early_death)

    death, relapse = _draw_in_remission(rng, truth, design, remission)
    with np.errstate(divide="ignore"):
        transplant = remission + rng.exponential(size=n_patients) / truth.transplant_hazard
    leaves = np.minimum.reduce([death, relapse, transplant, censoring])

    consolidation = _delayed(rng, CONSOLIDATION_DELAY, n_patients)
    reached = in_remission & (consolidation < leaves)
    n_reached = int(reached.sum())
    if n_reached < n_consolidation:
        return n_reached, 0
    consolidated = _lottery(rng, reached, n_consolidation)
    maintenance = consolidation + _delayed(rng, MAINTENANCE_DELAY, n_patients)
    reached = consolidated & (maintenance < leaves)
    if int(reached.sum()) < n_maintenance:
        return n_reached, int(reached.sum())
    maintained = _lottery(rng, reached, n_maintenance)

    transplanted = in_remission & ~maintained & (transplant == leaves)
    changed = maintained | transplanted
    later_death, later_relapse = _draw_in_remission(
        rng,
        truth,
        design,
        np.where(maintained, maintenance, np.where(transplanted, transplant, remission)),
        log_ratios={
            endpoint: np.where(
                maintained, truth.log_hazard_ratio[endpoint], truth.transplant_log_hazard_ratio
            )
            for endpoint in ENDPOINTS
        },
    )
    death = np.where(changed, later_death, np.where(in_remission, death, early_death))
    relapse = np.where(changed, later_relapse, relapse)
    failure = np.minimum(relapse, death)

    nan = np.nan
    table = pd.DataFrame(
        {
            "patient_id": [f"SYN-{number:04d}" for number in range(1, n_patients + 1)],
            "os_months": np.minimum(death, censoring),
            "died": (death <= censoring).astype(int),
            "rfs_months": np.where(in_remission, np.minimum(failure, censoring), nan),
            "relapse_or_death": np.where(in_remission, (failure <= censoring).astype(float), nan),
            "remission_month": np.where(in_remission, remission, nan),
            "consolidation_month": np.where(consolidated, consolidation, nan),
            "maintenance_month": np.where(maintained, maintenance, nan),
            "transplant_month": np.where(transplanted, transplant, nan),
        }
    )
    table = pd.concat([table, covariates], axis=1)
    table.attrs["synthetic"] = True
    return table


def _draw_covariates(rng: np.random.Generator, n_patients: int) -> pd.DataFrame:
    age = rng.choice(len(AGE_GROUPS), n_patients, p=list(AGE_GROUPS.values()))
    salvage = rng.random(n_patients) < PRIOR_SALVAGE["yes"]
    low, high = BLASTS_RANGE
    return pd.DataFrame(
        {
            "age_group": np.array(list(AGE_GROUPS), dtype=object)[age],
            "prior_salvage": np.array(list(PRIOR_SALVAGE), dtype=object)[salvage.astype(int)],
            "marrow_blasts": low + (high - low) * rng.beta(*BLASTS_SHAPE, n_patients),
        }
    )


def _design(table: pd.DataFrame) -> Floats:
    """Terms of each patient, shape (patient, term)."""
    age = table["age_group"].to_numpy()
    return np.column_stack(
        [
            age == "35-54",
            age == "55+",
            table["prior_salvage"].to_numpy() == "yes",
            table["marrow_blasts"].to_numpy(float) - BLASTS_CENTRE,
        ]
    ).astype(float)


def _draw_in_remission(
    rng: np.random.Generator,
    truth: Truth,
    design: Floats,
    start: Floats,
    *,
    log_ratios: Mapping[str, Floats | float] = MappingProxyType({"os": 0.0, "rfs": 0.0}),
) -> tuple[Floats, Floats]:
    """Months of death and of relapse after `start`, as if neither stopped the other."""
    cuts = truth._joint_cuts()
    death, failure = (
        np.outer(
            truth._relative_hazard(endpoint, design) * np.exp(log_ratios[endpoint]),
            truth.baseline[endpoint]._in_pieces(cuts),
        )
        for endpoint in ENDPOINTS
    )
    return _next_event(rng, start, death, cuts), _next_event(rng, start, failure - death, cuts)


def _next_event(rng: np.random.Generator, start: Floats, hazards: Floats, cuts: Floats) -> Floats:
    """First event after `start` by inversion of the cumulative hazard.

    `start` has shape (patient,), `hazards` (patient, piece), `cuts` one less than pieces.
    """
    edges = np.concatenate([[0.0], cuts])
    begin = np.maximum(edges, start[:, None])
    widths = np.maximum(edges[1:] - begin[:, :-1], 0.0)
    reached = np.zeros(hazards.shape)
    np.cumsum(widths * hazards[:, :-1], axis=1, out=reached[:, 1:])
    target = rng.exponential(size=start.size)
    piece = (reached[:, 1:] < target[:, None]).sum(axis=1)[:, None]
    base, level, hazard = (
        np.take_along_axis(values, piece, axis=1)[:, 0] for values in (begin, reached, hazards)
    )
    return np.asarray(base + (target - level) / hazard)


def _delayed(rng: np.random.Generator, delay: tuple[float, float], size: int) -> Floats:
    """Shortest time plus an exponential delay of given mean."""
    return delay[0] + rng.exponential(delay[1], size)


def _lottery(rng: np.random.Generator, reached: Bools, places: int) -> Bools:
    chosen = np.zeros(reached.size, dtype=bool)
    chosen[rng.choice(np.flatnonzero(reached), places, replace=False)] = True
    return chosen
