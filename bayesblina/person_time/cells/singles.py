"""Single patients laid out with the patterns that they count in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells.each import single_patients
from bayesblina.person_time.cells.patterns import Terms
from bayesblina.person_time.cells.people import Patients
from bayesblina.person_time.compression import Compression
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import Question


def patients_in_groups(
    cohort: Cohort,
    question: Question,
    *,
    phase_cuts: Floats | None,
    weight: Floats | None,
    group: NDArray[np.integer],
    terms: Terms,
    compression: Compression | None,
    phases: Sequence[str],
) -> Patients:
    """Lay out single patients, with the patterns that they have in the table.

    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which it is cut.
    `terms`: covariate terms of each group; those of compressed covariates are not used.
    """
    episodes = find_episodes(cohort, question, phase_cuts)
    used = np.unique(np.concatenate([episode.patient for episode in episodes.values()]))
    patients = single_patients(cohort, episodes, used, weight=weight)
    position = {str(name): index for index, name in enumerate(phases)}
    states = next(iter(episodes.values())).phases
    number = np.array([position.get(name, -1) for name in states], dtype=np.int64)
    in_table = number[patients.episodes["phase"].values]
    groups = group[used].astype(np.int64)
    if compression is None:
        people = patients.people.assign(pattern=("patient", groups), category=("patient", groups))
    else:
        rows = terms.design[groups]
        for axis in compression.axes:
            rows[:, terms.names.index(axis.name)] = cohort.covariates[axis.name].values[used]
        people = patients.people.assign(
            category=("patient", groups * compression.size),
            design=(("patient", "term"), rows),
        ).assign_coords(term=np.asarray(terms.names, dtype=str))
    return Patients(
        people=people,
        episodes=patients.episodes.assign(phase=("episode", in_table)),
        left_out=patients.left_out,
    )
