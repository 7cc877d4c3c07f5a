"""What figures are drawn of in these tests, and each figure drawn of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from bayesblina import plots
from bayesblina.checks.prediction import Prediction
from bayesblina.patients.account import Account, Line
from bayesblina.studies.what_if.reading import Sensitivity

TIMES = np.linspace(8.0, 24.0, 9)

ATTRIBUTES = {"synthetic": 1, "converged": 1, "unit": "months", "landmark": 8.0}

OVER = ("chain", "draw", "endpoint", "regime", "time")


def rates(seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Hazards by chain, draw, endpoint and regime: those of `from 8` are lower."""
    noise = np.random.default_rng(seed).normal(0.0, 0.2, (2, 200, 2, 2))
    return np.array(np.log([[0.06, 0.03], [0.09, 0.06]]) + noise)


def over_time(name: str, value: Callable[[Any], Any], **attributes: object) -> xr.Dataset:
    hazard = np.exp(rates())[..., None]
    values = np.broadcast_to(value(hazard), (*hazard.shape[:-1], TIMES.size))
    return xr.Dataset(
        {name: (OVER, values)},
        coords={"endpoint": ["os", "rfs"], "regime": ["never", "from 8"], "time": TIMES},
        attrs={**ATTRIBUTES, **attributes},
    )


def survival(**attributes: object) -> xr.Dataset:
    return over_time("survival", lambda hazard: np.exp(-hazard * (TIMES - 8.0)), **attributes)


def ratios(*dims: str, **attributes: object) -> xr.Dataset:
    values = np.exp(np.random.default_rng(2).normal(-0.6, 0.3, (2, 200, 2)))
    found = xr.Dataset(
        {"hazard_ratio": (("chain", "draw", "endpoint"), values)},
        coords={"endpoint": ["os", "rfs"]},
        attrs={
            **ATTRIBUTES,
            "exposed": "maintenance",
            "reference": "no maintenance",
            **attributes,
        },
    )
    for dim in dims:
        found = found.expand_dims({dim: 3}, axis=3)
        found["hazard_ratio"] = found["hazard_ratio"] * xr.DataArray([1.0, 1.5, 2.0], dims=dim)
    if "interval" in dims:
        found = found.assign_coords(interval_start=("interval", [0.0, 4.0, 10.0]))
    if "step" in dims:
        found = found.assign_coords(begins=("step", [0.0, 3.0, 6.0]))
        found.attrs |= {"scale": "months since entering maintenance"} | attributes
    return found


def occupancy() -> xr.Dataset:
    remission = np.exp(-0.05 * (TIMES - 8.0))
    relapsed = 0.6 * (1 - remission)
    parts = np.stack([remission, relapsed * 0.7, (1 - remission) * 0.4, relapsed * 0.3], axis=-1)
    values = np.broadcast_to(parts, (2, 10, 2, *parts.shape))
    over = ("chain", "draw", "regime", "time")
    return xr.Dataset(
        {
            "probability": ((*over, "state"), values),
            "relapse_probability": (over, np.broadcast_to(relapsed, values.shape[:-1])),
        },
        coords={
            "regime": ["never", "from 8"],
            "time": TIMES,
            "state": ["in remission", "alive after relapse", "dead in remission", "dead later"],
        },
        attrs=ATTRIBUTES,
    )


def simon_makuch(start: float = 8.0) -> pd.DataFrame:
    rows = [
        (name, group, time, alive, 10, 1)
        for name in ("os", "rfs")
        for group, drop in (("maintenance", 0.1), ("no maintenance", 0.2))
        for time, alive in ((start, 1.0), (12.0, 1.0 - drop), (20.0, 1.0 - 2 * drop))
    ]
    columns = ["endpoint", "group", "time", "survival", "at_risk", "events"]
    return pd.DataFrame(rows, columns=columns)


def at_risk() -> pd.DataFrame:
    table = simon_makuch()[["endpoint", "group", "time", "at_risk"]]
    table["at_risk"] = np.arange(len(table)) + 10
    return table


def summary() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "endpoint": ["os", "rfs", "os"],
            "comparison": ["maintenance", "maintenance", "age 55+"],
            "mean": [0.5, 0.85, 1.3],
            "median": [0.45, 0.81, 1.12],
            "lower": [0.23, 0.45, 0.51],
            "upper": [0.93, 1.46, 2.32],
            "r_hat": 1.0,
            "converged": [True, True, False],
        }
    )
    table.attrs["synthetic"] = True
    return table


