"""Whose covariates an estimate is averaged over: the eligible, supplied patients, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import EstimandError, nearest
from bayesblina.hazards.effects import Design, levels_of
from bayesblina.hazards.likelihood import cured_given_survival, hazard_of_segments, segments_of
from bayesblina.hazards.log_hazards import (
    cured_log_odds,
    group_effects,
    group_sd,
    log_hazard,
    new_group_nodes,
    relative_of,
    sums,
)
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import CovariateTerms, PersonTime

# A cohort whose patients' covariates are averaged over, or the covariates of one patient.
Population = Cohort | Mapping[str, str | float]

# Times at which patients came under observation are put into no more groups than this.
ENTRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Patients whose estimate is averaged.

    `label`: the subgroup; empty for everybody.
    `terms`, shape (pattern, raw term): their covariate terms, as in the person-time's ``design``.
    `weight`, shape (pattern,): share of the patients; sums to 1.
    `patterns`, shape (pattern,): their patterns in the person-time, rising; None for patients who
    are not in it.
    """

    label: str
    terms: Floats
    weight: Floats
    patterns: Ints | None

    def members(
        self, fit: Fit, *, endpoint: str, landmark: float, free_of: tuple[str, ...] = ()
    ) -> list[Members]:
        """Work out hazards relative to mean covariates, class by class.

        Patients in the person-time have their own groups' effects, and where some are cured they
        are so with the probability that their own follow-up up to the landmark leaves. Others
        belong to new groups, over which is integrated by quadrature, given what is known of them:
        that they are event-free at the landmark. They came under observation when the patients of
        the fit did, and were in the reference state until then.

        `landmark`: where patients are event-free.
        `free_of`: the endpoints of which they are; by default this one. Only several that single
        patients' effects act on.
        """
        posterior, design, roles = fit.posterior, fit.design, fit.definition.roles
        _, stratum = levels_of(fit.person_time, roles.get("stratum"), self.terms)
        _, subgroup = levels_of(fit.person_time, roles.get("subgroup"), self.terms)
        class_of = design.current_class(stratum, subgroup)
        terms = design.standardised(self.terms)
        log_relative = relative_of(posterior, design, terms, endpoint=endpoint)
        sd = group_sd(posterior, endpoint=endpoint)
        log_odds = cured_log_odds(posterior, design, terms, endpoint=endpoint)
        weight, cured, draws = self.weight, None, log_relative.shape[0]
        if self.patterns is not None:
            if sd is not None:
                effects = group_effects(posterior, design, endpoint=endpoint)
                log_relative = log_relative + effects[:, self.patterns]
            if log_odds is not None:
                cured = self._cured(fit, log_odds, endpoint=endpoint, landmark=landmark)
        elif log_odds is not None or sd is not None:
            # What being event-free at the landmark says of patients who are not in the person-time:
            # weights of the nodes of their groups' effects, and who is cured; (draws, pattern,
            # node).
            free = self._log_free(fit, class_of, free_of or (endpoint,), landmark)
            if log_odds is not None:
                cured = cured_given_survival(log_odds[:, :, None], -free).reshape(draws, -1)
                free = np.logaddexp(log_odds[:, :, None], free)
            if sd is not None:
                nodes, shares = new_group_nodes()
                given = np.log(shares) + free
                given = np.exp(given - logsumexp(given, axis=2, keepdims=True))
                log_relative = log_relative[:, :, None] + sd[:, None, None] * nodes
                weight = (weight[:, None] * given).reshape(draws, -1)
                class_of = np.repeat(class_of, nodes.size)
        return _by_class(class_of, np.exp(log_relative).reshape(draws, -1), weight, cured)

    def _log_free(
        self, fit: Fit, class_of: Ints, free_of: tuple[str, ...], landmark: float
    ) -> Floats:
        """Log probability that who is not cured is event-free at the landmark.

        Averaged over when patients come under observation; shape (draws, pattern, node).
        """
        posterior, person_time, design = fit.posterior, fit.person_time, fit.design
        share, spans = _spans_before(person_time, design, free_of[0], landmark)
        first = int(np.flatnonzero(person_time.table["role"].values == "reference")[0])
        terms = design.standardised(self.terms)
        relative, before = [], []
        for name in free_of:
            shared = log_hazard(posterior, design, endpoint=name).shared[..., first]
            shift = relative_of(posterior, design, terms, endpoint=name)[:, :, None]
            sd = group_sd(posterior, endpoint=name)
            if sd is not None:
                shift = shift + sd[:, None, None] * new_group_nodes()[0]
            relative.append(np.exp(shift))
            # (draws, pattern, span)
            before.append((np.exp(shared) @ spans.T)[:, class_of])

        def passed(span: int) -> Floats:
            parts = zip(relative, before, strict=True)
            return np.asarray(sum(ratio * hazard[..., span, None] for ratio, hazard in parts))

        # The last span is the shortest: survival through it is the largest, and does not vanish.
        least = passed(-1)
        alive = sum(part * np.exp(least - passed(index)) for index, part in enumerate(share))
        return np.asarray(np.log(alive) - least)

    def _cured(self, fit: Fit, log_odds: Floats, *, endpoint: str, landmark: float) -> Floats:
        """Probability of being cured given event-free at the landmark, shape (draws, pattern)."""
        assert self.patterns is not None
        person_time, design = fit.person_time, fit.design
        hazards = log_hazard(fit.posterior, design, endpoint=endpoint)
        people = person_time.people.sel(endpoint=endpoint)
        pattern = people["pattern"].values
        earlier = segments_of(person_time, endpoint, until=landmark)
        passed = sums(
            hazard_of_segments(hazards, earlier, pattern).T, earlier.patient, pattern.size
        )
        at_risk = (people["begin"].values <= landmark) & (people["exit"].values > landmark)
        who = np.flatnonzero(at_risk & np.isin(pattern, self.patterns))
        row = np.searchsorted(self.patterns, pattern[who])
        each = cured_given_survival(log_odds.T[row], passed[who])
        weight = people["weight"].values[who][:, None]
        total = sums(weight, row, self.patterns.size)
        return np.asarray((sums(weight * each, row, self.patterns.size) / total).T)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """Patients of a group who are of one class.

    `relative`, shape (draws, member): relative hazards; 0 for patients who are cured.
    `weight`, shape (member,) or (draws, member): share of the class's members; sums to 1.
    `share`: share of the group that is of this class.
    """

    class_: int
    relative: Floats
    weight: Floats
    share: float


