"""Events and person-time by cell, as one value."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from scipy import sparse

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.courses import CourseLayout
from bayesblina.core.errors import EstimandError
from bayesblina.core.intervals import TIE_TOLERANCE, interval_of, split
from bayesblina.patients.account import Account, Line, to_html
from bayesblina.patients.persons import persons_in_order
from bayesblina.person_time.cells.lines import never_reached, summed_lines
from bayesblina.person_time.cells.patterns import CovariateTerms
from bayesblina.person_time.cells.people import Lazily, Patients, Persons
from bayesblina.person_time.compression import Compression
from bayesblina.person_time.follow_up import Episodes, LeftOut, account_of
from bayesblina.person_time.visits import Gaps

# Patients who are spread over the nodes of compressed covariates at a time.
SPREAD = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PersonTime:
    """Events and person-time by cell, and the sparse parts that belong to single patients.

    Attributes
    ----------
    table : xarray.Dataset
        ``events`` and ``person_time`` over (endpoint, interval, phase, pattern); ``interval_start``
        and ``interval_stop`` over interval (the last is infinite); over phase ``role``
        (``"exposed"``, ``"reference"`` or ``"other"``), ``treatment`` (the phase's name) and
        ``since`` (time since entering it at which the entry begins: the exposed phase has an
        entry for each piece of that time where it is cut); ``design`` over (pattern, term), the
        raw covariate terms of each pattern; ``patients`` over pattern, how many there are; over
        endpoint ``contributors``, ``first_begin`` and ``last_exit``; over (endpoint, phase)
        ``first_in``, the earliest time at which anybody is in it, and ``longest_in``, the longest
        that anybody is. Where continuous covariates are compressed
        (`bayesblina.person_time.compression`), numbers of events, patients and person-time are
        spread over nodes, and may be negative at one of them.
    unit
        Time unit.
    synthetic
        Whether the patients are simulated.
    patients
        Gives what is known of single patients.
    risk_sets : xarray.Dataset, optional
        Where only sums are known: ``at_risk`` over (endpoint, landmark, pattern), and over endpoint
        ``median_begin``, rounded up to two digits: the landmark of curves unless one is named.
    finer : xarray.Dataset, optional
        Where only sums are known: ``events`` and ``person_time`` as in the table, on intervals that
        are parts of the table's; ``interval_start`` and ``interval_stop``, which here is finite;
        ``spacing``, the unit of which times are multiples (0 for none).
    visits : xarray.Dataset, optional
        Where events are found at visits (`bayesblina.person_time.cells.found`): what is exact, and
        the gaps in which events were found, which the table has spread evenly.
    """

    table: xr.Dataset
    unit: str
    synthetic: bool
    patients: Lazily[Patients] = field(repr=False)
    risk_sets: xr.Dataset | None = None
    finer: xr.Dataset | None = None
    visits: xr.Dataset | None = None

    @property
    def complete(self) -> bool:
        """Whether every single patient is known; else only sums over them, and perhaps a sample."""
        return self.risk_sets is None

    @property
    def people(self) -> xr.Dataset:
        """Single patients: see `Patients`."""
        return self._everybody().people

    @property
    def episodes(self) -> xr.Dataset:
        """Time at risk of single patients, cut at changes of phase: see `Patients`."""
        return self._everybody().episodes

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Who does not contribute, by endpoint and reason."""
        return self.patients().left_out

    @property
    def in_pieces(self) -> bool:
        """Whether patients are pieces or copies of fewer persons."""
        return int(self.table.attrs.get("persons", self.size)) < self.size

    @property
    def period(self) -> str | None:
        """Covariate of the calendar periods that rows lie in: patients are counted, not rows."""
        # Fits that were saved before there were periods hold none.
        return str(self.table.attrs.get("period", "")) or None

    @property
    def counted(self) -> tuple[Floats, Floats]:
        """Exact events and person-time, as the table has them: without gaps between visits."""
        held = self.table if self.visits is None else self.visits
        return (
            np.asarray(held["events"].values, dtype=np.float64),
            np.asarray(held["person_time"].values, dtype=np.float64),
        )

    @property
    def persons(self) -> Persons:
        """Whose the rows of ``people`` are."""
        people = self.patients().people
        if "person" not in people:
            ids = np.asarray(people["patient"].values, dtype=str)
            return Persons(ids=ids, of=np.arange(ids.size))
        ids, of = persons_in_order(people["person"].values.astype(str))
        return Persons(ids=ids, of=of)

    def _everybody(self) -> Patients:
        if not self.complete:
            raise EstimandError(
                "This needs single patients, but only sums over them are known: they were added "
                "up in a query engine. Read the patients into memory with read_cohort (all of "
                "them, or a sample), and ask again."
            )
        return self.patients()

    @property
    def size(self) -> int:
        """Number of patients who contribute to any endpoint."""
        return round(float(self.table["patients"].values.sum()))

    @property
    def compression(self) -> Compression | None:
        """How continuous covariates are compressed; None where they are not."""
        return Compression.from_json(str(self.table.attrs["compression"]))

    def terms_of(self, rows: slice | Ints) -> Floats:
        """Raw covariate terms of single patients.

        Parameters
        ----------
        rows : slice or ndarray of int
            Positions of the patients.

        Returns
        -------
        ndarray, shape (patient, term)
            As in the table's ``design``.
        """
        people = self.patients().people
        if "design" in people:
            return np.asarray(people["design"].values[rows])
        return np.asarray(self.table["design"].values[people["pattern"].values[rows]])

    def projection(self, rows: slice | Ints = slice(None)) -> sparse.csr_array:
        """Patterns that single patients count in.

        Parameters
        ----------
        rows : slice or ndarray of int
            Positions of the patients.

        Returns
        -------
        scipy.sparse.csr_array, shape (patient, pattern)
            Rows sum to 1: one pattern for each patient, or the nodes of a compressed covariate.
        """
        people = self.patients().people
        first = people["category"].values[rows]
        compression = self.compression
        if compression is None:
            weights, columns = np.ones((first.size, 1)), first[:, None]
        else:
            names = [str(name) for name in self.table["term"].values]
            axes = [names.index(axis.name) for axis in compression.axes]
            weights = compression.projection(self.terms_of(rows)[:, axes])
            node = np.asarray(self.table["node"].values, dtype=np.int64)
            # Patterns of one category follow each other from its first node on.
            columns = first[:, None] + node[None, : compression.size]
        shape = (first.size, self.table.sizes["pattern"])
        counts = np.arange(first.size + 1) * weights.shape[1]
        return sparse.csr_array((weights.ravel(), columns.ravel(), counts), shape=shape)

    def at_risk(self, landmark: float) -> Floats:
        """Weighted numbers of patients at risk, by pattern.

        Parameters
        ----------
        landmark
            A time.

        Returns
        -------
        ndarray, shape (endpoint, pattern)
            How many are under observation and event-free there.

        Raises
        ------
        EstimandError
            If only sums are known, and not those of this landmark.
        """
        if self.risk_sets is not None:
            known = self.risk_sets["landmark"].values
            near = np.abs(known - landmark) <= TIE_TOLERANCE * np.maximum(known, landmark)
            if not near.any():
                times = ", ".join(f"{time:g}" for time in known)
                raise EstimandError(
                    f"Who is at risk at {landmark:g} is not known: only sums over patients are, "
                    f"and of landmarks those at {times}. Name it when they are summed: "
                    f"landmarks=[{landmark:g}]."
                )
            index = int(np.flatnonzero(near)[0])
            return np.asarray(self.risk_sets["at_risk"].values[:, index])
        people = self.people
        # Times that are the landmark but for rounding are the landmark.
        later = landmark * (1.0 + TIE_TOLERANCE)
        inside = (people["begin"].values <= later) & (people["exit"].values > later)
        weight = people["weight"].values
        if self.compression is None:
            pattern, size = people["pattern"].values, self.table.sizes["pattern"]
            return np.stack(
                [
                    np.bincount(pattern[present], weight[present], minlength=size)
                    for present in inside
                ]
            )
        counted, total = (
            inside * weight,
            np.zeros((len(self.endpoints), self.table.sizes["pattern"])),
        )
        for first in range(0, weight.size, SPREAD):
            rows = slice(first, first + SPREAD)
            total += counted[:, rows] @ self.projection(rows)
        return total

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Endpoint names."""
        return tuple(str(name) for name in self.table["endpoint"].values)

    @property
    def cuts(self) -> Floats:
        """Inner cut points, shape (n_intervals - 1,)."""
        return np.asarray(self.table["interval_start"].values[1:], dtype=np.float64)

    @property
    def by_patient(self) -> bool:
        """Whether every patient has a pattern of its own."""
        return bool(self.table.attrs["by_patient"])

    @property
    def courses(self) -> tuple[str, str] | None:
        """Endpoints death and relapse-free survival, where the endpoints here are transitions."""
        names = json.loads(self.table.attrs["courses"])
        return None if names is None else (str(names[0]), str(names[1]))

    @property
    def phase_cuts(self) -> Floats | None:
        """Where the exposed phase is cut, as `person_time` takes it; None where it is not."""
        layout = self.layout
        if layout is not None:
            begins = np.array(layout.exposure.steps, dtype=np.float64)
        else:
            begins = self.table["since"].values[self.table["role"].values == "exposed"]
        cuts = begins[begins > 0]
        return cuts if cuts.size else None

    @property
    def layout(self) -> CourseLayout | None:
        """How states follow from stays, where marks are each patient's own."""
        said = str(self.table.attrs.get("layout", ""))
        return CourseLayout.from_json(said) if said else None

    @property
    def recorded(self) -> dict[str, str | None]:
        """How each endpoint's events are declared to be recorded: exact, or None for no word."""
        # Fits that were saved before there was such a declaration hold none.
        said = json.loads(self.table.attrs.get("recorded", "{}"))
        return {name: said.get(name) for name in self.endpoints}

    @property
    def includes(self) -> dict[str, tuple[str, ...]]:
        """Which endpoints each is declared to include: all their events are events of it."""
        # Fits that were saved before there was such a declaration hold none.
        said = json.loads(self.table.attrs.get("includes", "{}"))
        return {name: tuple(said.get(name, ())) for name in self.endpoints}

    @property
    def weighted(self) -> bool:
        """Whether patients have weights other than 1."""
        return bool(self.table.attrs["weighted"])

    @property
    def covariates(self) -> tuple[CovariateTerms, ...]:
        """Covariates of the patients used, and how they became terms."""
        return tuple(
            CovariateTerms(**{**fields, "levels": tuple(fields["levels"])})
            for fields in json.loads(self.table.attrs["covariates"])
        )

    def account(self) -> Account:
        """Say who is in the analysis, who is not and why, and where their time was spent.

        Returns
        -------
        Account
            For each endpoint the patients left out by reason, those eligible with their events
            and time, and the same in each phase; of a scan also how events are declared to be
            recorded. At last steps of the question's measure that nobody reaches, if any.

        See Also
        --------
        bayesblina.Cohort.account : what happened before.
        """
        roles = [str(role) for role in self.table["role"].values]
        if not self.complete:
            # A scan has no account of its own.
            lines = [
                line
                for name in self.endpoints
                for line in summed_lines(
                    self.table, name, roles, self.left_out, self.recorded[name]
                )
            ]
        else:
            ids = self.persons.ids if self.period else self.people["patient"].values
            lines = [
                line
                for name in self.endpoints
                for line in account_of(self._episodes_of(name), ids, roles)
            ]
        lines += [
            Line(step="steps", phase=name, what="nobody has time at risk in it", patients=())
            for name in never_reached(self.layout, self.table["phase"].values.tolist())
        ]
        return Account(lines=tuple(lines), unit=self.unit, synthetic=self.synthetic)

    def _episodes_of(self, endpoint: str) -> Episodes:
        index = self.endpoints.index(endpoint)
        held = self.patients()
        rows = held.episodes["endpoint"].values == index
        # What lies between visits is a part of the likelihood of its own.
        between = held.episodes["gap"].values
        (patient, phase, start, stop), gap = (
            [held.episodes[name].values[chosen] for name in ("patient", "phase", "start", "stop")]
            for chosen in (rows & ~between, rows & between)
        )
        gaps = None
        if gap[0].size:
            gaps = Gaps(patient=gap[0], phase=gap[1], start=gap[2], stop=gap[3])
        last = stop == held.people["exit"].values[index][patient]
        event = last & held.people["event"].values[index][patient]
        return Episodes(
            endpoint=endpoint,
            patient=patient,
            phase=phase,
            start=start,
            stop=stop,
            event=event,
            phases=tuple(str(name) for name in self.table["phase"].values),
            phase_names=tuple(str(name) for name in self.table["treatment"].values),
            since=tuple(float(time) for time in self.table["since"].values),
            left_out=tuple(left for left in self.left_out if left.endpoint == endpoint),
            time_at_risk=float((stop - start).sum()) + (0.0 if gaps is None else gaps.time),
            events=int(event.sum()) + (0 if gaps is None else gaps.events),
            persons=self.persons.of if self.period else None,
            gaps=gaps,
        )

    def _totals(self) -> tuple[tuple[str, float, float], ...]:
        """Events and person-time of each endpoint."""
        total = self.table[["events", "person_time"]].sum(("interval", "phase", "pattern"))
        return tuple(
            (name, float(total["events"].values[index]), float(total["person_time"].values[index]))
            for index, name in enumerate(self.endpoints)
        )

    def _cells(self) -> str:
        sizes = self.table.sizes
        return (
            f"{sizes['interval']} intervals x {sizes['phase']} phases x {sizes['pattern']} patterns"
        )

    def _subjects(self) -> str:
        kind = ("weighted " if self.weighted else "") + ("synthetic " if self.synthetic else "")
        if self.in_pieces:
            return f"{self.table.attrs['persons']} {kind}patients in {self.size} pieces"
        return f"{self.size} {kind}patients"

    def __repr__(self) -> str:
        """Show counts, never patients."""
        parts = ", ".join(
            f"{name}: {events:.6g} events in {time:.6g} person-{self.unit}"
            for name, events, time in self._totals()
        )
        return f"PersonTime({self._subjects()}; {parts}; {self._cells()})"

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{events:.6g} events in {time:.6g} person-{self.unit}")
            for name, events, time in self._totals()
        ]
        return to_html(("PersonTime", self._subjects()), [*rows, ("cells", self._cells())])

    def patient_cells(self, endpoint: str) -> sparse.csr_array:
        """Time at risk by patient and cell of one endpoint, sparse.

        Parameters
        ----------
        endpoint
            Endpoint name.

        Returns
        -------
        scipy.sparse.csr_array, shape (patient, interval * phase)
            Time at risk; rows sum to each patient's time at risk. Columns run over intervals,
            phases fastest.
        """
        episodes = self._episodes_of(endpoint)
        episode, interval, length = split(episodes.start, episodes.stop, self.cuts)
        phases = self.table.sizes["phase"]
        cell = interval * phases + episodes.phase[episode]
        shape = (self.patients().people.sizes["patient"], self.table.sizes["interval"] * phases)
        return sparse.csr_array((length, (episodes.patient[episode], cell)), shape=shape)

    def exact_cells(self, weight: Floats) -> tuple[Floats, Floats]:
        """Sum patients' exact events and time at risk anew, with other weights.

        Parameters
        ----------
        weight : ndarray, shape (patient,)
            How often each patient counts.

        Returns
        -------
        events, person_time : ndarray, shape (endpoint, interval, phase, pattern)
            The sums; without gaps between visits.
        """
        shape = tuple(self.table["person_time"].shape)
        events, time = np.zeros(shape), np.zeros(shape)
        counted = sparse.diags_array(weight) @ self.projection()
        for index, name in enumerate(self.endpoints):
            time[index] = (self.patient_cells(name).T @ counted).toarray().reshape(shape[1:])
            patient, cell = self.event_cells(name)
            had = sparse.csr_array(
                (np.ones(patient.size), (cell, patient)), shape=(shape[1] * shape[2], weight.size)
            )
            events[index] = (had @ counted).toarray().reshape(shape[1:])
        return events, time

    def event_cells(self, endpoint: str) -> tuple[Ints, Ints]:
        """Return who has the event, and in which cell.

        Parameters
        ----------
        endpoint
            Endpoint name.

        Returns
        -------
        patient : ndarray of int, shape (n_events,)
            Position of the patient.
        cell : ndarray of int, shape (n_events,)
            Cell, numbered as the columns of `patient_cells`.
        """
        episodes = self._episodes_of(endpoint)
        interval = interval_of(episodes.stop[episodes.event], self.cuts)
        cell = interval * self.table.sizes["phase"] + episodes.phase[episodes.event]
        return episodes.patient[episodes.event], cell
