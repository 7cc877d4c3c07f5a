"""The figures of an analysis, by name: survival by endpoint, and hazard ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from bayesblina.core.masking.tables import TIME_DIGITS, digits
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.output.figure_files import file_name
from bayesblina.output.report.hiding import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Figures(Mapping[str, "Figure"]):
    """Figures by the names of their files, each drawn when it is asked for.

    `shown`: the results, without what would tell a small count.
    `curves`: draws of survival at the first landmark.
    """

    shown: Shown
    curves: Dataset

    @property
    def _endpoints(self) -> dict[str, str]:
        """Endpoints that have curves, by the name of the figure."""
        endpoints = self.shown.results.tables["survival"]["endpoint"].unique()
        return {f"survival_{file_name(name)}": name for name in map(str, endpoints)}

    def __repr__(self) -> str:
        """Name the figures."""
        return f"Figures({', '.join(self)})"

    def __iter__(self) -> Iterator[str]:
        """Name the figures."""
        yield from self._endpoints
        if len(self.shown.results.tables["hazard_ratios"]):
            yield "hazard_ratio"

    def __len__(self) -> int:
        """Count the figures."""
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Figure:
        """Draw a figure."""
        if name not in list(self):
            raise KeyError(f"no figure '{name}': there are {', '.join(self) or 'none'}")
        from bayesblina.output import plots

        if name == "hazard_ratio":
            fit = self.shown.results.fit
            prior, ratios = fit.definition.phases.prior, hazard_ratio(fit)
            endpoints = list(map(str, self.shown.results.tables["hazard_ratios"]["endpoint"]))
            # In the order of the draws.
            kept = [
                endpoint
                for endpoint in map(str, ratios["endpoint"].values)
                if endpoint in endpoints
            ]
            return plots.hazard_ratio(ratios.sel(endpoint=kept), prior=(prior.mean, prior.sd))
        endpoint = self._endpoints[name]
        curves = self.curves
        if self.shown.minimum > 1:
            # The last time is some patient's own.
            times = [digits(time, TIME_DIGITS) for time in curves["time"].values.tolist()]
            curves = curves.assign_coords(time=times)
        return plots.survival(
            curves,
            endpoint=endpoint,
            observed=self._rows("simon_makuch", endpoint),
            at_risk=self._rows("at_risk", endpoint),
        )

    def _rows(self, name: str, endpoint: str) -> pd.DataFrame | None:
        """Take the rows of an endpoint at the curves' landmark, if there are any."""
        table = self.shown.results.tables.get(name)
        if table is None:
            return None
        landmark = float(self.curves.attrs["landmark"])
        rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
        return rows if len(rows) else None
