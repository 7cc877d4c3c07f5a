"""Files that are none, damaged so that libraries fall over, or far larger than they look."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import DataError, SpecError, StorageError
from bayesblina.inference.code_cache import read_entry, write_entry
from bayesblina.inference.fitting import Fit
from bayesblina.inference.storage import SEAL
from bayesblina.patients.readers import sources
from bayesblina.patients.readers.sources import load_table
from bayesblina.studies.study_file import read_design, read_study

COLUMNS: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {"os": bb.Endpoint(time="t", event="e")},
    "phases": bb.Phases(maintenance="m"),
}


@pytest.fixture
def small() -> pd.DataFrame:
    size = 40
    return pd.DataFrame(
        {
            "id": [f"P{i}" for i in range(size)],
            "t": np.arange(size) + 1.5,
            "e": np.arange(size) % 2,
            "m": [0.5 if i % 3 else None for i in range(size)],
            "g": ["a", "b"] * (size // 2),
        }
    )


# Where a byte that is changed leads the library out of the file; the process must live.
DAMAGE = """
import sys
from pathlib import Path
from bayesblina.core.errors import DataError
from bayesblina.patients.readers.sources import load_table

whole, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
refused = 0
# Offsets of the texts: each points where its text begins.
for at in range(0, len(whole), max(1, len(whole) // 400)):
    damaged = bytearray(whole)
    damaged[at] ^= 0x7F
    place.write_bytes(damaged)
    try:
        frame, _ = load_table(place)
        [frame[name].tolist() for name in frame]
    except DataError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("suffix", [".feather", ".arrow"])
def test_a_damaged_arrow_file_is_an_error(small: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    pyarrow.feather.write_feather(small, whole, compression="uncompressed")
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(whole), str(tmp_path / f"damaged{suffix}")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_offsets_outside_an_arrow_file_are_seen(tmp_path: Path) -> None:
    """Validated before they are followed: the last text would end beyond its buffer."""
    path = tmp_path / "offsets.arrow"
    frame = pd.DataFrame({"id": [f"patient {i}" for i in range(4)]})
    pyarrow.feather.write_feather(frame, path, compression="uncompressed")
    written = np.array([0, 9, 18, 27, 36], dtype=np.int32).tobytes()
    wrong = np.array([0, 9, 18, 27, 2_000_000_000], dtype=np.int32).tobytes()
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, wrong))
    with pytest.raises(DataError, match="cannot be read"):
        load_table(path)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_nobody_waits_for_a_pipe(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(suffix: str) -> Path:
        return pipe.rename(pipe.with_name(f"pipe{suffix}")) if suffix else pipe

    for suffix in (".csv", ".parquet", ".feather", ".xpt"):
        pipe = named(suffix)
        with pytest.raises(DataError, match="is a pipe"):
            load_table(pipe)
    pipe = named(".parquet")
    with pytest.raises(DataError, match="is a pipe"):
        bb.scan_cohort(str(pipe), **COLUMNS)
    pipe = named(".toml")
    for read in (read_study, read_design, bb.load_model):
        with pytest.raises(SpecError, match="is a pipe"):
            read(pipe)
    pipe = named(".nc")
    with pytest.raises(StorageError, match="is a pipe"):
        bb.load(pipe)
    folder = tmp_path / "results"
    folder.mkdir()
    os.mkfifo(folder / "results.json")
    with pytest.raises(StorageError, match="is a pipe"):
        bb.read_results(folder)
    os.mkfifo(folder / "scenarios.jsonl")
    with pytest.raises(StorageError, match="is a pipe"):
        bb.load_sensitivity(folder)
    cache = tmp_path / "cache"
    monkeypatch.setenv("BAYESBLINA_CACHE_DIR", str(cache))
    write_entry("key", {}, [b"code"])
    (entry,) = cache.iterdir()
    entry.unlink()
    os.mkfifo(entry, 0o600)
    assert read_entry("key") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a = {'[' * 5000}{']' * 5000}", "nested too deep"),
        (f"a = {'{a=' * 5000}1{'}' * 5000}", "nested too deep"),
        (f"a = {'9' * 5000}", "a number of thousands of digits"),
        ("a = [", "not valid TOML"),
    ],
)
@pytest.mark.parametrize("read", [read_study, read_design, bb.load_model])
def test_what_no_study_says_is_one_error(read: Any, text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words):
        read(path)


