"""Which data sets the study of the baseline simulates; their seeds are fixed here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.studies.baseline_patients import (
    BASELINES,
    ENTRIES,
    OTHER_ARMS,
    Arm,
    one_phase,
    with_covariates,
)

SEED = 17_2026
ONE_PHASE, COVARIATES = "one phase", "two covariates"
ARMS = (ONE_PHASE, COVARIATES, *OTHER_ARMS)
RATIOS = (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the study.

    Attributes
    ----------
    arm, entry, baseline
        What is simulated; the last two are empty for arms of their own.
    patients, ratio, replications
        Patients in a data set, true hazard ratio, number of data sets.
    first
        Number of the first of them.
    """

    arm: str
    entry: str
    baseline: str
    patients: int
    ratio: float
    replications: int
    first: int = 0

    @property
    def log_ratio(self) -> float:
        """True log hazard ratio."""
        return float(np.log(self.ratio))

    @property
    def kind(self) -> Arm:
        """How to simulate and analyse it."""
        if self.arm == ONE_PHASE:
            return one_phase(self.entry, self.baseline)
        if self.arm == COVARIATES:
            return with_covariates(self.entry, self.baseline)
        return OTHER_ARMS[self.arm]

    def generator(self, replication: int) -> np.random.Generator:
        """Random numbers of one data set; those of no other."""
        return np.random.default_rng(
            [
                SEED,
                ARMS.index(self.arm),
                ENTRIES.index(self.entry) if self.entry else 0,
                BASELINES.index(self.baseline) if self.baseline else 0,
                self.patients,
                round(100 * self.ratio),
                self.first + replication,
            ]
        )

    @property
    def name(self) -> str:
        """A name for files."""
        words = (self.arm, self.entry, self.baseline, self.patients, f"{self.ratio:g}")
        return "_".join(str(word).replace(" ", "-").replace(",", "") for word in words if word)


def scenarios() -> list[tuple[str, str]]:
    """Entry and baseline."""
    return list(product(ENTRIES, BASELINES))


def first_round(replications: int) -> list[Setting]:
    """All scenarios at 86 patients."""
    return [
        Setting(ONE_PHASE, entry, baseline, 86, ratio, replications)
        for entry, baseline in scenarios()
        for ratio in RATIOS
    ]


def second_round(worst: list[tuple[str, str]], replications: int) -> list[Setting]:
    """All scenarios at 40 patients; other sizes, covariates in the worst; the other arms."""
    half, eighth = max(1, replications // 2), max(1, replications // 8)
    found = []
    for ratio in RATIOS:
        found += [
            Setting(ONE_PHASE, entry, baseline, 40, ratio, half) for entry, baseline in scenarios()
        ]
        for entry, baseline in worst:
            for arm, size, count in (
                (ONE_PHASE, 267, half),
                (ONE_PHASE, 2000, eighth),
                (COVARIATES, 86, half),
            ):
                found.append(Setting(arm, entry, baseline, size, ratio, count))
        found += [Setting(arm, "", "", 86, ratio, replications) for arm in OTHER_ARMS]
    return found