def ladder() -> pd.DataFrame:
    rows = [
        ("os", "ever against never", 0.25, 0.12, 0.5, 86, 39, "biased: exposed before"),
        ("os", "landmark at 8", np.nan, np.nan, np.nan, 60, 20, "no finite estimate"),
        ("os", "Bayesian", 0.45, 0.23, 0.93, 86, 39, "posterior median"),
    ]
    columns = ["endpoint", "method", "estimate", "lower", "upper", "patients", "events", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["synthetic"] = True
    return table


def sensitivity() -> Sensitivity:
    rows = []
    for index, (lag, model) in enumerate(
        [("base", "base"), ("1", "base"), ("base", "weibull"), ("1", "weibull")]
    ):
        middle = -0.7 + 0.1 * (lag == "1") + 0.15 * (model == "weibull") + 0.1 * (index == 3)
        rows.append(
            {
                "scenario": f"lag = {lag}, model = {model}",
                "status": "converged",
                "reason": "",
                "lag": lag,
                "model": model,
                "endpoint": "os",
                "median": np.exp(middle),
                "lower": np.exp(middle - 0.5),
                "upper": np.exp(middle + 0.5),
                "probability_below_1": 0.99 - 0.01 * index,
                "mean_log": middle,
                "key": str(index),
            }
        )
    rows.append({"scenario": "lag = 99", "status": "failed", "reason": "no events", "key": "9"})
    return Sensitivity(table=pd.DataFrame(rows), axes=("lag", "model"), synthetic=True)


def replicated() -> xr.Dataset:
    counts = np.random.default_rng(3).poisson(4.0, (2, 100, 1, 1, 3))
    over = ("endpoint", "phase", "interval")
    return xr.Dataset(
        {
            "replicated": (("chain", "draw", *over), counts),
            "observed": (over, [[[4, 0, 5]]]),
            "p_value": (over, [[[0.5, 0.99, 0.4]]]),
        },
        coords={
            "endpoint": ["os"],
            "phase": ["maintenance"],
            "interval_start": ("interval", [0.0, 4.0, 8.0]),
        },
        attrs=ATTRIBUTES,
    )


def replicated_curves() -> xr.Dataset:
    found = survival()["survival"].isel(chain=0, regime=[0], endpoint=[0]).rename(regime="group")
    return (
        found.assign_coords(group=["no maintenance"])
        .to_dataset(name="survival")
        .assign_attrs(ATTRIBUTES)
    )


def calibration() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "endpoint": "os",
            "time": [12.0, 18.0],
            "observed": [0.8, 0.6],
            "observed_lower": [0.7, 0.5],
            "observed_upper": [0.9, 0.7],
            "predicted": [0.75, 0.65],
            "predicted_lower": [0.7, 0.6],
            "predicted_upper": [0.8, 0.7],
        }
    )
    table.attrs |= {**ATTRIBUTES}
    return table


def residuals() -> xr.Dataset:
    expected = np.array([[0.2, 0.5, 1.2]])
    event = np.array([[1.0, 0.0, 1.0]])
    over = ("endpoint", "patient")
    return xr.Dataset(
        {
            "expected": (over, expected),
            "events": (over, event),
            "residual": (over, event - expected),
        },
        coords={"endpoint": ["os"]},
        attrs=ATTRIBUTES,
    )


def prior() -> xr.Dataset:
    generator = np.random.default_rng(4)
    rate = np.exp(generator.normal(-3.0, 0.7, (200, 1, 1)))
    return xr.Dataset(
        {
            "survival": (
                ("draw", "endpoint", "phase", "time"),
                np.stack([np.exp(-rate * TIMES), np.exp(-2.0 * rate * TIMES)], axis=2),
            ),
            "pooled_survival": (("endpoint", "time"), np.exp(-0.05 * TIMES)[None]),
            "hazard_ratio": (
                ("draw", "endpoint", "interval"),
                np.exp(generator.normal(0.0, 0.7, (200, 1, 2))),
            ),
        },
        coords={"endpoint": ["os"], "phase": ["no phase", "phase"], "time": TIMES},
        attrs={**ATTRIBUTES, "baseline": "pooled"},
    )


def tipping() -> xr.Dataset:
    ratio, prevalence = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.4, 0.8])
    values = 0.99 - 0.1 * np.outer(np.log(ratio), prevalence)
    return xr.Dataset(
        {"probability_below_1": (("endpoint", "ratio", "prevalence"), values[None])},
        coords={"endpoint": ["os"], "ratio": ratio, "prevalence": prevalence},
        attrs={**ATTRIBUTES, "prevalence_exposed": 0.2},
    )


def balance() -> pd.DataFrame:
    return pd.DataFrame(
        {"covariate": ["age", "sex"], "unweighted": [0.3, -0.2], "weighted": [0.05, 0.01]}
    )


def sceptics() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": "os",
            "prior_upper": [1.05, 1.5, 3.0, 10.0],
            "probability_below_1": [0.6, 0.9, 0.96, 0.98],
            "pareto_k": [0.9, 0.5, 0.4, 0.3],
        }
    )