@pytest.mark.parametrize("schema", ["'1e999'", "1e999", "nan", "-1e999", "9" * 400])
def test_schemas_that_are_no_whole_number(schema: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(f"schema = {schema}\n")
    with pytest.raises(SpecError, match="- schema: "):
        read_study(path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are texts")
def test_a_path_that_is_no_text(small: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    small.to_csv(path, index=False)
    cohort = bb.read_cohort(path, **COLUMNS)
    assert cohort.source == "caf\\udce9.csv"
    absent = str(path) + "x.toml"
    told = CliRunner().invoke(cli.app, ["validate", absent])
    assert told.exit_code == cli.BAD_INPUT
    assert "No study file" in told.stderr
    assert "caf\\udce9" in told.stderr
    told = CliRunner().invoke(cli.app, ["--json", "validate", absent])
    assert told.exit_code == cli.BAD_INPUT
    assert '"kind": "SpecError"' in told.stdout


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    one = pa.table({"id": pa.nulls(2_000_000, pa.string())})
    with pq.ParquetWriter(path, one.schema) as writer:
        for _ in range(25):
            writer.write_table(one)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="50000000 rows in"):
        load_table(path)
    # As many patients as that many bytes can hold are read.
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"id": np.arange(1_100_000)}), plain)
    assert len(load_table(plain)[0]) == 1_100_000


def sealed(path: Path) -> None:
    """Give a file the checksum of its content, as anybody can."""
    import hashlib

    content = path.read_bytes()
    path.write_bytes(content + SEAL + hashlib.sha256(content).hexdigest().encode())


def test_crafted_fits_are_refused(synthetic_fit: Fit, tmp_path: Path) -> None:
    good = tmp_path / "good.nc"
    bb.save(synthetic_fit, good)

    def crafted(change: Any) -> Path:
        path = tmp_path / "crafted.nc"
        path.write_bytes(good.read_bytes()[: -len(SEAL) - 64])
        with h5py.File(path, "r+") as file:
            change(file)
        sealed(path)
        return path

    def chunks(file: Any) -> None:
        file["posterior"].create_dataset("bomb", shape=(2**44,), chunks=(2**20,), dtype="f8")

    def unallocated(file: Any) -> None:
        file["posterior"].create_dataset("bomb", shape=(2**40,), dtype="f8")

    def elsewhere(file: Any) -> None:
        file["posterior"].create_dataset(
            "bomb", shape=(8,), dtype="u1", external=[("/etc/hostname", 0, 8)]
        )

    def link(file: Any) -> None:
        file["posterior"]["other"] = h5py.ExternalLink(str(good), "/posterior")

    def circle(file: Any) -> None:
        file["posterior"]["again"] = file["posterior"]

    def schema(file: Any) -> None:
        file.attrs["schema"] = "1e999"

    def endless(file: Any) -> None:
        file.attrs["schema"] = np.inf

    for change in (chunks, unallocated, elsewhere, link, circle, schema, endless):
        with pytest.raises(StorageError, match="damaged or incomplete"):
            bb.load(crafted(change))
    assert bb.load(crafted(lambda _: None)).converged == synthetic_fit.converged


def test_a_warning_is_not_a_damaged_file(
    small: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "patients.csv"
    small.to_csv(path, index=False)

    def warns(_: Path) -> pd.DataFrame:
        warnings.warn("a library of tomorrow", DeprecationWarning, stacklevel=1)
        return small

    monkeypatch.setitem(sources.READERS, ".csv", warns)
    with pytest.raises(DeprecationWarning, match="tomorrow"):
        load_table(path)
    told = CliRunner().invoke(cli.app, ["init", str(path), "--out", str(tmp_path / "s.toml")])
    assert told.exit_code == cli.BAD_INPUT
    assert "run it without" in told.stderr
    assert "cannot be read" not in told.stderr


def test_too_little_memory_is_no_fault(
    small: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "patients.csv"
    small.to_csv(path, index=False)

    def large(_: Path) -> pd.DataFrame:
        raise MemoryError("malloc of size 280375465083200 failed")

    monkeypatch.setitem(sources.READERS, ".csv", large)
    with pytest.raises(DataError, match="more memory than there is"):
        load_table(path)


BLANKS = [" ", "\t", "\u00a0", "\u3000", "\u2009", "\x1f", "\u0085", " \u00a0\n"]


@pytest.mark.parametrize("blank", BLANKS)
def test_memory_and_engine_strip_the_same_blanks(small: pd.DataFrame, blank: str) -> None:
    def at(column: str, row: int, text: str) -> pd.DataFrame:
        changed = small.copy()
        changed.loc[row, column] = text
        return changed

    level = at("g", 0, f"{blank}a{blank}")
    read = bb.read_cohort(level, covariates=["g"], **COLUMNS)
    scanned = bb.scan_cohort(level, covariates=["g"], **COLUMNS)
    assert read.covariates["g"].levels == scanned.covariates[0].levels == ("a", "b")
    # Two patients become one, and an id of blanks none, in both.
    for twice in (at("id", 0, f"{blank}P1{blank}"), at("id", 0, blank)):
        for reads in (bb.read_cohort, bb.scan_cohort):
            with pytest.raises(DataError, match="id: "):
                reads(twice, **COLUMNS)
