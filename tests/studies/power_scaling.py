"""Does power-scaling tell baselines that move the hazard ratio: the measurement.

    uv run python tests/studies/power_scaling.py

The whole prior of the baseline is scaled, whatever its kind, and the index of the log hazard ratio
is held against how far the fit lies from its companion, which has no baseline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import bayesblina as bb
from bayesblina.checks.priors.scaling import SENSITIVE, sensitivity_index
from bayesblina.hazards.baseline import matern_density
from bayesblina.hazards.build import build_model
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.hazards.parts import Free, GaussianProcess, RandomWalk, Weibull
from bayesblina.inference.fitting import Fit
from tests.studies.baseline_fits import cohort_of
from tests.studies.baseline_settings import ONE_PHASE, RATIOS, Setting, scenarios

PAGE = Path(__file__).parents[2] / "docs" / "validation" / "power_scaling.md"
# In sds of the companion: what must be flagged, and what must not.
MOVED, STILL = 0.5, 0.1
WANTED, LEAST_FLAGGED, MOST_FLAGGED = 20, 18, 2
SIZES = (86, 267)
ROUNDS = 3
SEED = 20_270_118
FIRST = 700_000
DRAWS, CHAINS = 1000, 2
STIFF, STIFFER = (0.8, 1.25), (0.95, 1.0 / 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A baseline, and how stiff its prior is."""

    model: str
    prior: str
    interval: tuple[float, float]

    @property
    def definition(self) -> bb.ModelDefinition:
        """The model with that prior."""
        loaded = bb.load_model(self.model)
        if self.prior == "step":
            return loaded.with_priors(step=bb.HazardRatioPrior(hazard_ratio=self.interval))
        return loaded.with_priors(change=bb.SpreadPrior(hazard_ratio=self.interval))


CASES = (
    Case(model="primary", prior="step", interval=STIFF),
    Case(model="primary", prior="step", interval=STIFFER),
    Case(model="smooth", prior="change", interval=(0.04, 25.0)),
    Case(model="smooth", prior="change", interval=STIFF),
    Case(model="weibull", prior="change", interval=STIFF),
    Case(model="gaussian_process", prior="change", interval=STIFF),
)


def baseline_density(fit: Fit) -> xr.DataArray:
    """Log prior density of everything of a baseline, over (chain, draw), up to a constant.

    Deviations of a curve count by their standard normals: raised to a power, sds and what they are
    sds of become narrower each, which the joint density of both would not say.
    """
    baseline = fit.definition.baseline
    assert not isinstance(baseline, Free)
    posterior = fit.posterior
    model = build_model(fit.definition, fit.person_time).model
    total = np.zeros(posterior.sizes["chain"] * posterior.sizes["draw"])

    def values(name: str) -> Floats:
        dims = [str(dim) for dim in posterior[name].dims if dim not in ("chain", "draw")]
        return flat_draws(posterior, name, *dims)

    def data(name: str) -> Floats:
        return np.asarray(model[name].get_value())

    def add(standard: Floats) -> None:
        nonlocal total
        total = total - (standard.reshape(total.size, -1) ** 2).sum(axis=1) / 2.0

    add((values("level") - data("level_centre") - baseline.level.mean) / baseline.level.sd)
    if isinstance(baseline, RandomWalk):
        add(np.diff(values("log_baseline"), axis=-1) / baseline.step.sd)
        return by_draw(posterior, total)
    if "slope" in posterior:
        middle, width = data("slope_prior")
        add((values("slope") - middle) / width)
    if "length_scale" in posterior:
        middle, width = data("length_prior")
        add((np.log(values("length_scale")) - middle) / width)
    spread = "process_sd" if isinstance(baseline, GaussianProcess) else "walk_sd"
    sd = values(spread)
    add(sd / data(f"{spread}_prior"))
    mean = np.zeros(())
    if isinstance(baseline, GaussianProcess):
        density = matern_density(values("length_scale")[..., None], data("squared_frequency"))
        width = sd[..., None] * data("process_root") * np.sqrt(density)
        innovation, likely = values("process_innovation"), np.zeros(())
    else:
        width = sd[..., None] * data("inverse_roughness")
        innovation, likely = values("walk_innovation"), data("walk_centre")
        if isinstance(baseline, Weibull):
            mean = values("slope")[..., None] * data("line_coefficient")
    wide = np.sqrt(1.0 + width**2)
    # The coordinates are those of `bayesblina.hazards.components.adapted`.
    add(((likely - mean) * width / wide + innovation) / wide)
    return by_draw(posterior, total)


def by_draw(posterior: xr.Dataset, values: Floats) -> xr.DataArray:
    """Put one number per draw over (chain, draw)."""
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    coords = {"chain": posterior["chain"], "draw": posterior["draw"]}
    return xr.DataArray(values.reshape(shape), dims=("chain", "draw"), coords=coords)


def settings() -> Iterator[Setting]:
    """Data sets in the order in which they are looked at: all entries and baselines, two sizes."""
    for number in range(ROUNDS):
        for size in SIZES:
            for index, (entry, baseline) in enumerate(scenarios()):
                ratio = RATIOS[(index + number) % len(RATIOS)]
                yield Setting(ONE_PHASE, entry, baseline, size, ratio, 1, first=FIRST + number)