def account() -> Account:
    def line(step: str, what: str, count: int, **more: Any) -> Line:
        return Line(
            step=step, what=what, patients=tuple(f"ID-{one}" for one in range(count)), **more
        )

    return Account(
        unit="months",
        synthetic=True,
        lines=(
            line("read", "patients in <table> & $x$", 50),
            line("excluded", "no consent", 3),
            line("observed", "under observation", 40, endpoint="os", events=20, person_time=400.0),
            line("observed", "never under observation", 10, endpoint="os"),
            line("left out", "never under observation for this endpoint", 10, endpoint="os"),
            line("left out", "never reached consolidation", 15, endpoint="os"),
            line("eligible", "at risk", 25, endpoint="os", events=12, person_time=250.0),
            line(
                "in phase",
                "exposed",
                4,
                endpoint="os",
                phase="maintenance",
                events=2,
                person_time=50.0,
            ),
        ),
    )


def events(**attributes: object) -> xr.Dataset:
    values = np.random.default_rng(5).gamma([12.5, 3.5, 40.5], [0.1, 0.05, 0.2], (2, 200, 3))
    return xr.Dataset(
        {"event_rate": (("chain", "draw", "phase"), values)},
        coords={
            "phase": ["before a", "a", "b"],
            "events": ("phase", [12, 3, 40]),
            "person_time": ("phase", [10.0, 20.0, 5.0]),
        },
        attrs={**ATTRIBUTES, "per": "years", **attributes},
    )


def affected() -> xr.Dataset:
    values = np.random.default_rng(6).beta([3.5, 20.5], [20.5, 3.5], (2, 200, 2))
    return xr.Dataset(
        {"incidence": (("chain", "draw", "phase"), values)},
        coords={
            "phase": ["a", "b"],
            "patients": ("phase", [23, 23]),
            "with_event": ("phase", [3, 20]),
        },
        attrs=ATTRIBUTES,
    )


def by_term() -> xr.Dataset:
    terms = xr.DataArray([0.5, 2.0], dims="term", coords={"term": ["rare $x$", "often"]})
    found = events()["event_rate"].reset_coords(drop=True) * terms
    return found.to_dataset(name="event_rate").assign_attrs(events().attrs)


def left_out() -> Prediction:
    shapes = xr.DataArray(
        [0.1, 0.9, 0.3, 0.75, -0.2],
        dims="patient",
        coords={"patient": [f"P-{one}" for one in range(5)]},
    )
    return Prediction(
        elpd=-shapes,
        pareto_k=shapes,
        limit=0.7,
        effective=1.0,
        scheme="leave one patient out",
        endpoints=("os",),
        unit="months",
        converged=True,
        synthetic=True,
        follow_up=pd.DataFrame(),
    )


def scalable(*endpoints: str) -> xr.DataTree:
    """Draws of Normal(0, 1) whose prior, scaled, says that they are higher."""
    generator = np.random.default_rng(7)
    values = generator.normal(0.0, 1.0, (4, 500, len(endpoints)))
    over = ("chain", "draw", "endpoint")
    one = xr.Dataset({"log_hazard_ratio": (over, values)}, coords={"endpoint": list(endpoints)})
    prior = one["log_hazard_ratio"].sum("endpoint")
    tree = xr.DataTree.from_dict(
        {
            "/posterior": one,
            "/log_prior": xr.Dataset({"phases": prior, "covariates": -prior}),
            "/log_likelihood": xr.Dataset({"survival": 0.0 * prior - (prior**2) / 2}),
        }
    )
    tree.attrs |= ATTRIBUTES
    return tree


def turnbull() -> pd.DataFrame:
    """Curves that fall in (0, 6] and (6, 12], and at a death at 8 in the other group."""
    curves = pd.DataFrame(
        {
            "endpoint": "rfs",
            "group": ["a"] * 4 + ["b"] * 3,
            "start": [0.0, 0.0, 6.0, 15.0, 0.0, 8.0, 15.0],
            "stop": [0.0, 6.0, 12.0, 15.0, 0.0, 8.0, 15.0],
            "survival": [1.0, 0.6, 0.3, 0.3, 1.0, 0.5, 0.5],
        }
    )
    curves.attrs |= {"synthetic": True, "unit": "months"}
    return curves