def _by_class(
    class_of: Ints, relative: Floats, weight: Floats, cured: Floats | None
) -> list[Members]:
    """Take members apart by class; the cured among them are as many more with no hazard."""
    members = []
    for class_ in np.unique(class_of):
        inside = class_of == class_
        # The same in every draw: patients keep their share, whatever their effects.
        share = float(weight[..., inside].sum(axis=-1).flat[0])
        ratio, own = relative[:, inside], weight[..., inside] / share
        if cured is not None:
            never = (own * cured[:, inside]).sum(axis=1, keepdims=True)
            own = np.concatenate([own * (1.0 - cured[:, inside]), never], axis=1)
            ratio = np.concatenate([ratio, np.zeros(never.shape)], axis=1)
        members.append(Members(class_=int(class_), relative=ratio, weight=own, share=share))
    return members


def _spans_before(
    person_time: PersonTime, design: Design, endpoint: str, landmark: float
) -> tuple[Floats, Floats]:
    """Time under observation before a landmark, as the patients of a fit had it.

    Of all who came under observation by then, whether they are still event-free or not: their
    shares, shape (span,), and the time in each interval, shape (span, interval), the longest span
    first. Many spans are put together, equally many patients in each.
    """
    people, persons = person_time.patients().people, person_time.persons
    begin = persons.follow_up(people)[0][person_time.endpoints.index(endpoint)]
    # The first row of each: the others are the same patient's, later.
    first = np.unique(persons.of, return_index=True)[1]
    pattern = people["pattern" if person_time.compression is None else "category"].values[first]
    known = begin <= landmark
    if design.sources:
        known &= design.source_of[np.where(known, pattern, 0)] == 0
    if not known.any():
        return np.ones(1), np.zeros((1, person_time.table.sizes["interval"]))
    starts, which = np.unique(begin[known], return_inverse=True)
    weight = np.bincount(which, weights=people["weight"].values[first][known])
    edges = np.concatenate([[0.0], person_time.cuts, [np.inf]])
    low = np.maximum(starts[:, None], edges[:-1])
    spans = np.maximum(np.minimum(landmark, edges[1:]) - low, 0.0)
    if starts.size > ENTRIES:
        middle = (np.cumsum(weight) - weight / 2.0) / weight.sum()
        group = np.minimum((middle * ENTRIES).astype(np.int64), ENTRIES - 1)
        _, group = np.unique(group, return_inverse=True)
        member = (np.arange(group.max() + 1)[:, None] == group) * weight
        weight = member.sum(axis=1)
        spans = (member @ spans) / weight[:, None]
    return weight / weight.sum(), spans