def measure(case: Case, setting: Setting) -> dict[str, object]:
    """Fit one data set, and give the shift against the companion and the index."""
    data = setting.kind.simulate(setting.patients, setting.log_ratio, setting.generator(0))
    cohort, question = cohort_of(setting, data)
    fit = bb.fit(
        cohort,
        question,
        model=case.definition,
        seed=SEED,
        draws=DRAWS,
        chains=CHAINS,
        progress=False,
    )
    effect = fit.posterior["log_hazard_ratio"].isel(endpoint=0, effect=0, drop=True)
    return {
        "model": case.model,
        "prior": case.prior,
        "upper": case.interval[1],
        "setting": setting.name,
        "shift": float(fit.gate.table["shift"].iloc[0]),
        "index": float(sensitivity_index(effect, baseline_density(fit))),
    }


def run(case: Case) -> list[dict[str, object]]:
    """Fit data sets until there are enough that move and that do not."""
    rows: list[dict[str, object]] = []
    for setting in settings():
        rows.append(measure(case, setting))
        shifts = np.abs([float(str(row["shift"])) for row in rows])
        if min((shifts > MOVED).sum(), (shifts < STILL).sum()) >= WANTED:
            break
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Count what is flagged among the first sets that move, and among those that do not.

    ``auc`` is the share of pairs, one of each kind among all sets, in which the index of the one
    that moves is the larger: what the best threshold could make of it.
    """
    rows = []
    for (model, prior, upper), one in table.groupby(["model", "prior", "upper"], sort=False):
        size = one["shift"].abs()
        moved, still = one[size > MOVED], one[size < STILL]
        first, second = (part["index"].head(WANTED) for part in (moved, still))
        higher = moved["index"].to_numpy()[:, None] > still["index"].to_numpy()
        flagged, wrong = int((first >= SENSITIVE).sum()), int((second >= SENSITIVE).sum())
        rows.append(
            {
                "model": model,
                "prior": prior,
                "upper": upper,
                "sets": len(one),
                "moved": len(first),
                "flagged": flagged,
                "still": len(second),
                "wrongly": wrong,
                "auc": float(higher.mean()) if higher.size else float("nan"),
                "separates": bool(
                    min(len(first), len(second)) > 0
                    and flagged * WANTED >= LEAST_FLAGGED * len(first)
                    and wrong * WANTED <= MOST_FLAGGED * len(second)
                ),
            }
        )
    return pd.DataFrame(rows)


def page(table: pd.DataFrame, *, seconds: float) -> str:
    """Write the page."""
    found = summary(table)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pymc", "arviz"))
    lines = [
        "# Power-scaling and the baseline",
        "",
        "SIMULATED patients throughout; no number here is evidence about a treatment.",
        "",
        "Made by `uv run python tests/studies/power_scaling.py` in "
        f"{seconds / 60:.0f} minutes of one processor with {libraries}.",
        "",
        "A prior of the baseline that is too stiff moves the hazard ratio. Power-scaling raises a "
        "prior to powers near 1 and tells how fast an answer moves; from an index of "
        f"{SENSITIVE:g} on it is called sensitive. Does it flag the data sets that a stiff "
        "baseline moves? The whole prior of the baseline was scaled: level, steps, and of curve "
        "models sds, slopes, length scales and the standard normals that the sds multiply.",
        "",
        "Data sets are those of [the study of the baseline](baseline.md) (its four kinds of entry "
        f"and eight hazards, {' and '.join(map(str, SIZES))} patients, hazard ratio 0.5 and 1), "
        f"fitted with {CHAINS} chains of {DRAWS} draws. *Moved*: the log hazard ratio lies more "
        f"than {MOVED:g} companion sds from the companion's, which has no baseline; *still*: less "
        f"than {STILL:g}. The first {WANTED} of each kind count, in a fixed order of the sets. "
        "*Higher in a pair*: how often the index of a moved set is larger than that of a still "
        "one, over all pairs; 50 % is chance.",
        "",
        "| baseline | 95 % of its steps or change | data sets | moved: flagged | still: flagged | "
        "higher in a pair | separates |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['model']}` | {1 / row['upper']:.2f} to {row['upper']:.2f} | {row['sets']} | "
        f"{row['flagged']} of {row['moved']} | {row['wrongly']} of {row['still']} | "
        f"{row['auc']:.0%} | {'yes' if row['separates'] else 'no'} |"
        for row in found.to_dict("records")
    ]
    lines += [
        "",
        f"Asked was for at least {LEAST_FLAGGED} of {WANTED} moved sets to be flagged, and at most "
        f"{MOST_FLAGGED} of {WANTED} still ones. Scaling does that for "
        f"{int(found['separates'].sum())} of {len(found)} baselines. The index is a derivative: "
        "under a prior so stiff that the baseline is all but fixed, a power near 1 leaves it so, "
        "and the index is as small as under one that does nothing. It cannot see the distance to a "
        "baseline without a prior. So `power_scaling` has no row of the baseline. The companion "
        "speaks in its place: it *is* the model without a baseline, and the gate tells every shift "
        "beyond 0.25 of its sds ([the gate](../explanation/baseline_gate.md)).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the study, and write its page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, help="where finished cases are kept, as CSV")
    given = parser.parse_args()
    began, parts = time.process_time(), []
    for number, case in enumerate(CASES):
        stored = None if given.store is None else given.store / f"{number}.csv"
        if stored is not None and stored.exists():
            parts.append(pd.read_csv(stored))
            continue
        parts.append(pd.DataFrame(run(case)))
        if stored is not None:
            stored.parent.mkdir(parents=True, exist_ok=True)
            parts[-1].to_csv(stored, index=False)
    PAGE.write_text(page(pd.concat(parts), seconds=time.process_time() - began))


if __name__ == "__main__":
    main()
