"""The published study's numbers beside those of a cohort and a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.classical.comparison import Comparison, mantel_byar_of
from bayesblina.classical.curves import median_time, simon_makuch_of
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.estimands.curves import survival_quantile
from bayesblina.estimands.regimes import From, Never, Regime
from bayesblina.estimands.summaries import summary
from bayesblina.inference.fitting import Fit, weights_of
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import DAYS_PER_UNIT

__all__ = ["compare_with_published", "published"]
SOURCE = "Blood Advances 2020;4(7):1518 (NCT02013167)"


def __dir__() -> list[str]:
    return __all__


def published() -> pd.DataFrame:
    """Numbers of the study of blinatumomab by treatment phase, as published.

    Returns
    -------
    pandas.DataFrame
        ``quantity``, ``endpoint`` (empty where there is none), ``group``, ``value``, ``lower`` and
        ``upper`` (95 % confidence interval, missing where none is given), ``unit``, ``note`` and
        ``source``. A median that was not reached is infinite, and the note says so. The
        published Mantel-Byar odds ratios are not among them: they are not known to the authors of
        this table.

    Examples
    --------
    >>> table = published()
    >>> float(table.loc[table["note"] == "", "value"].max())
    267.0
    """
    nan, percent = float("nan"), "% of patients"
    rows: list[tuple[str, str, str, float, float, float, str, str]] = [
        ("patients", "", "induction", 267, nan, nan, "patients", ""),
        ("patients", "", "consolidation", 86, nan, nan, "patients", ""),
        ("patients", "", "maintenance", 36, nan, nan, "patients", ""),
        ("median", "os", "maintenance", np.inf, nan, nan, "months", "not reached"),
        ("median", "os", "no maintenance", 15.5, nan, nan, "months", ""),
        ("median", "rfs", "maintenance", 14.5, 7.1, 21.9, "months", ""),
        ("median", "rfs", "no maintenance", 9.8, 8.5, 11.1, "months", ""),
        ("adverse events", "", "induction", 97.2, nan, nan, percent, "35 of 36, inferred"),
        (
            "adverse events",
            "",
            "consolidation",
            86.1,
            nan,
            nan,
            "% of patients",
            "31 of 36, inferred",
        ),
        (
            "adverse events",
            "",
            "maintenance",
            72.2,
            nan,
            nan,
            "% of patients",
            "26 of 36, inferred",
        ),
    ]
    columns = ["quantity", "endpoint", "group", "value", "lower", "upper", "unit", "note"]
    return pd.DataFrame(rows, columns=columns).assign(source=SOURCE)


def compare_with_published(cohort: Cohort, fit: Fit, *, landmark: float) -> pd.DataFrame:
    """Set a cohort's and a fit's medians beside the published ones.

    Parameters
    ----------
    cohort
        The patients, with endpoints called ``os`` or ``rfs``.
    fit
        A fit of them, with exposed phase ``maintenance``.
    landmark
        Time at which the posterior curves start, event-free, and maintenance with them, in the
        cohort's unit. The published curves have none; posterior medians are later for it.

    Returns
    -------
    pandas.DataFrame
        ``endpoint``, ``group``, ``source``, ``median`` in months (infinite where not reached),
        ``lower``, ``upper``, ``note``; three rows for each endpoint and group: published,
        Simon-Makuch of the cohort, posterior of the fit. Then for each endpoint the Mantel-Byar
        odds ratio (Peto) of the cohort, as source ``Mantel-Byar``, in ``median``'s place under
        ``odds_ratio``.

    Raises
    ------
    EstimandError
        If the fit is not of maintenance, or the regimes are not defined at the landmark.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> table = bb.paper.compare_with_published(cohort, fit, landmark=8.0)
    >>> list(table["source"].unique())
    ['published', 'Simon-Makuch', 'posterior', 'Mantel-Byar']
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(fit, Fit, "fit")
    if fit.question.exposure != "maintenance" or fit.question.reference is not None:
        raise EstimandError("The published comparison is of maintenance with no maintenance.")
    per_month = DAYS_PER_UNIT["months"] / DAYS_PER_UNIT[fit.person_time.unit]
    known = published().query("quantity == 'median'")
    comparison = Comparison.of(cohort, fit.question)
    curves = simon_makuch_of(comparison, weights=weights_of(fit, cohort))
    compared = mantel_byar_of(comparison)
    regimes: dict[str, Regime] = {"maintenance": From(landmark), "no maintenance": Never()}
    quantiles = survival_quantile(fit, regimes=list(regimes.values()), landmark=landmark)
    rows: list[dict[str, object]] = []
    for name in fit.person_time.endpoints:
        for group, regime in regimes.items():
            own = known[(known["endpoint"] == name) & (known["group"] == group)]
            median = median_time(curves[(curves["endpoint"] == name) & (curves["group"] == group)])
            rows += [
                *(
                    {
                        "endpoint": name,
                        "group": group,
                        "source": "published",
                        "median": row["value"],
                        "lower": row["lower"],
                        "upper": row["upper"],
                        "note": row["note"],
                    }
                    for row in own.to_dict("records")
                ),
                {
                    "endpoint": name,
                    "group": group,
                    "source": "Simon-Makuch",
                    "median": median / per_month,
                    "note": "" if np.isfinite(median) else "not reached",
                },
                {"endpoint": name, "group": group, "source": "posterior"}
                | _posterior(quantiles.sel(endpoint=name, regime=regime.label), per_month),
            ]
        odds = compared.sel(endpoint=name)
        rows.append(
            {
                "endpoint": name,
                "group": "maintenance",
                "source": "Mantel-Byar",
                "odds_ratio": float(odds["peto_odds_ratio"]),
                "lower": float(odds["peto_lower"]),
                "upper": float(odds["peto_upper"]),
                "note": "of the cohort; Peto's one-step estimate",
            }
        )
    columns = ["endpoint", "group", "source", "median", "odds_ratio", "lower", "upper", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["synthetic"] = cohort.synthetic
    return table


def _posterior(times: xr.Dataset, per_month: float) -> dict[str, object]:
    """Median of the posterior medians with its 95 % interval; infinite where not reached."""
    row = summary(times).to_dict("records")[0]
    note = f"reached within follow-up with probability {float(row['probability_reached']):.2f}"
    return {
        **{name: float(row[name]) / per_month for name in ("median", "lower", "upper")},
        "note": note,
    }