def groups_of(
    fit: Fit,
    population: Population | None,
    *,
    by: str | None,
    at_risk: Sequence[Floats] | Floats | None,
    who: str,
) -> tuple[list[list[Group]], str]:
    """Group the patients to average over, endpoint by endpoint, and say who they are.

    `at_risk`, shape (endpoint, pattern): how many eligible patients there are, of whose endpoints
    groups are wanted; None where the population is given, whose groups are the same for all
    endpoints.
    `who`: words for the eligible patients.
    """
    person_time, design, roles = fit.person_time, fit.design, fit.definition.roles
    if population is not None:
        supplied, who = supplied_groups(
            person_time, population, by=by, group=roles.get("group"), source=roles.get("source")
        )
        groups = [supplied] * len(person_time.endpoints)
    else:
        assert at_risk is not None
        if fit.definition.borrowing is not None:
            at_risk = np.where(design.is_current, at_risk, 0.0)
            who = who.replace("eligible", "current eligible")
        terms = person_time.table["design"].values
        groups = [
            _split(person_time, terms, counts, by=by, where=f"{name}: at the landmark", known=True)
            for name, counts in zip(person_time.endpoints, at_risk, strict=False)
        ]
    return groups, who if by is None else f"{who}, by {by}"


def supplied_groups(
    person_time: PersonTime,
    population: Population,
    *,
    by: str | None,
    group: str | None = None,
    source: str | None = None,
) -> tuple[list[Group], str]:
    """Group supplied patients by their covariates.

    `by`: categorical covariate to group by; None for one group.
    `group`: covariate whose levels are the model's groups: supplied patients belong to new ones, so
    it is not needed.
    """
    known = {
        covariate.name: covariate
        for covariate in person_time.covariates
        if covariate.name not in (group, source)
    }
    if isinstance(population, Cohort):
        values = {name: _values_in(population, covariate) for name, covariate in known.items()}
        size, who = population.size, f"{population.size} supplied patients"
    elif isinstance(population, Mapping):
        _require_names(population, list(known), group=group, source=source)
        values = {name: np.array([population[name]], dtype=object) for name in known}
        size, words = 1, ", ".join(f"{name} {population[name]}" for name in known)
        who = f"a patient with {words}"
    else:
        raise EstimandError(
            "population must be a Cohort or a mapping of covariates to one patient's values, got "
            f"{type(population).__name__}."
        )
    columns: dict[str, Floats] = {}
    outside = np.zeros(size, dtype=bool)
    for name, covariate in known.items():
        outside |= _add_terms(columns, covariate, values[name])
    terms = [columns.get(str(name), np.zeros(size)) for name in person_time.table["term"].values]
    matrix = np.array(terms).T.reshape(size, len(terms))
    if outside.any():
        who += f" ({int(outside.sum())} outside the range of the patients fitted)"
    unique, count = np.unique(matrix, axis=0, return_counts=True)
    if not terms:
        unique, count = np.zeros((1, 0)), np.array([size])
    groups = _split(
        person_time, unique, count.astype(np.float64), by=by, where="the population", known=False
    )
    return groups, who if group is None else f"{who}, of new {group}"


