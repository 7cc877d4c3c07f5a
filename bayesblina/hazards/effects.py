"""Phase contrasts, standardised covariates, classes and groups of patterns: numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.hazards.definition import ModelDefinition, require_roles
from bayesblina.hazards.parts import Differing, PatientFrailty, PhasesSinceEntry
from bayesblina.person_time.cells import PersonTime

# Of the events of one endpoint, in patients still followed for another, this share may be events of
# the other at the same time by chance.
SHARED_BY_CHANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """What multiplies the log hazard ratios, and who shares which hazard.

    Patterns of one class have proportional hazards throughout. Classes are the combinations of
    sources, whose phases may have effects of their own, of strata, which have baselines of their
    own, and of subgroups, in which the exposed phase has an effect of its own; most models have one
    class. Those of the current patients come first.

    `effects`: phases that have an effect, the exposed one first.
    `contrast`, shape (state, effect): indicators; the reference has none. States are the entries of
    the person-time's dimension ``phase``: the phases, of which one may be cut by time since
    entering it.
    `exposed`, shape (state,): 1 for the exposed phase.
    `pieces`, shape (state, piece): indicators of the exposed phase's pieces by time since entry; no
    columns unless it is cut.
    `term_names`: covariate terms.
    `terms`, shape (pattern, term): standardised terms of each pattern.
    `columns`, shape (term,): their columns in the person-time's ``design``.
    `centre`, `scale`, shape (term,): what was subtracted from the raw terms and what they were
    divided by.
    `strata`, `subgroups`: levels; one empty name where there are none.
    `blocks`: number of sources that have classes of their own, the current patients among them; 1
    where all patients share them.
    `class_of`, shape (pattern,): class: (source x number of strata + stratum) x number of subgroups
    + subgroup.
    `groups`: levels whose hazards differ at random, or the patterns (patients); empty where none
    do.
    `group_of`, shape (pattern,): group of each pattern; 0 where there are none.
    `sources`: external sources whose hazards may differ; empty where there are none, or where they
    count as the current patients do.
    `source_of`, shape (pattern,): 0 for current patients, else the source's position from 1 on.
    """

    effects: tuple[str, ...]
    contrast: Floats
    exposed: Floats
    pieces: Floats
    term_names: tuple[str, ...]
    terms: Floats
    columns: Ints
    centre: Floats
    scale: Floats
    strata: tuple[str, ...]
    subgroups: tuple[str, ...]
    blocks: int
    class_of: Ints
    groups: tuple[str, ...]
    group_of: Ints
    sources: tuple[str, ...]
    source_of: Ints

    @property
    def class_shape(self) -> tuple[int, int, int]:
        """Numbers of sources, strata and subgroups, whose combinations classes are."""
        return self.blocks, len(self.strata), len(self.subgroups)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.blocks * self.current_classes

    @property
    def current_classes(self) -> int:
        """Number of classes of current patients, which come first."""
        return len(self.strata) * len(self.subgroups)

    @property
    def member(self) -> NDArray[np.bool_]:
        """Whether patterns are of classes, shape (class, pattern)."""
        return np.asarray(np.arange(self.classes)[:, None] == self.class_of)

    @property
    def by_cell(self) -> Floats:
        """Effects and terms that act in each cell, shape (state x pattern, effect + term)."""
        in_state = np.repeat(self.contrast, self.terms.shape[0], axis=0)
        return np.concatenate([in_state, np.tile(self.terms, (self.exposed.size, 1))], axis=1)

    @property
    def stratum_of(self) -> Ints:
        """Stratum of each pattern."""
        return np.asarray(np.unravel_index(self.class_of, self.class_shape)[1])

    @property
    def subgroup_of(self) -> Ints:
        """Subgroup of each pattern."""
        return np.asarray(np.unravel_index(self.class_of, self.class_shape)[2])

    def current_class(self, stratum: Ints, subgroup: Ints) -> Ints:
        """Class of current patients of a stratum and a subgroup."""
        return np.asarray(np.ravel_multi_index((0 * stratum, stratum, subgroup), self.class_shape))

    @property
    def is_current(self) -> NDArray[np.bool_]:
        """Whether the patterns are those of current patients."""
        return np.asarray(self.source_of == 0)

    def standardised(self, raw: Floats) -> Floats:
        """Standardise covariate terms of other patients, as in the person-time's ``design``."""
        return np.asarray((raw[:, self.columns] - self.centre) / self.scale)


