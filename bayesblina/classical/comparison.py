"""A question asked of a cohort: episodes, found once for all methods, and its two groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Bools, Ints
from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes, find_episodes, roles_of
from bayesblina.person_time.question import Question


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
