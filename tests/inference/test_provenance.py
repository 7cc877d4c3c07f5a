"""The hash of a table is of the bytes analysed, and a file's name means that file."""

import hashlib
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.patients.readers import sources
from bayesblina.patients.scan.engines import pattern_of
from tests.paths import DATA


def table(shift: float = 0.0) -> pd.DataFrame:
    size = 12
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "t": np.arange(4.0, 4.0 + size) + shift,
            "e": np.arange(size) % 2,
            "s": np.where(np.arange(size) % 3, 2.0, np.nan),
        }
    )


def write(path: Path, shift: float = 0.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        table(shift).to_csv(path, index=False)
    else:
        table(shift).to_parquet(path)
    return path


def call(read: Callable[..., Any], path: Any) -> Any:
    return read(
        path,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="t", event="e"),
        phases=bb.Phases(m="s"),
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_hash_is_of_what_was_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}")
    before = digest(path)
    cohort, scan = call(bb.read_cohort, path), call(bb.scan_cohort, path)
    assert cohort.file_hashes == scan.hash_files() == {path.name: before}
    write(path, 1.0)
    assert digest(path) != before
    assert cohort.file_hashes == {path.name: before}
    with pytest.raises(DataError, match="not as it was"):
        scan.hash_files()
    path.unlink()
    with pytest.raises(DataError, match="not as it was"):
        scan.hash_files()
    assert pickle.loads(pickle.dumps(cohort)).file_hashes == {path.name: before}
    assert call(bb.read_cohort, table()).file_hashes == {}
    assert call(bb.scan_cohort, table()).hash_files() == {}


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.parquet")

    def read(where: Path) -> pd.DataFrame:
        frame = pd.read_parquet(where)
        write(where, 1.0)
        return frame

    monkeypatch.setitem(sources.READERS, ".parquet", read)
    with pytest.raises(DataError, match="changed while it was read"):
        call(bb.read_cohort, path)


NAMES = ["a[1]", "b*", "c?", "[d]", "e]", "f[!g]"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_itself_in_every_engine(tmp_path: Path, name: str, suffix: str) -> None:
    folder = tmp_path / "data[0]"
    path = write(folder / f"{name}{suffix}")
    # What the name would match as a pattern.
    for decoy in ("a1", "bb", "cc", "d", "fh"):
        write(folder / f"{decoy}{suffix}", 7.0)
    write(tmp_path / "data0" / f"{name}{suffix}", 9.0)
    question = bb.Question(exposed="m", eligible_from="entry")
    first, second = (
        bb.person_time(call(read, path), question, cuts=[5.0]).table["person_time"].values
        for read in (bb.read_cohort, bb.scan_cohort)
    )
    np.testing.assert_allclose(first, second)
    assert call(bb.scan_cohort, path).hash_files() == {path.name: digest(path)}


def test_globs_stay_globs(tmp_path: Path) -> None:
    folder = tmp_path / "data[0]"
    for row in range(2):
        one = table()
        one["id"] += str(row)
        folder.mkdir(exist_ok=True)
        one.to_parquet(folder / f"x{row}.parquet")
    scan = call(bb.scan_cohort, folder / "x*.parquet")
    assert scan.size == 24
    assert pattern_of(str(folder / "x?.parquet")).endswith("data[[]0]/x?.parquet")


def parts(folder: Path, order: list[str], suffix: str) -> None:
    """Patients in several files, some of them in a folder of their own."""
    for row, name in enumerate(order):
        one = table()
        one["id"] += name
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True, parents=True)
        if suffix == ".csv":
            one.to_csv(path, index=False)
        else:
            one.to_parquet(path)
        os.utime(path, (row, row))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_several_files_have_one_hash(tmp_path: Path, suffix: str) -> None:
    """It is that of sha256sum's list: names and bytes in the order of names, wherever they lie."""
    names = ["a/x", "a/y", "b/x"]
    parts(tmp_path / "one", names, suffix)
    parts(tmp_path / "two", names[::-1], suffix)
    found = call(bb.scan_cohort, tmp_path / "one" / "*" / f"*{suffix}").hash_files()
    listed = subprocess.run(
        [str(shutil.which("sha256sum")), *(f"{name}{suffix}" for name in names)],
        cwd=tmp_path / "one",
        capture_output=True,
        check=True,
    ).stdout
    assert found == {f"*{suffix} (3 files)": hashlib.sha256(listed).hexdigest()}
    assert call(bb.scan_cohort, tmp_path / "two" / "*" / f"*{suffix}").hash_files() == found
    # A name, or a byte of any file, changes it.
    (tmp_path / "two" / "b" / f"x{suffix}").rename(tmp_path / "two" / "b" / f"z{suffix}")
    other = call(bb.scan_cohort, tmp_path / "two" / "*" / f"*{suffix}").hash_files()
    write(tmp_path / "one" / "b" / f"x{suffix}", 1.0)
    changed = call(bb.scan_cohort, tmp_path / "one" / "*" / f"*{suffix}").hash_files()
    assert len({*found.values(), *other.values(), *changed.values()}) == 3


PILOT = DATA / "cdisc_pilot"


def test_every_dataset_of_adam_has_its_hash() -> None:
    given: dict[str, Any] = {
        "endpoints": {"os": bb.AdamEndpoint(paramcd="OS")},
        "unit": "days",
        "population": "SAFFL",
        "phases": {"low": "BASELINE", "high": "WEEK 2"},
        "cycle": "VISIT",
        "filters": {"ADEX": {"PARAMCD": "DOSE"}},
        "value": "AVAL",
        "value_unit": "days",
        "zero_doses": "count",
    }
    adsl, adtte, adex, adae = (PILOT / f"{name}.csv" for name in ("adsl", "adtte", "adex", "adae"))
    cohort = bb.read_adam(adsl, adtte, adex, **given)
    assert cohort.file_hashes == {
        "adsl.csv (ADSL)": digest(adsl),
        "adtte.csv (ADTTE)": digest(adtte),
        "adex.csv (ADEX)": digest(adex),
    }
    # What was in memory has no bytes of a file.
    held = bb.read_adam(adsl, pd.read_csv(adtte, dtype=str, keep_default_na=False), adex, **given)
    assert set(held.file_hashes) == {"adsl.csv (ADSL)", "adex.csv (ADEX)"}
    events = bb.safety.adverse_events(
        adae,
        cohort,
        patient="USUBJID",
        term="AEDECOD",
        start="ASTDT",
        counted="dates",
        origin="TRTSDT",
        origins=adsl,
        flags=["TRTEMFL"],
    )
    assert events.file_hashes == {
        "adae.csv (adverse events)": digest(adae),
        "adsl.csv (origins)": digest(adsl),
    }
