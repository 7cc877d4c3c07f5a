"""The files of the demo: a synthetic study, never patient data."""

from __future__ import annotations

from pathlib import Path

from bayesblina.core import tables
from bayesblina.core.errors import SpecError
from bayesblina.core.files import write_text
from bayesblina.studies import simulate

DEMO_MARK = "# The synthetic study of `bayesblina demo`; never patient data.\n"
DEMO_FILES = ("patients.csv", "adverse_events.csv", "study.toml")
DEMO_STUDY = """
schema = 1
title = "Synthetic study: maintenance after consolidation"

[data]
file = "patients.csv"
patient = "patient_id"
unit = "months"
transplant = "transplant_month"
covariates = {{ age_group = "categorical", prior_salvage = "categorical", \
marrow_blasts = "continuous" }}
synthetic = true

[endpoints.os]
time = "os_months"
event = "died"
recorded = "exact"

[endpoints.rfs]
time = "rfs_months"
event = "relapse_or_death"
entry = "remission_month"
recorded = "exact"
# Every death is an event of relapse-free survival too: whoever contradicts it is refused.
includes = ["os"]

[phases]
consolidation = "consolidation_month"
maintenance = "maintenance_month"

[question]
exposed = "maintenance"
eligible_from = "consolidation"
transplant = "censor"

[model]
name = "primary"

[fit]
seed = {seed}

# Survival without maintenance and with maintenance from month 8 on, in those event-free then.
[curves]
landmark = 8.0
starts = [8.0]
# For the report, the same from other months on.
landmarks = [12.0, 16.0]

[adverse_events]
file = "adverse_events.csv"
patient = "patient_id"
term = "term"
start = "month"
grade = "grade"
"""


def require_own_demo(out: Path) -> None:
    """Refuse to write over anybody's files."""
    study = out / "study.toml"
    ours = study.is_file() and study.read_text("utf-8", errors="replace").startswith(DEMO_MARK)
    for name in DEMO_FILES:
        if (out / name).exists() and not ours:
            raise SpecError(
                f"'{out / name}' exists and is not the demo's: give another folder with --out."
            )


def write_demo(folder: Path, *, seed: int) -> None:
    """Write the synthetic study: its patients, adverse events and study file."""
    write_text(folder / "study.toml", DEMO_MARK + DEMO_STUDY.format(seed=seed))
    write_text(folder / "patients.csv", tables.to_csv(simulate.blinatumomab_table(seed)))
    events = simulate.adverse_events(simulate.blinatumomab_cohort(seed).cohort, seed=seed)
    write_text(folder / "adverse_events.csv", tables.to_csv(events))