def _values_in(cohort: Cohort, covariate: CovariateTerms) -> NDArray[np.generic]:
    """Take a covariate of the model from a cohort; the levels where it has any."""
    name = covariate.name
    if name not in cohort.covariates:
        raise EstimandError(
            f"The population has no covariate '{name}', which is in the model. "
            f"{nearest(name, list(cohort.covariates))}"
        )
    given = cohort.covariates[name]
    if given.kind != covariate.kind:
        raise EstimandError(
            f"'{name}' is {given.kind} in the population and {covariate.kind} in the model."
        )
    if given.kind == "continuous":
        return given.values
    return np.asarray(given.levels, dtype=object)[given.values.astype(np.int64)]


def _require_names(
    population: Mapping[str, str | float],
    names: Sequence[str],
    *,
    group: str | None,
    source: str | None,
) -> None:
    """Refuse a patient's covariates that are not those of the model, all of them."""
    left_out = {
        group: "makes the model's groups, and supplied patients belong to new ones",
        source: "tells external patients, and supplied ones are as the current",
    }
    for name in population:
        if name in left_out:
            raise EstimandError(f"'{name}' {left_out[name]}: leave it out.")
        if name not in names:
            raise EstimandError(f"The model has no covariate '{name}'. {nearest(str(name), names)}")
    missing = [name for name in names if name not in population]
    if missing:
        raise EstimandError(f"Give the patient's {', '.join(missing)} too: the model has it.")


def _add_terms(
    columns: dict[str, Floats], covariate: CovariateTerms, values: NDArray[np.generic]
) -> Bools:
    """Add a covariate's terms; say which values lie outside what was fitted."""
    name = covariate.name
    if covariate.kind == "categorical":
        labels = values.astype(str)
        unknown = sorted(set(labels.tolist()) - set(covariate.levels))
        if unknown:
            raise EstimandError(
                f"{name}: the model has seen no patient with '{unknown[0]}'; its levels are "
                f"{', '.join(covariate.levels)}."
            )
        columns |= {
            f"{name}[{level}]": (labels == level).astype(np.float64)
            for level in covariate.levels[1:]
        }
        return np.zeros(values.size, dtype=bool)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise EstimandError(f"{name} must be a number, got {values[0]!r}.") from None
    if not np.isfinite(numbers).all():
        raise EstimandError(f"{name} must be finite.")
    low, high = covariate.low, covariate.high
    if low == high and (numbers != low).any():
        raise EstimandError(
            f"{name} is {low:g} in every patient fitted: the model knows nothing of other values."
        )
    columns[name] = numbers
    return np.asarray((numbers < low) | (numbers > high))


def _split(
    person_time: PersonTime,
    terms: Floats,
    patients: Floats,
    *,
    by: str | None,
    where: str,
    known: bool,
) -> list[Group]:
    """Split patterns into groups by a categorical covariate."""
    counted = {"": patients}
    if by is not None:
        if not isinstance(by, str):
            raise EstimandError(f"by must be the name of one covariate, got {by!r}.")
        categorical = [
            covariate.name
            for covariate in person_time.covariates
            if covariate.kind == "categorical"
        ]
        if by not in categorical:
            raise EstimandError(
                f"by: no categorical covariate '{by}' in the model. {nearest(by, categorical)}"
            )
        levels, level = levels_of(person_time, by, terms)
        counted = {
            name: np.where(level == index, patients, 0.0) for index, name in enumerate(levels)
        }
    groups = []
    for label, counts in counted.items():
        used = np.flatnonzero(counts)
        if by is not None and not used.size:
            raise EstimandError(f"{where}: nobody has {by} '{label}', so there is no average.")
        weight, patterns = counts[used] / counts.sum(), used if known else None
        groups.append(Group(label=label, terms=terms[used], weight=weight, patterns=patterns))
    return groups
