"""Save and load fits: one netCDF file, written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.errors import StorageError, require_kind
from bayesblina.core.files import read_whole, trouble_of, write_bytes
from bayesblina.hazards.definition import parse_model
from bayesblina.inference.baseline_gate import BaselineGate
from bayesblina.inference.companion import Companion
from bayesblina.inference.convergence import Convergence, SamplerSettings
from bayesblina.inference.drawing import NO_COMPANION
from bayesblina.inference.fitting import NOT_COMPARED, Fit, Provenance
from bayesblina.person_time.cells import Lazily, Patients, PersonTime
from bayesblina.person_time.event_times import EventTimes
from bayesblina.person_time.follow_up import LeftOut
from bayesblina.person_time.question import Question

FORMAT = "bayesblina fit"
SCHEMA = 1
PATIENTS = ("people", "episodes")
# Attribute of a variable that tells how it was stored where netCDF has no such type.
STORED = "bayesblina_dtype"
# HDF5 does not mind bytes after its end; these tell any damage before HDF5 has to read it.
SEAL = b"\nbayesblina sha256 "
SEAL_LENGTH = len(SEAL) + 64
RECORDS = ("question", "definition", "provenance", "left_out", "convergence")
# What files of earlier versions lack.
LATER = ("companion", "gate", "event_times")
COMPANION = "/companion"


def save(fit: Fit, path: str | PathLike[str]) -> None:
    """Save a fit in one netCDF file.

    The file is written beside its destination and moved there when it is complete: whatever
    happens, there is the old file or the new one, never half of one.

    Parameters
    ----------
    fit
        The fit.
    path
        The file, usually ``.nc``; replaced if it exists. Its folder must exist.

    Raises
    ------
    StorageError
        If it cannot be written: no such folder, no permission, no space.

    See Also
    --------
    load : the way back.

    Notes
    -----
    The draws' groups (``posterior``, ``log_likelihood``, ...) stand at the top, as ArviZ expects
    them; events and person-time stand in ``person_time``. The file holds the ids and times of
    patients: only its owner may read it, and you should treat it as you treat the patients' table.
    """
    require_kind(fit, Fit, "fit")
    require_kind(path, str | PathLike, "path")
    groups = {
        node.path: _converted(node.to_dataset(inherit=False), _encoded)
        for node in fit.draws.subtree
        if node.has_data or node.attrs
    }
    person_time, patients = fit.person_time, fit.person_time.patients()
    datasets = {
        COMPANION: fit.companion.draws,
        **{
            f"/person_time/{name}": getattr(person_time, name)
            for name in ("table", "risk_sets", "finer", "visits")
        },
        **{f"/person_time/{name}": getattr(patients, name) for name in PATIENTS},
    }
    groups |= {
        path: _converted(dataset, _encoded)
        for path, dataset in datasets.items()
        if dataset is not None
    }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs |= {
        "format": FORMAT,
        "schema": SCHEMA,
        "unit": person_time.unit,
        "synthetic": int(person_time.synthetic),
        **{name: json.dumps(value) for name, value in _records(fit).items()},
    }
    # In memory first: HDF5 does not survive a full disk in good order, Python does.
    content: Any = tree.to_netcdf(None, engine="h5netcdf")
    write_bytes(path, b"".join([content, _seal_of(content)]), private=True)


def load(path: str | PathLike[str]) -> Fit:
    """Load a fit that `save` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Fit
        Equal to the one that was saved.

    Raises
    ------
    StorageError
        If there is no such file, or it is damaged, foreign or of a newer schema.

    See Also
    --------
    save : how it was written.
    """
    require_kind(path, str | PathLike, "path")
    path = Path(path)
    trouble = trouble_of(path)
    if trouble is not None:
        raise StorageError(
            f"No file '{path}'."
            if trouble == "no such file"
            else f"'{path}' is {trouble}; expected a file that bayesblina.save wrote."
        )
    # What is read is what was checked, whatever happens to the file meanwhile.
    content = read_whole(path)
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise StorageError(
            f"'{path}' is not a netCDF-4 file, or its beginning is damaged; expected a file that "
            "bayesblina.save wrote."
        )
    try:
        return _read(path, content)
    except (StorageError, Warning):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise StorageError(
            f"'{path}' is damaged or incomplete and cannot be loaded ({reason})."
        ) from error


def _read(path: Path, content: bytes) -> Fit:
    """Read a fit from a file's content; raise anything where it is damaged."""
    seal = content[-SEAL_LENGTH:]
    sealed = seal.startswith(SEAL)
    if sealed and _seal_of(memoryview(content)[:-SEAL_LENGTH]) != seal:
        raise ValueError("its content does not match its checksum")
    with h5py.File(BytesIO(content), "r") as file:
        _require_plain(file, len(content))
        attributes = dict(file.attrs)
    if attributes.get("format") != FORMAT:
        raise StorageError(
            f"'{path}' is a netCDF file, but not one that bayesblina.save wrote; expected the "
            f"attribute format = '{FORMAT}'."
        )
    schema = np.ravel(attributes.get("schema", 0))
    if schema.size != 1 or schema.dtype.kind not in "iu":
        raise ValueError("its schema is no whole number")
    if schema[0] > SCHEMA:
        raise StorageError(
            f"'{path}' has schema {schema[0]}; this bayesblina reads up to {SCHEMA}. It was "
            "written by a newer version: upgrade bayesblina to read it."
        )
    if not sealed:
        raise ValueError("its checksum is missing")
    return _read_parts(path, content, attributes)


def _seal_of(content: bytes | memoryview) -> bytes:
    return SEAL + hashlib.sha256(content).hexdigest().encode()


