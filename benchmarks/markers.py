"""Which records MLflow holds, and in which store: a marker file beside each record. Imports no mlflow."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.seal import checksum_of
from benchmarks.storage import write_atomically

MARKERS = "tracked"
"""The folder of the markers, beside the records."""


def store_uri(out: Path) -> str:
    """Return the URI of the MLflow store in use: MLFLOW_TRACKING_URI, else a database in the output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.resolve() / 'mlflow.db'}"


def store_location(out: Path) -> str:
    """Return the URI of the MLflow store in use, without a password."""
    return without_password(store_uri(out))


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for other stores."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def without_password(text: str) -> str:
    """Return the text without the passwords of URIs in it.

    >>> without_password("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def ui_command(out: Path) -> str:
    """Return the command that opens the store in a browser."""
    uri = store_uri(out)
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(store_location(out))}"
    # The password of a database stays where the user put it.
    shown = shlex.quote(uri) if uri == store_location(out) else '"$MLFLOW_TRACKING_URI"'
    mlflow = "mlflow" if shutil.which("mlflow") else f"{shlex.quote(sys.executable)} -m mlflow"
    return f"{mlflow} ui --backend-store-uri {shown}"


def record_files(out: Path, suite: str | None) -> list[Path]:
    """Return the files of a suite's records, or of all suites', in the order of their paths."""
    return sorted(path for path in out.glob(f"{suite or '*'}/*.json") if len(path.stem) == 64)


def untracked(out: Path, suite: str) -> Iterator[Path]:
    """Yield the files of the suite's records that are not marked as tracked in the store in use, in their order."""
    if not (out / suite / MARKERS).is_dir():
        yield from record_files(out, suite)
        return
    store = _Store.in_use(out)
    for path in record_files(out, suite):
        if store.marked(path).get("record") != digest_of(path):
            yield path


def digest_of(path: Path) -> str:
    """Return what tells the record of a cell that ran again from the one before: the checksum of its file."""
    return checksum_of(path)


def mark(path: Path, out: Path, run_id: str, digest: str) -> None:
    """Say that the store in use holds the record of this file."""
    content = {"uri": store_location(out), "run_id": run_id, "record": digest}
    write_atomically(_marker(path), json.dumps(content) + "\n")


def is_tracked(path: Path, out: Path) -> bool:
    """Return whether the marker says that the store in use holds the record of this file."""
    return _Store.in_use(out).marked(path).get("record") == digest_of(path)


def marked_run(path: Path, out: Path) -> str | None:
    """Return the id of the run in the store in use that holds this or an earlier record of the cell, if marked."""
    return _Store.in_use(out).marked(path).get("run_id")


def _marker(path: Path) -> Path:
    return path.parent / MARKERS / path.stem


@dataclass(frozen=True)
class _Store:
    location: str
    is_there: bool

    @classmethod
    def in_use(cls, out: Path) -> _Store:
        database = database_of(store_uri(out))
        # A database that has been deleted holds nothing.
        return cls(store_location(out), database is None or database.exists())

    def marked(self, path: Path) -> dict[str, str]:
        """Return what the marker of a record says, nothing where it is of another store."""
        try:
            content = json.loads(_marker(path).read_bytes())
            if content["uri"] == self.location and self.is_there:
                return {"run_id": str(content["run_id"]), "record": str(content["record"])}
        except (OSError, ValueError, KeyError, TypeError):
            # Without a marker that can be read, the store itself is asked.
            pass
        return {}
