"""Data sets: what the package ships of them, where the rest is looked for, and how it is fetched. Imports no torch."""

from __future__ import annotations

import gzip
import hashlib
import os
import shlex
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dqss.registry import UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.tasks.base import Report

EMBEDDED = Path(__file__).parent / "data"
SUMS = "SHA256SUMS"
PHOTOS = "photos"
PHOTOS_LICENCE = "CC0, CC BY, CC BY-SA, public domain"


class MissingDataError(RuntimeError):
    """A data set is not on this machine; the message says how to get it."""


class FetchError(RuntimeError):
    """No source gave the data set; the message says why each failed, and what to do by hand."""


@dataclass(frozen=True)
class Dataset:
    """A data set that tasks read from a folder.

    Args:
        files: file name -> SHA-256 of its decompressed content, which is alike in every source.
        system_folder: where a system package puts it.
        what: its content, in a few words.
        embedded: what the package ships of it, in a few words.
        size_bytes: of the files together, about.
        licence: its SPDX name and its owner.
        debian_package: the package that brings `system_folder`.
        url: of the folder of the canonical source, with a slash at the end. Hashes guard it, so it need not be https.
    """

    name: str
    files: dict[str, str]
    system_folder: Path
    what: str
    embedded: str
    size_bytes: int
    licence: str
    debian_package: str
    url: str


DATASETS = {
    "fashion-mnist": Dataset(
        name="fashion-mnist",
        files={
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        what="all 60,000 training images and all 10,000 test images",
        embedded="10,000 of the training images (1,000 of each class) and all 10,000 test images",
        size_bytes=30_878_551,
        licence="MIT (Zalando SE)",
        debian_package="dataset-fashion-mnist",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
}


def data_home() -> Path:
    """Return the folder under which data sets are kept: $DQSS_DATA, else the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("DQSS_DATA") or cache / "dqss-bench")


def searched_folders(dataset: Dataset) -> tuple[Path, ...]:
    """Return the folders that the data set is looked for in, first come first."""
    return data_home() / dataset.name, dataset.system_folder


def locate(dataset: Dataset) -> Path | None:
    """Return the first folder that holds every file of the data set, or None."""
    for folder in searched_folders(dataset):
        if all((folder / name).is_file() for name in dataset.files):
            return folder
    return None


def wrong_files(dataset: Dataset, folder: Path) -> list[str]:
    """Return the names of the data set's files that are missing in the folder, or have another content."""
    return [name for name, sha256 in dataset.files.items() if content_sha256(folder / name) != sha256]


def content_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a gzip file's decompressed content; None where it is missing, broken or no gzip file."""
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error):
        return None


def embedded_sums(name: str) -> dict[str, str]:
    """Return file name -> SHA-256 of the files that the package ships of a data set.

    Raises:
        MissingDataError: the list is not in the package.
    """
    return dict(line.split()[::-1] for line in _sums(name).decode().splitlines())


def embedded_digest(name: str) -> str:
    """Return the SHA-256 of the list of the shipped files' hashes: one value for all of their content.

    Raises:
        MissingDataError: the list is not in the package.
    """
    return hashlib.sha256(_sums(name)).hexdigest()


def _sums(name: str) -> bytes:
    path = EMBEDDED / name / SUMS
    if not path.is_file():
        raise MissingDataError(f"the package's own file {path} is missing. Install the package again.")
    return path.read_bytes()


def check_embedded(name: str) -> None:
    """Raise MissingDataError unless every file that the package ships of a data set is there and has its hash."""
    for file, sha256 in embedded_sums(name).items():
        path = EMBEDDED / name / file
        if not path.is_file():
            raise MissingDataError(f"the package's own file {path} is missing. Install the package again.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise MissingDataError(f"the package's own file {path} was changed. Install the package again.")


@dataclass(frozen=True)
class Description:
    """One row of `dqss-bench data list`.

    Args:
        name: of the data set, or of the part of it that the package ships.
        what: its content, in a few words.
        folder: where it was found; None where it was not.
        searched: where it was looked for.
        get: the command that gets it, or what else to do.
        size_bytes: of its files together, about.
        licence: its SPDX name and its owner.
    """

    name: str
    what: str
    folder: Path | None
    searched: tuple[Path, ...]
    get: str
    size_bytes: int
    licence: str


def describe() -> list[Description]:
    """Return rows for what the package ships of data sets, for the whole of them, and for those that users bring."""
    from benchmarks.highres import SETS

    rows = []
    for name, dataset in DATASETS.items():
        rows.append(_shipped(name, dataset.embedded, dataset.licence))
        where = locate(dataset), searched_folders(dataset)
        get = f"dqss-bench data fetch {name}"
        rows.append(Description(name, dataset.what, *where, get, dataset.size_bytes, dataset.licence))
    rows.append(_shipped(PHOTOS, "photographs for super-resolution: 345 crops and 10 whole", PHOTOS_LICENCE))
    return rows + [found.describe() for found in SETS.values()]


def _shipped(name: str, what: str, licence: str) -> Description:
    home = EMBEDDED / name
    try:
        check_embedded(name)
        found: Path | None = home
        size = sum((home / file).stat().st_size for file in embedded_sums(name))
    except MissingDataError:
        found, size = None, 0
    get = "comes with the package; install it again"
    return Description(f"{name} (shipped)", what, found, (home,), get, size, licence)


def fetch(name: str, dest: Path | None, report: Report) -> Path:
    """Bring the whole of a data set to this machine, each file checked by its hash, and return its folder.

    A file that is already right stays as it is; a download that was cut goes on where it ended.

    Args:
        dest: the folder for the files; None: a folder that tasks search, unless one of those has the data set.

    Raises:
        UnknownNameError: no data set of that name.
        FetchError: every source failed, or the folder cannot be made.
    """
    from benchmarks.highres import SETS
    from benchmarks.sources import SOURCES, SourceError

    if name in SETS:
        raise UnknownNameError(f"{name} cannot be fetched: bring it yourself. `dqss-bench data list` says where to.")
    if name not in DATASETS:
        raise UnknownNameError(f"no data set '{name}'. {did_you_mean(name, DATASETS)} See `dqss-bench data list`.")
    dataset = DATASETS[name]
    present = locate(dataset) if dest is None else None
    if present is not None and not wrong_files(dataset, present):
        return present
    folder = dest or data_home() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"cannot make the folder {folder}: {error.strerror}. Give another one with --dest.") from error
    failures = []
    for title, deliver in SOURCES.items():
        missing = wrong_files(dataset, folder)
        if not missing:
            break
        try:
            deliver(dataset, missing, folder, report)
        except (SourceError, OSError) as error:
            failures.append(f"  {title}: {error}")
    missing = wrong_files(dataset, folder)
    if missing:
        raise FetchError(
            f"no source gave all of {name}.\n" + "\n".join(failures) + "\n"
            f"By hand: put {', '.join(missing)} into {folder}, for example from {dataset.url} or from the Debian "
            f"package {dataset.debian_package}, and run this again: it checks them."
        )
    return folder


def advice(name: str, folder: Path) -> str | None:
    """Return what to do so that tasks find a data set in this folder; None where they search it already."""
    folder = folder.absolute()
    if folder.resolve() in (searched.resolve() for searched in searched_folders(DATASETS[name])):
        return None
    if folder.name == name:
        return f"Set DQSS_DATA={folder.parent} so that tasks find it."
    return f"Run `ln -s . {shlex.quote(str(folder / name))}` and set DQSS_DATA={folder} so that tasks find it."