def _require_plain(file: Any, size: int) -> None:
    """Refuse what `save` never writes: data that lie elsewhere, or unpack to more than the file."""
    total, waiting, seen = 0, [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"'{name}' is a link")
            item = group[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise ValueError(f"'{name}' has two places")
                seen.add(address)
                waiting.append(item)
                continue
            if item.external or item.is_virtual:
                raise ValueError(f"'{name}' lies in another file")
            total += item.size * item.dtype.itemsize
            if total > size:
                raise ValueError(f"with '{name}' it holds more than its size")


def _read_parts(path: Path, content: bytes, attributes: Mapping[str, Any]) -> Fit:
    """Read what `save` wrote, part by part; files of earlier versions lack some."""
    with xr.open_datatree(
        BytesIO(content), engine="h5netcdf", decode_times=False, decode_timedelta=False
    ) as tree:
        groups = {
            node.path: _converted(node.to_dataset(inherit=False).load(), _decoded)
            for node in tree.subtree
            if node.path != "/" and (node.has_data or node.attrs)
        }
    record = {name: json.loads(attributes[name]) for name in RECORDS}
    companion, gate, event_times = (json.loads(attributes.get(name, "null")) for name in LATER)
    companion_draws = groups.pop(COMPANION, None)
    risk_sets = groups.pop("/person_time/risk_sets", None)
    left_out = (item | {"patients": tuple(item["patients"])} for item in record["left_out"])
    person_time = PersonTime(
        table=groups.pop("/person_time/table"),
        risk_sets=risk_sets,
        finer=groups.pop("/person_time/finer", None),
        visits=groups.pop("/person_time/visits", None),
        patients=Lazily.of(
            Patients(
                **{name: groups.pop(f"/person_time/{name}") for name in PATIENTS},
                left_out=tuple(LeftOut(**item) for item in left_out),
                complete=risk_sets is None,
            )
        ),
        unit=str(attributes["unit"]),
        synthetic=bool(np.ravel(attributes["synthetic"])[0]),
    )
    question, provenance = record["question"], record["provenance"]
    if question["endpoints"] is not None:
        question["endpoints"] = tuple(question["endpoints"])
    provenance["settings"] = SamplerSettings(**provenance["settings"])
    provenance["notes"] = tuple(provenance["notes"])
    return Fit(
        draws=xr.DataTree.from_dict(groups),
        question=Question(**question),
        definition=parse_model(record["definition"], source=path.name),
        person_time=person_time,
        convergence=Convergence(**_tables(record["convergence"])),
        provenance=Provenance(**provenance),
        companion=Companion(draws=companion_draws, **_tables(companion))
        if companion
        else NO_COMPANION,
        gate=BaselineGate(**_tables(gate)) if gate else NOT_COMPARED,
        event_times=EventTimes(**_tables(event_times | {"notes": tuple(event_times["notes"])}))
        if event_times
        else None,
    )


def _tables(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make tables of the columns in a record."""
    return {
        name: pd.DataFrame(value) if isinstance(value, Mapping) else value
        for name, value in record.items()
    }


def _records(fit: Fit) -> dict[str, Any]:
    """Put all that is not an array into what JSON can say."""
    return {
        "question": asdict(fit.question),
        "definition": fit.definition.model_dump(mode="json", by_alias=True),
        "provenance": asdict(fit.provenance),
        "left_out": [asdict(item) for item in fit.person_time.left_out],
        "convergence": _record(table=fit.convergence.table, criteria=fit.convergence.criteria),
        "companion": _record(table=fit.companion.table, reason=fit.companion.reason),
        "gate": _record(table=fit.gate.table, against=fit.gate.against),
        "event_times": None
        if fit.event_times is None
        else _record(table=fit.event_times.table, notes=fit.event_times.notes),
    }


def _record(**parts: object) -> dict[str, Any]:
    """Put tables among other values into what JSON can say."""
    return {
        name: part.to_dict("list") if isinstance(part, pd.DataFrame) else part
        for name, part in parts.items()
    }


def _converted(dataset: xr.Dataset, convert: Callable[[xr.Variable], xr.Variable]) -> xr.Dataset:
    """Convert every variable and coordinate of a data set."""
    variables = {name: convert(variable) for name, variable in dataset.variables.items()}
    return xr.Dataset(
        {name: variables[name] for name in dataset.data_vars},
        coords={name: variables[name] for name in dataset.coords},
        attrs=dataset.attrs,
    )


def _encoded(variable: xr.Variable) -> xr.Variable:
    """Turn booleans, texts and objects into what netCDF holds, and note what they were."""
    values, attributes = variable.values, dict(variable.attrs)
    if values.dtype == bool:
        attributes[STORED] = "bool"
        values = values.astype(np.int8)
    elif values.dtype.kind == "U":
        attributes[STORED] = values.dtype.str
    elif values.dtype == object:
        plain = all(isinstance(item, str) for item in values.flat)
        attributes[STORED] = "object" if plain else "json"
        texts = [item if plain else json.dumps(item) for item in values.flat]
        values = np.asarray(texts, dtype=str).reshape(values.shape)
    encoding = {"_FillValue": None} if values.dtype.kind == "f" else {}
    return xr.Variable(variable.dims, values, attributes, encoding)


def _decoded(variable: xr.Variable) -> xr.Variable:
    values, attributes = variable.values, dict(variable.attrs)
    stored = attributes.pop(STORED, None)
    if stored == "json":
        objects = np.empty(values.shape, dtype=object)
        objects.flat = [json.loads(str(item)) for item in values.flat]
        values = objects
    elif stored is not None:
        values = values.astype(stored)
    return xr.Variable(variable.dims, values, attributes)
