"""Where the files of a data set come from: functions tried in order, each file checked by hash. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benchmarks.datasets import Dataset, content_sha256, searched_folders, wrong_files

if TYPE_CHECKING:
    from benchmarks.tasks.base import Report

APT_SECONDS = 600
DPKG_SECONDS = 120
HTTP_SECONDS = 30
HTTP_ATTEMPTS = 4
HTTP_RANGE_NOT_SATISFIABLE = 416
HTTP_PARTIAL_CONTENT = 206


class SourceError(RuntimeError):
    """One source cannot give the data set; the message says why."""


def _copy_from_machine(dataset: Dataset, names: Sequence[str], folder: Path, report: Report) -> None:
    searched = searched_folders(dataset)
    source = next((found for found in searched if not set(names) & set(wrong_files(dataset, found))), None)
    if source is None:
        raise SourceError(f"no complete and right copy in {' or '.join(map(str, searched))}")
    _copy_all(source, dataset, names, folder, report)


def _unpack_debian_archive(dataset: Dataset, names: Sequence[str], folder: Path, report: Report) -> None:
    absent = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if absent:
        raise SourceError(f"{' and '.join(absent)} not on this machine")
    with tempfile.TemporaryDirectory() as scratch:
        report(f"downloading {dataset.debian_package}", 0, 1)
        _run(["apt-get", "-q", "download", dataset.debian_package], Path(scratch), APT_SECONDS)
        archives = [path.name for path in Path(scratch).glob("*.deb")]
        if len(archives) != 1:
            raise SourceError(f"`apt-get download {dataset.debian_package}` left {len(archives)} archives")
        _run(["dpkg-deb", "-x", archives[0], "unpacked"], Path(scratch), DPKG_SECONDS)
        source = Path(scratch, "unpacked", *dataset.system_folder.parts[1:])
        _copy_all(source, dataset, names, folder, report)


def _run(command: list[str], folder: Path, seconds: int) -> None:
    log = folder / "log"
    # A file instead of a pipe: after a time-out, a pipe would be waited for until the command's own children end.
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise SourceError(f"`{' '.join(command)}` did not end within {seconds} s") from None
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise SourceError(f"`{' '.join(command)}` ended with status {done.returncode}: {said[-1]}")


def _copy_all(source: Path, dataset: Dataset, names: Sequence[str], folder: Path, report: Report) -> None:
    for done, name in enumerate(names):
        report(f"copying {name}", done, len(names))
        part = folder / f"{name}.{os.getpid()}.part"
        try:
            shutil.copyfile(source / name, part)
            _accept(part, folder / name, dataset.files[name])
        finally:
            part.unlink(missing_ok=True)
    report("copying", len(names), len(names))


def _accept(part: Path, target: Path, sha256: str) -> None:
    """Give a whole file its name, at once, if its content is the right one; delete it and raise SourceError if not."""
    found = content_sha256(part)
    if found != sha256:
        part.unlink()
        fault = f"a content of SHA-256 {found} instead of {sha256}" if found else "no readable gzip file"
        raise SourceError(f"{target.name}: {fault}; refused")
    part.replace(target)


def _download_all(dataset: Dataset, names: Sequence[str], folder: Path, report: Report) -> None:
    for name in names:
        try:
            _download(dataset.url + name, folder / name, dataset.files[name], report)
        except HTTPError as error:
            raise SourceError(f"{error.url}: HTTP status {error.code} {error.reason}") from error
        except URLError as error:
            raise SourceError(f"{dataset.url}{name}: {error.reason}") from error


def _download(url: str, target: Path, sha256: str, report: Report) -> None:
    part = target.with_name(f"{target.name}.part")
    fault = ""
    for _ in range(HTTP_ATTEMPTS):
        old = part.stat().st_size if part.exists() else 0
        if old and content_sha256(part) == sha256:
            part.replace(target)
            return
        try:
            _append(url, part, old, report)
            _accept(part, target, sha256)
            return
        except HTTPError as error:
            if error.code != HTTP_RANGE_NOT_SATISFIABLE or not old:
                raise
            # Longer than the file and not the file: left from something else.
            part.unlink()
        except SourceError:
            if not old:
                raise
        except (ConnectionError, TimeoutError, HTTPException) as error:
            fault = str(error) or type(error).__name__
    raise SourceError(f"{url}: the connection broke {HTTP_ATTEMPTS} times ({fault}); what came is kept, run this again")


def _append(url: str, part: Path, start: int, report: Report) -> None:
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urlopen(request, timeout=HTTP_SECONDS) as response:
        done = start if response.status == HTTP_PARTIAL_CONTENT else 0
        length = response.headers["Content-Length"]
        total = done + int(length) if length else 0
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(1 << 16):
                file.write(chunk)
                done += len(chunk)
                report(f"downloading {part.stem}", done, max(total, done))
    # A response that ends before its length looks like one that is whole.
    if done < total:
        raise ConnectionError(f"{done} of {total} bytes came")


Source = Callable[[Dataset, Sequence[str], Path, "Report"], None]
"""Puts the named files into the folder, checked; raises SourceError or OSError where it cannot."""

SOURCES: dict[str, Source] = {
    "a copy on this machine": _copy_from_machine,
    "the Debian package's archive": _unpack_debian_archive,
    "the canonical source over HTTP": _download_all,
}