def make_design(person_time: PersonTime, definition: ModelDefinition) -> Design:
    """Work out phase contrasts, standardised covariates, classes and groups.

    Continuous terms are centred at their mean over patients and divided by their sd; indicators
    of levels are centred only, so that their coefficient stays that of the level. Covariates that
    make strata or groups have no term.
    """
    table, raw = person_time.table, person_time.table["design"].values
    levels = {
        covariate.name: covariate.levels
        for covariate in person_time.covariates
        if covariate.kind == "categorical"
    }
    roles = require_roles(definition, levels)
    role, treatment = table["role"].values, np.asarray(table["treatment"].values).astype(str)
    exposed = role == "exposed"
    effects = tuple(dict.fromkeys([*treatment[exposed], *treatment[role == "other"]]))
    pieces = np.eye(treatment.size)[:, exposed]
    if not isinstance(definition.phases, PhasesSinceEntry):
        pieces = pieces[:, :0]
    names = [str(name) for name in table["term"].values]
    apart = tuple(f"{roles[own]}[" for own in ("stratum", "group", "source") if own in roles)
    columns = np.array(
        [i for i, name in enumerate(names) if not name.startswith(apart)], dtype=np.int64
    )
    raw_kept, patients = raw[:, columns], table["patients"].values
    centre = np.average(raw_kept, axis=0, weights=patients)
    spread = np.sqrt(np.average((raw_kept - centre) ** 2, axis=0, weights=patients))
    indicator = ((raw_kept == 0) | (raw_kept == 1)).all(axis=0)
    scale = np.where(indicator, 1.0, spread)
    (strata, stratum), (subgroups, subgroup), (groups, group), (sources, source) = (
        levels_of(person_time, roles.get(own), raw)
        for own in ("stratum", "subgroup", "group", "source")
    )
    borrowing = definition.borrowing
    covers = borrowing.covers if isinstance(borrowing, Differing) else ()
    blocks = len(sources) if {"phases", "shape"} & set(covers) else 1
    if isinstance(definition.groups, PatientFrailty):
        if not person_time.by_patient:
            raise SpecError(
                f"Model '{definition.name}' has an effect for each patient: sum events and "
                "person-time with person_time(..., by_patient=True)."
            )
        _require_separate(person_time, definition)
        group = np.arange(raw.shape[0])
        groups = tuple(map(str, group))
    return Design(
        effects=effects,
        contrast=(treatment[:, None] == np.array(effects)).astype(np.float64),
        exposed=exposed.astype(np.float64),
        pieces=pieces,
        term_names=tuple(names[index] for index in columns),
        terms=(raw_kept - centre) / scale,
        columns=columns,
        centre=centre,
        scale=scale,
        strata=strata,
        subgroups=subgroups,
        blocks=blocks,
        class_of=np.asarray(
            np.ravel_multi_index(
                (source * (blocks > 1), stratum, subgroup), (blocks, len(strata), len(subgroups))
            )
        ),
        groups=groups if definition.groups is not None else (),
        group_of=group,
        sources=sources[1:] if covers else (),
        source_of=source,
    )


def levels_of(
    person_time: PersonTime, covariate: str | None, raw: Floats
) -> tuple[tuple[str, ...], Ints]:
    """Read a categorical covariate's levels back off covariate terms.

    `covariate`: its name; None for no covariate.
    `raw`, shape (pattern, raw term): terms, as in the person-time's ``design``.
    Result: `levels`: levels, the reference first; one empty name without a covariate.
    `level`, shape (pattern,): level of each pattern.
    """
    level = np.zeros(raw.shape[0], dtype=np.int64)
    if covariate is None:
        return ("",), level
    categorical = next(known for known in person_time.covariates if known.name == covariate)
    names = person_time.table["term"].values.tolist()
    for index, name in enumerate(categorical.levels[1:], start=1):
        level[raw[:, names.index(f"{covariate}[{name}]")] == 1.0] = index
    return categorical.levels, level


def indicators(count: int, member_of: Ints) -> Floats:
    """Say of groups 0 to `count` - 1 who is in which: 1 or 0, shape (group, member)."""
    return np.asarray(np.arange(count)[:, None] == member_of, dtype=np.float64)


def _require_separate(person_time: PersonTime, definition: ModelDefinition) -> None:
    """Refuse endpoints that share events where patients have one effect on all endpoints.

    Whatever ends two endpoints at once is one event. Counted in both it looks like patients who
    have either event early, which is what the effects are there to find.
    """
    people = person_time.people
    exit_, event = people["exit"].values, people["event"].values
    for first, other in permutations(range(len(person_time.endpoints)), 2):
        near = TIE_TOLERANCE * np.abs(exit_[first])
        followed = event[first] & (exit_[other] >= exit_[first] - near)
        shared = followed & event[other] & (exit_[other] <= exit_[first] + near)
        count, of = int(shared.sum()), int(followed.sum())
        if count > SHARED_BY_CHANCE * of:
            name, larger = person_time.endpoints[first], person_time.endpoints[other]
            raise SpecError(
                f"Model '{definition.name}' gives a patient one effect on all endpoints, but "
                f"{count} of the {of} events of {name} in patients still followed for {larger} are "
                f"events of {larger} at the same moment. Their effects would be learnt from that, "
                f"and move the hazard ratios: ask for one of the two (endpoints of the question, "
                f"such as ['{name}']), or take a model without effects of single patients; "
                "'illness_death' has relapse and death together."
            )
