"""Synthetic cohorts with a known truth: nothing in here is, or stems from, patient data.

`blinatumomab_cohort` draws a trial shaped like the published blinatumomab arm of NCT02013167
(Blood Advances 2020;4(7):1518): the numbers of patients per treatment phase are exactly the
published ones, and the Simon-Makuch medians are calibrated to the published medians
(``docs/validation/simulation-calibration.md``). The true log hazard ratios come with it.

How a patient is made (time in months from the first dose):

1. Until remission everybody dies at the ``"no_remission"`` hazard. A responder who is alive at
   the candidate remission month is in remission from then on; the others keep that hazard.
2. In remission, death has hazard ``h_os(t) exp(x'g_os + b_os m(t))``, and relapse-or-death has
   ``h_rfs(t) exp(x'g_rfs + b_rfs m(t))``, where ``m(t)`` is 1 from the start of maintenance on.
   Relapse itself has the difference of the two, which `Truth` proves positive.
3. The death hazard does *not* depend on relapse. This is a simplification: in patients a relapse
   shortens survival. It buys that both endpoints are exactly proportional in maintenance given
   the covariates, and that relapse, which bars a patient from maintenance, cannot confound the
   effect of maintenance on survival.
4. Consolidation is handed out by lottery among those who reach their candidate month in
   remission, alive, relapse-free, followed and not transplanted; maintenance by a second lottery
   among those in consolidation who reach theirs. Neither lottery knows the future, covariates
   play no part in it, and consolidation itself changes no hazard.
5. Transplant comes at a constant hazard in the months after remission, only while relapse-free
   and not maintained; it multiplies both hazards by the same ratio.
6. Follow-up ends at the data cut-off: accrual is uniform, so censoring is uniform too.

Times are exact draws by inversion of piecewise-linear cumulative hazards. Where a lottery changes
a hazard, the path up to that moment is drawn without the change, and what remains is drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesblina.cohort import Cohort, Endpoint, Phases
from bayesblina.readers import read_cohort

__all__ = [
    "PiecewiseHazard",
    "SyntheticStudy",
    "Truth",
    "blinatumomab_cohort",
    "blinatumomab_table",
]

type Floats = npt.NDArray[np.float64]

AGE_GROUPS = ("18-34", "35-54", "55+")
PRIOR_SALVAGE = ("no", "yes")
BLASTS_RANGE = (5.0, 100.0)

ENDPOINTS = ("os", "rfs")
PROCESSES = (*ENDPOINTS, "no_remission")
TERMS = ("age_group[35-54]", "age_group[55+]", "prior_salvage[yes]", "marrow_blasts")

# Too few patients at a lottery happens in less than one draw in a hundred at the default sizes.
MAX_DRAWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseHazard:
    """A piecewise-constant hazard of one of the synthetic event processes.

    Parameters
    ----------
    cuts : tuple of float
        Inner cut points in months, strictly increasing and positive. Pieces are (start, stop];
        the last one is open.
    hazards : tuple of float
        Events per patient-month in each piece, positive; one more than there are cuts.

    Raises
    ------
    ValueError
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
        """Check the cut points and the hazards."""
        if len(self.hazards) != len(self.cuts) + 1:
            raise ValueError(
                f"{len(self.cuts)} cuts make {len(self.cuts) + 1} pieces, "
                f"but {len(self.hazards)} hazards were given: give one hazard per piece."
            )
        edges = np.array((0.0, *self.cuts))
        if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
            raise ValueError(f"cuts must be positive and strictly increasing; got {self.cuts}.")
        rates = np.array(self.hazards)
        if not (np.isfinite(rates).all() and (rates > 0).all()):
            raise ValueError(f"hazards must be positive and finite; got {self.hazards}.")

    def at(self, times: npt.ArrayLike) -> Floats:
        """Hazard just before each time, per month; same shape as `times`."""
        piece = np.searchsorted(np.array(self.cuts), np.asarray(times, float), side="left")
        return np.array(self.hazards)[piece]

    def cumulative(self, times: npt.ArrayLike) -> Floats:
        """Cumulative hazard from the first dose to each time (months); same shape as `times`."""
        edges = np.array((0.0, *self.cuts))
        rates = np.array(self.hazards)
        at_edges = np.concatenate([[0.0], np.cumsum(np.diff(edges) * rates[:-1])])
        at = np.asarray(times, float)
        piece = np.searchsorted(edges[1:], at, side="left")
        return np.asarray(at_edges[piece] + rates[piece] * (at - edges[piece]))