# Each figure with one panel, as it may be drawn on axes of one's own; and whether it says of itself
# that patients are synthetic.
ONE_PANEL: dict[str, Callable[..., Any]] = {
    "survival": lambda **more: plots.survival(
        survival(), endpoint="os", observed=simon_makuch(), at_risk=at_risk(), **more
    ),
    "turnbull": lambda **more: plots.turnbull(turnbull(), **more),
    "hazard": lambda **more: plots.hazard(
        over_time("hazard", lambda hazard: hazard), endpoint="rfs", **more
    ),
    "cumulative_hazard": lambda **more: plots.cumulative_hazard(
        over_time("cumulative_hazard", lambda hazard: hazard * (TIMES - 8.0)), endpoint="os", **more
    ),
    "cumulative_incidence": lambda **more: plots.cumulative_incidence(
        occupancy(), event="relapse", **more
    ),
    "state_occupancy": lambda **more: plots.state_occupancy(occupancy(), regime="never", **more),
    "hazard_ratio_over_time": lambda **more: plots.hazard_ratio_over_time(
        ratios("interval"), endpoint="os", **more
    ),
    "hazard_ratio": lambda **more: plots.hazard_ratio(
        ratios(), endpoint="os", prior=(0.0, 0.8), thresholds=(1.0, 0.8), **more
    ),
    "forest": lambda **more: plots.forest(summary().assign(converged=True), **more),
    "bias_ladder": lambda **more: plots.bias_ladder(ladder(), truth={"os": 0.4}, **more),
    "replicated_events": lambda **more: plots.replicated_events(replicated(), **more),
    "replicated_simon_makuch": lambda **more: plots.replicated_simon_makuch(
        replicated_curves(), simon_makuch(), **more
    ),
    "predicted_against_observed": lambda **more: plots.predicted_against_observed(
        calibration(), **more
    ),
    "martingale_residuals": lambda **more: plots.martingale_residuals(residuals(), **more),
    "scenario_map": lambda **more: plots.scenario_map(sensitivity(), "os", "lag", "model", **more),
    "tipping_points": lambda **more: plots.tipping_points(tipping(), "os", **more),
    "balance": lambda **more: plots.balance(balance(), synthetic=True, **more),
    "sceptical_priors": lambda **more: plots.sceptical_priors(
        sceptics(), "os", synthetic=True, **more
    ),
    "patient_flow": lambda **more: plots.patient_flow(account(), **more),
    "adverse_events": lambda **more: plots.adverse_events(events(), **more),
    "pareto_k": lambda **more: plots.pareto_k(left_out(), **more),
}

SEVERAL_PANELS: dict[str, Callable[..., Any]] = {
    "prior_predictive": lambda **more: plots.prior_predictive(prior(), **more),
    "specification_curve": lambda **more: plots.specification_curve(sensitivity(), "os", **more),
    "tornado": lambda **more: plots.tornado(sensitivity(), "os", **more),
    "calibration_ranks": lambda **more: plots.calibration_ranks(
        {"primary": {"a": [25, 25, 25, 25], "b": [30, 20, 20, 30]}}, **more
    ),
    "power_scaling": lambda **more: plots.power_scaling(scalable("os"), **more),
    "power_scaling_quantities": lambda **more: plots.power_scaling_quantities(
        scalable("os", "rfs"), **more
    ),
}

# What a figure says of itself besides.
SAYS = {
    "calibration_ranks": "",
    "power_scaling": "synthetic patients - scaled prior: phases",
    "power_scaling_quantities": "synthetic patients - scaled prior: phases",
}

# Figures with a panel for each of two endpoints, regimes or phases.
TWO_PANELS: dict[str, Callable[..., Any]] = {
    "survival": lambda **more: plots.survival(
        survival(), observed=simon_makuch(), at_risk=at_risk(), **more
    ),
    "hazard": lambda **more: plots.hazard(over_time("hazard", lambda hazard: hazard), **more),
    "cumulative_incidence": lambda **more: plots.cumulative_incidence(occupancy(), **more),
    "state_occupancy": lambda **more: plots.state_occupancy(occupancy(), **more),
    "hazard_ratio_over_time": lambda **more: plots.hazard_ratio_over_time(
        ratios("interval"), **more
    ),
    "bias_ladder": lambda **more: plots.bias_ladder(
        pd.concat([ladder(), ladder().assign(endpoint="rfs")], ignore_index=True), **more
    ),
    "predicted_against_observed": lambda **more: plots.predicted_against_observed(
        pd.concat([calibration(), calibration().assign(endpoint="rfs")], ignore_index=True), **more
    ),
    "martingale_residuals": lambda **more: plots.martingale_residuals(
        xr.concat([residuals(), residuals().assign_coords(endpoint=["rfs"])], "endpoint"), **more
    ),
}

# These need draws of a fit, or single patients.
ELSEWHERE = {"prior_posterior", "chain_ranks", "swimmer"}


def labels(axis: Axes) -> list[str]:
    legend = axis.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def lines(axis: Axes) -> list[Any]:
    return list(axis.lines)


def areas(axis: Axes) -> list[Any]:
    return list(axis.collections)


def texts(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def quantiles(values: xr.DataArray, *parts: float) -> Any:
    return values.quantile(list(parts), ("chain", "draw")).values
