"""Stanford heart-transplant data, from lifelines' counting-process table to results.

uv run python examples/stanford_heart.py --out results/stanford_heart
uv run python examples/stanford_heart.py --table heart.csv
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd
from lifelines.datasets import load_stanford_heart_transplants

from bayesblina import cli
from bayesblina.core.files import write_text

STUDY = Path(__file__).with_suffix(".toml")


def one_row_per_patient() -> pd.DataFrame:
    """Turn one row per state into one row per patient; ages are less 48 years, as published."""
    rows = load_stanford_heart_transplants().sort_values(["id", "start"])
    last = rows.groupby("id").last()
    transplanted = rows[rows["transplant"] == 1].set_index("id")["start"]
    return pd.DataFrame(
        {
            "days": last["stop"],
            "died": last["event"],
            "transplant_day": transplanted.reindex(last.index),
            "age": last["age"],
            "surgery": last["surgery"].map({0: "none", 1: "before"}),
        }
    ).rename_axis("patient")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/stanford_heart"))
    parser.add_argument("--table", type=Path, help="write the patients' table, and nothing else")
    given = parser.parse_args()
    if given.table is not None:
        write_text(given.table, one_row_per_patient().to_csv())
        return 0
    out = given.out
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "patients.csv", one_row_per_patient().to_csv())
    shutil.copyfile(STUDY, out / "study.toml")
    return cli.main(["run", str(out / "study.toml"), "--out", str(out)])


if __name__ == "__main__":
    raise SystemExit(main())