def _default_log_hazard_ratio() -> Mapping[str, float]:
    return {"os": float(np.log(0.45)), "rfs": float(np.log(0.7))}


def _default_covariates() -> Mapping[str, Mapping[str, float]]:
    ratios = {
        "os": (1.15, 1.40, 1.30, 1.004),
        "rfs": (1.10, 1.30, 1.35, 1.005),
        "no_remission": (1.15, 1.50, 1.20, 1.004),
    }
    return {k: dict(zip(TERMS, np.log(v).tolist(), strict=True)) for k, v in ratios.items()}


def _default_baseline() -> Mapping[str, PiecewiseHazard]:
    return {
        "os": PiecewiseHazard(cuts=(6.0, 18.0), hazards=(0.035, 0.045, 0.025)),
        "rfs": PiecewiseHazard(cuts=(6.0, 18.0), hazards=(0.060, 0.085, 0.045)),
        "no_remission": PiecewiseHazard(cuts=(1.0, 9.0), hazards=(0.070, 0.150, 0.090)),
    }


def _default_remission() -> Mapping[str, float]:
    return {
        "intercept": 0.70,
        "age_group[35-54]": 0.0,
        "age_group[55+]": 0.10,
        "prior_salvage[yes]": -0.40,
        "marrow_blasts": -0.010,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Everything that generated a synthetic study; enough to compute its true survival curves.

    Baseline hazards are those of a patient aged 18-34 without prior salvage therapy, with
    `blasts_centre` percent marrow blasts, in remission (``"os"``, ``"rfs"``) or not
    (``"no_remission"``), not maintained, not transplanted.

    Parameters
    ----------
    log_hazard_ratio : mapping of str to float
        Maintenance against no maintenance, for ``"os"`` and ``"rfs"``, given the covariates.
    covariate_log_hazard_ratios : mapping of str to mapping of str to float
        For ``"os"``, ``"rfs"`` and ``"no_remission"``: one log hazard ratio per term
        (``"age_group[35-54]"``, ``"age_group[55+]"``, ``"prior_salvage[yes]"``, and
        ``"marrow_blasts"`` per percentage point above `blasts_centre`).
    baseline : mapping of str to PiecewiseHazard
        Baseline hazard per month, for ``"os"``, ``"rfs"`` and ``"no_remission"``.
    transplant_log_hazard_ratio : float
        After transplant against before it, the same for both endpoints.
    transplant_hazard : float
        Transplants per month while relapse-free in remission and not maintained.
    transplant_window : float
        Months after remission in which transplants happen.
    remission_log_odds : mapping of str to float
        Log odds of being a responder: ``"intercept"`` and the covariate terms.
    remission_month : tuple of float
        Range of the candidate remission month, uniform.
    consolidation_month : tuple of float
        Earliest candidate month of consolidation, and the mean of the exponential delay after it.
    maintenance_gap : tuple of float
        Shortest time from consolidation to candidate maintenance in months, and the mean of the
        exponential delay after it.
    follow_up : tuple of float
        Shortest and longest potential follow-up in months; uniform, as accrual is.
    age_group_probabilities : tuple of float
        Shares of the three age groups.
    prior_salvage_probability : float
        Share with prior salvage therapy.
    blasts_shape : tuple of float
        Beta distribution of the marrow blasts, stretched to 5-100 percent.
    blasts_centre : float
        Percent of marrow blasts to which the baselines belong.

    Raises
    ------
    ValueError
        If a mapping lacks a name or holds an unknown one, if a number is out of its range, if a
        remission could come after a consolidation, or if the hazard of relapse, the difference of
        the hazards of the two endpoints, is not positive for every possible patient and time.

    Examples
    --------
    A study in which maintenance does nothing:

    >>> null = Truth(log_hazard_ratio={"os": 0.0, "rfs": 0.0})
    >>> null.smallest_relapse_share > 0
    True
    """

    log_hazard_ratio: Mapping[str, float] = field(default_factory=_default_log_hazard_ratio)
    covariate_log_hazard_ratios: Mapping[str, Mapping[str, float]] = field(
        default_factory=_default_covariates
    )
    baseline: Mapping[str, PiecewiseHazard] = field(default_factory=_default_baseline)
    transplant_log_hazard_ratio: float = float(np.log(0.7))
    transplant_hazard: float = 0.03
    transplant_window: float = 10.0
    remission_log_odds: Mapping[str, float] = field(default_factory=_default_remission)
    remission_month: tuple[float, float] = (0.9, 2.3)
    consolidation_month: tuple[float, float] = (2.7, 0.4)
    maintenance_gap: tuple[float, float] = (3.3, 0.8)
    follow_up: tuple[float, float] = (12.0, 36.0)
    age_group_probabilities: tuple[float, float, float] = (0.45, 0.29, 0.26)
    prior_salvage_probability: float = 0.55
    blasts_shape: tuple[float, float] = (2.0, 1.0)
    blasts_centre: float = 50.0

    def __post_init__(self) -> None:
        """Check every value and make the mappings read-only."""
        _expect_names("log_hazard_ratio", self.log_hazard_ratio, ENDPOINTS)
        _expect_names("baseline", self.baseline, PROCESSES)
        _expect_names("covariate_log_hazard_ratios", self.covariate_log_hazard_ratios, PROCESSES)
        for process, terms in self.covariate_log_hazard_ratios.items():
            _expect_names(f"covariate_log_hazard_ratios[{process!r}]", terms, TERMS)
        _expect_names("remission_log_odds", self.remission_log_odds, ("intercept", *TERMS))
        self._check_ranges()
        covariates = {
            process: MappingProxyType(dict(terms))
            for process, terms in self.covariate_log_hazard_ratios.items()
        }
        for name, value in (
            ("log_hazard_ratio", self.log_hazard_ratio),
            ("baseline", self.baseline),
            ("covariate_log_hazard_ratios", covariates),
            ("remission_log_odds", self.remission_log_odds),
        ):
            object.__setattr__(self, name, MappingProxyType(dict(value)))
        if not self.smallest_relapse_share > 0:
            raise ValueError(
                "the hazard of relapse is the rfs hazard minus the os hazard and must be positive "
                "for every patient and time, but its smallest share of the rfs hazard is "
                f"{self.smallest_relapse_share:.3f}: raise the rfs hazards or lower the os ones."
            )

    def _check_ranges(self) -> None:
        numbers = [
            *self.log_hazard_ratio.values(),
            *(v for terms in self.covariate_log_hazard_ratios.values() for v in terms.values()),
            *self.remission_log_odds.values(),
            self.transplant_log_hazard_ratio,
        ]
        remission, consolidation, gap = (
            self.remission_month,
            self.consolidation_month,
            self.maintenance_gap,
        )
        shares = self.age_group_probabilities
        expected = {
            "log ratios must be finite": bool(np.isfinite(numbers).all()),
            "transplant_hazard and transplant_window must be positive and finite": (
                0 < self.transplant_hazard < np.inf and 0 < self.transplant_window < np.inf
            ),
            "remission_month must be 0 < first <= last < first consolidation_month": (
                0 < remission[0] <= remission[1] < consolidation[0]
            ),
            "consolidation_month and maintenance_gap must be a positive start and delay": (
                min(*consolidation, *gap) > 0 and np.isfinite([*consolidation, *gap]).all()
            ),
            "follow_up must be last remission_month < shortest <= longest < inf": (
                remission[1] < self.follow_up[0] <= self.follow_up[1] < np.inf
            ),
            "age_group_probabilities must be three shares that sum to 1": (
                len(shares) == len(AGE_GROUPS) and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-9
            ),
            "prior_salvage_probability must be in 0..1": 0 <= self.prior_salvage_probability <= 1,
            "blasts_shape must be two positive numbers": min(self.blasts_shape) > 0,
            "blasts_centre must be in 5..100": (
                BLASTS_RANGE[0] <= self.blasts_centre <= BLASTS_RANGE[1]
            ),
        }
        wrong = [text for text, holds in expected.items() if not holds]
        if wrong:
            raise ValueError("; ".join(wrong) + ".")

    @property
    def smallest_relapse_share(self) -> float:
        """Smallest possible share of relapse in the hazard of relapse or death.

        It is taken over all times, covariates and both states of maintenance; transplant cancels.
        Positive for every valid truth.
        """
        excess = {
            term: self.covariate_log_hazard_ratios["os"][term]
            - self.covariate_log_hazard_ratios["rfs"][term]
            for term in TERMS
        }
        blasts = [excess["marrow_blasts"] * (x - self.blasts_centre) for x in BLASTS_RANGE]
        worst = (
            max(0.0, excess["age_group[35-54]"], excess["age_group[55+]"])
            + max(0.0, excess["prior_salvage[yes]"])
            + max(blasts)
            + max(0.0, self.log_hazard_ratio["os"] - self.log_hazard_ratio["rfs"])
        )
        ends = np.array([*self._joint_cuts(), np.inf])
        ratio = self.baseline["os"].at(ends) / self.baseline["rfs"].at(ends)
        return float(1.0 - ratio.max() * np.exp(worst))

    def relative_hazard(self, process: str, table: pd.DataFrame) -> Floats:
        """Hazard of each patient relative to the baseline patient.

        Parameters
        ----------
        process : str
            ``"os"``, ``"rfs"`` or ``"no_remission"``.
        table : pandas.DataFrame
            Columns ``age_group``, ``prior_salvage`` and ``marrow_blasts``.

        Returns
        -------
        numpy.ndarray
            Ratios, shape ``(patient,)``.

        Raises
        ------
        ValueError
            If `process` is not one of the three.
        """
        if process not in PROCESSES:
            raise ValueError(f"unknown process {process!r}: one of {', '.join(PROCESSES)}.")
        terms = self.covariate_log_hazard_ratios[process]
        return np.asarray(np.exp(self._design(table) @ np.array([terms[t] for t in TERMS])))

    def cumulative_hazard(
        self,
        endpoint: str,
        table: pd.DataFrame,
        times: npt.ArrayLike,
        *,
        maintenance_start: float = np.inf,
    ) -> Floats:
        """Cumulative hazard in remission, from the first dose on, not transplanted.

        Survival from a landmark L to t is ``exp(-(H(t) - H(L)))``.

        Parameters
        ----------
        endpoint : str
            ``"os"`` or ``"rfs"``.
        table : pandas.DataFrame
            Columns ``age_group``, ``prior_salvage`` and ``marrow_blasts``.
        times : array-like
            Months from the first dose, shape ``(time,)``.
        maintenance_start : float, optional
            Month from which maintenance is given; by default never.

        Returns
        -------
        numpy.ndarray
            Cumulative hazards, shape ``(patient, time)``.

        Raises
        ------
        ValueError
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
            raise ValueError(f"unknown endpoint {endpoint!r}: one of {', '.join(ENDPOINTS)}.")
        at = np.asarray(times, float)
        baseline = self.baseline[endpoint]
        before = baseline.cumulative(np.minimum(at, maintenance_start))
        ratio = np.exp(self.log_hazard_ratio[endpoint])
        total = before + ratio * (baseline.cumulative(at) - before)
        return np.asarray(self.relative_hazard(endpoint, table)[:, None] * total)

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary of everything, made of what JSON knows; ``from_dict`` reads it."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        out["baseline"] = {
            k: {"cuts": list(v.cuts), "hazards": list(v.hazards)} for k, v in self.baseline.items()
        }
        out["covariate_log_hazard_ratios"] = {
            k: dict(v) for k, v in self.covariate_log_hazard_ratios.items()
        }
        for name, value in out.items():
            if isinstance(value, Mapping):
                out[name] = dict(value)
            elif isinstance(value, tuple):
                out[name] = list(value)
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Truth:
        """Truth from what `as_dict` made."""
        kept: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        if "baseline" in kept:
            kept["baseline"] = {
                k: PiecewiseHazard(cuts=tuple(v["cuts"]), hazards=tuple(v["hazards"]))
                for k, v in kept["baseline"].items()
            }
        return cls(**kept)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and send between processes through plain values: read-only mappings refuse."""
        return (Truth.from_dict, (self.as_dict(),))

    def _joint_cuts(self) -> Floats:
        return np.union1d(self.baseline["os"].cuts, self.baseline["rfs"].cuts)

    def _design(self, table: pd.DataFrame) -> Floats:
        age = table["age_group"].to_numpy()
        return np.column_stack(
            [
                age == "35-54",
                age == "55+",
                table["prior_salvage"].to_numpy() == "yes",
                table["marrow_blasts"].to_numpy(float) - self.blasts_centre,
            ]
        ).astype(float)


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
    seed : int
        Non-negative; the same seed gives the same study.
    n_patients, n_consolidation, n_maintenance : int, optional
        Exact numbers of patients in all, in consolidation and in maintenance. The defaults are
        those of NCT02013167.
    truth : Truth, optional
        What generates the study; by default the calibrated `Truth`.

    Returns
    -------
    SyntheticStudy
        The cohort in months, with endpoints ``"os"`` (from the first dose) and ``"rfs"`` (delayed
        entry at remission), phases ``consolidation`` and ``maintenance``, three baseline
        covariates and the transplant; and the truth.

    Raises
    ------
    ValueError
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
    seed : int
        Non-negative; the same seed gives the same table.
    n_patients, n_consolidation, n_maintenance : int, optional
        Exact numbers of patients in all, in consolidation and in maintenance.
    truth : Truth, optional
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
    ValueError
        If the seed is negative, if the numbers are not 0 <= maintenance <= consolidation <= all,
        or if too few patients reach a lottery in every one of many draws.

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
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer; got {seed}.")
    if not 0 <= n_maintenance <= n_consolidation <= n_patients or n_patients < 1:
        raise ValueError(
            "expected 0 <= n_maintenance <= n_consolidation <= n_patients and a patient; got "
            f"{n_maintenance}, {n_consolidation}, {n_patients}."
        )
    truth = Truth() if truth is None else truth
    most = (-1, -1)
    for attempt in range(MAX_DRAWS):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(attempt,)))
        drawn = _draw(rng, n_patients, n_consolidation, n_maintenance, truth)
        if isinstance(drawn, pd.DataFrame):
            return drawn
        most = max(most, drawn)
    raise ValueError(
        f"in {MAX_DRAWS} draws of {n_patients} patients, at best {max(most[0], 0)} reached the "
        f"start of consolidation ({n_consolidation} wanted) and {max(most[1], 0)} that of "
        f"maintenance ({n_maintenance} wanted): ask for fewer or draw more patients."
    )


def _draw(
    rng: np.random.Generator,
    n_patients: int,
    n_consolidation: int,
    n_maintenance: int,
    truth: Truth,
) -> pd.DataFrame | tuple[int, int]:
    """Draw one table, or return how many reached the lotteries if these are too few."""
    table = _draw_covariates(rng, n_patients, truth)
    censoring = rng.uniform(*truth.follow_up, n_patients)

    early_death = _next_event(
        rng,
        np.zeros(n_patients),
        np.outer(
            truth.relative_hazard("no_remission", table), truth.baseline["no_remission"].hazards
        ),
        np.array(truth.baseline["no_remission"].cuts),
    )
    log_odds = truth.remission_log_odds["intercept"] + truth._design(table) @ np.array(
        [truth.remission_log_odds[t] for t in TERMS]
    )
    responder = rng.random(n_patients) < 1.0 / (1.0 + np.exp(-log_odds))
    remission = rng.uniform(*truth.remission_month, n_patients)
    in_remission = responder & (remission < early_death)

    hazards = _RemissionHazards.from_truth(truth, table)
    death, relapse = hazards.draw(rng, remission)
    transplant = remission + rng.exponential(1.0 / truth.transplant_hazard, n_patients)
    transplant[transplant > remission + truth.transplant_window] = np.inf
    leaves = np.minimum.reduce([death, relapse, transplant, censoring])

    consolidation = truth.consolidation_month[0] + rng.exponential(
        truth.consolidation_month[1], n_patients
    )
    reached = in_remission & (consolidation < leaves)
    n_reached = int(reached.sum())
    if n_reached < n_consolidation:
        return n_reached, -1
    consolidated = _lottery(rng, reached, n_consolidation)
    maintenance = (
        consolidation
        + truth.maintenance_gap[0]
        + rng.exponential(truth.maintenance_gap[1], n_patients)
    )
    reached = consolidated & (maintenance < leaves)
    if int(reached.sum()) < n_maintenance:
        return n_reached, int(reached.sum())
    maintained = _lottery(rng, reached, n_maintenance)

    transplanted = in_remission & ~maintained & (transplant == leaves)
    changes = np.where(maintained, maintenance, transplant)
    log_ratios = {
        endpoint: np.where(
            maintained, truth.log_hazard_ratio[endpoint], truth.transplant_log_hazard_ratio
        )
        for endpoint in ENDPOINTS
    }
    changed = maintained | transplanted
    later_death, later_relapse = hazards.draw(
        rng, np.where(changed, changes, remission), log_ratios=log_ratios
    )
    death = np.where(changed, later_death, np.where(in_remission, death, early_death))
    relapse = np.where(changed, later_relapse, relapse)

    failure = np.minimum(relapse, death)
    nan = np.nan
    out = pd.DataFrame(
        {
            "patient_id": "SYN-" + pd.Series(np.arange(1, n_patients + 1).astype(str)).str.zfill(4),
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
    out = pd.concat([out, table], axis=1)
    out.attrs["synthetic"] = True
    return out


def _draw_covariates(rng: np.random.Generator, n_patients: int, truth: Truth) -> pd.DataFrame:
    age = rng.choice(len(AGE_GROUPS), n_patients, p=np.array(truth.age_group_probabilities))
    salvage = rng.random(n_patients) < truth.prior_salvage_probability
    low, high = BLASTS_RANGE
    return pd.DataFrame(
        {
            "age_group": np.array(AGE_GROUPS, dtype=object)[age],
            "prior_salvage": np.array(PRIOR_SALVAGE, dtype=object)[salvage.astype(int)],
            "marrow_blasts": low + (high - low) * rng.beta(*truth.blasts_shape, n_patients),
        }
    )


class _RemissionHazards(NamedTuple):
    """Hazards per month of patients in remission, shape ``(patient, piece)``, and their cuts."""

    cuts: Floats
    death: Floats
    failure: Floats

    @classmethod
    def from_truth(cls, truth: Truth, table: pd.DataFrame) -> _RemissionHazards:
        cuts = truth._joint_cuts()
        ends = np.append(cuts, np.inf)
        death, failure = (
            np.outer(truth.relative_hazard(e, table), truth.baseline[e].at(ends)) for e in ENDPOINTS
        )
        return cls(cuts, death, failure)

    def draw(
        self,
        rng: np.random.Generator,
        start: Floats,
        *,
        log_ratios: Mapping[str, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Months of death and of relapse after `start`, as if neither stopped the other."""
        death, failure = self.death, self.failure
        if log_ratios is not None:
            death = death * np.exp(log_ratios["os"])[:, None]
            failure = failure * np.exp(log_ratios["rfs"])[:, None]
        return (
            _next_event(rng, start, death, self.cuts),
            _next_event(rng, start, failure - death, self.cuts),
        )


def _next_event(rng: np.random.Generator, start: Floats, hazards: Floats, cuts: Floats) -> Floats:
    """First event after `start` by inversion of the cumulative hazard.

    `start` has shape ``(patient,)``, `hazards` ``(patient, piece)``, `cuts` one less than pieces.
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


def _lottery(
    rng: np.random.Generator, reached: npt.NDArray[np.bool_], places: int
) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(reached.size, dtype=bool)
    chosen[rng.choice(np.flatnonzero(reached), places, replace=False)] = True
    return chosen


def _expect_names(what: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    if missing or unknown:
        raise ValueError(
            f"{what} must name exactly {', '.join(expected)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
