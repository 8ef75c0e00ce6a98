"""`dqss-bench doctor`: what a run needs of this machine, each thing looked at once. Imports no torch until it is asked.

A check never raises: a fault that it did not foresee is what it found.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from benchmarks.datasets import (
    DATASETS,
    EMBEDDED,
    PHOTOS,
    Dataset,
    MissingDataError,
    check_embedded,
    data_home,
    locate,
    wrong_files,
)

OLDEST_PYTHON = (3, 11)
PACKAGES = ("mlflow", "accelerate", "optuna", "pandas", "rich")
CONNECT_SECONDS = 2.0
DEFAULT_PORTS = {"http": 80, "https": 443}
DATABASES = ("postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Check:
    """What was looked at.

    Args:
        found: a few words; for an optional thing that is absent, also how to get it.
        mend: what to do; empty where it is ok.
    """

    name: str
    ok: bool
    found: str
    mend: str = ""


def examine(out: Path) -> list[Check]:
    """Return every check, in the order to read them; nothing is left behind on the machine.

    Args:
        out: the folder that runs are to write to; it need not exist.
    """
    from benchmarks.suite import SuiteError

    try:
        pairs = wanted_checkpoints()
    except SuiteError:
        # The check of the suites tells it.
        pairs = []
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("torch", check_torch),
        ("devices", check_devices),
        ("threads", check_threads),
        *((package, partial(check_package, package)) for package in PACKAGES),
        ("deepspeed", check_deepspeed),
        ("output folder", partial(check_folder, "output folder", out, "Give another one with --out.")),
        ("data cache", check_data_cache),
        ("mlflow store", partial(check_store, os.environ.get("MLFLOW_TRACKING_URI", ""), out)),
        *((f"data {name} (shipped)", partial(check_shipped_data, name)) for name in (*DATASETS, PHOTOS)),
        *((f"data {name}", partial(check_whole_data, dataset)) for name, dataset in DATASETS.items()),
        *((f"checkpoint {task}/{model}", partial(check_checkpoint, model, task)) for model, task in pairs),
        ("suites", check_suites),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check()
    except Exception as error:
        return Check(
            name, False, _fault(error), "Install the package again; if it stays, report this line as an issue."
        )


def _fault(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def check_python() -> Check:
    """Python is new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    wanted = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", False, found, f"Make a virtual environment with Python {wanted} or newer.")
    return Check("python", True, found)


def check_torch() -> Check:
    """PyTorch is there, and its libraries can be loaded."""
    try:
        import torch
    except Exception as error:
        mend = "Install a build for this machine, see https://pytorch.org/get-started/locally."
        return Check("torch", False, _fault(error), mend)
    return Check("torch", True, str(torch.__version__))


def check_devices() -> Check:
    """A network can run; a graphics card is a bonus."""
    import torch

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = ", ".join([f"cpu ({platform.machine()})", *(f"cuda:{i} ({card})" for i, card in enumerate(cards))])
    if cards:
        try:
            torch.zeros(1, device="cuda").sum().item()
        except Exception as error:
            mend = "Install the PyTorch build for this driver, or hide the card: CUDA_VISIBLE_DEVICES=''."
            return Check("devices", False, f"{found}; {_fault(error)}", mend)
    return Check("devices", True, found if cards else f"{found}; no cuda device")


def check_threads() -> Check:
    """PyTorch uses no more threads than the process may use cores; more of them slow each other down."""
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"{threads} threads, {cores} cores"
    if threads > cores:
        return Check("threads", False, found, f"Set OMP_NUM_THREADS={cores}.")
    return Check("threads", True, found)


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_package(package: str) -> Check:
    """A package is installed; it is not imported, which would take seconds."""
    try:
        return Check(package, True, version(package))
    except PackageNotFoundError:
        return Check(package, False, "not installed", f"python -m pip install {package}")


def check_deepspeed() -> Check:
    """DeepSpeed is optional."""
    try:
        return Check("deepspeed", True, version("deepspeed"))
    except PackageNotFoundError:
        return Check("deepspeed", True, "not installed, and not needed; the extra `deepspeed` brings it")


def check_folder(name: str, folder: Path, otherwise: str) -> Check:
    """A folder can be written to, or made; it is not made here."""
    existing = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), None)
    found = f"{folder}{'' if existing == folder.absolute() else ' (not there yet)'}"
    try:
        # Only an attempt tells: the mode says nothing of a read-only file system, nor anything to root.
        with tempfile.TemporaryFile(dir=existing):
            return Check(name, True, found)
    except OSError as error:
        return Check(name, False, f"{found}: {error.strerror}: {existing}", f"Make it writable. {otherwise}")


def check_data_cache() -> Check:
    """Data sets can be fetched to where tasks look for them."""
    return check_folder("data cache", data_home(), "Set DQSS_DATA to a folder you may write to.")


def check_store(uri: str, out: Path) -> Check:
    """The MLflow store can be reached.

    Args:
        uri: MLFLOW_TRACKING_URI; empty for the store under the output folder.
    """
    name, otherwise = "mlflow store", "Or unset MLFLOW_TRACKING_URI: the store is under the output folder then."
    if not uri:
        check = check_folder(name, out, "Give another output folder with --out.")
        return replace(check, found=f"sqlite under {check.found}")
    try:
        parts = urlsplit(uri)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return Check(name, False, "MLFLOW_TRACKING_URI is no address", f"Write http://host:port. {otherwise}")
    # Not `netloc`, which may hold a password.
    shown = f"{parts.scheme}://{parts.hostname or ''}"
    if parts.scheme in DEFAULT_PORTS:
        shown = f"{shown}:{port}"
        try:
            socket.create_connection((parts.hostname or "", port or 0), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            mend = f"Start the server; runs go on without it, and `dqss-bench sync` brings it up to date. {otherwise}"
            return Check(name, False, f"{shown}: {error.strerror or error}", mend)
        return Check(name, True, f"{shown} answers")
    if uri.startswith("sqlite:///"):
        # SQLAlchemy's form: sqlite:///relative and sqlite:////absolute.
        return check_folder(name, Path(parts.path.removeprefix("/")).parent, otherwise)
    # `mysql+pymysql` names a driver too; `databricks` alone is a whole address.
    if parts.scheme.partition("+")[0] in DATABASES or "databricks" in (parts.scheme, uri):
        return Check(name, True, f"{shown if parts.scheme else uri}: set, and not tried here")
    mend = f"Write sqlite:///FILE. {otherwise}"
    if parts.scheme in ("", "file"):
        folder = Path(url2pathname(parts.path))
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
            return check_folder(name, folder, otherwise)
        return Check(name, False, f"{folder}: MLflow keeps no runs in plain folders any more", mend)
    return Check(name, False, f"{shown}: MLflow knows no such store", mend)


def check_shipped_data(name: str) -> Check:
    """The package's own part of a data set is whole."""
    try:
        check_embedded(name)
    except MissingDataError as error:
        return Check(f"data {name} (shipped)", False, str(error), "Install the package again.")
    return Check(f"data {name} (shipped)", True, str(EMBEDDED / name))


def check_whole_data(dataset: Dataset) -> Check:
    """The whole data set, which only `pretrain` needs, is right where it is there."""
    name, get = f"data {dataset.name}", f"dqss-bench data fetch {dataset.name}"
    folder = locate(dataset)
    if folder is None:
        return Check(name, True, f"not here, and needed by `dqss-bench pretrain` only; `{get}` gets it")
    wrong = wrong_files(dataset, folder)
    if wrong:
        return Check(name, False, f"{folder}: {', '.join(wrong)}: not the right content", get)
    return Check(name, True, str(folder))


def wanted_checkpoints() -> list[tuple[str, str]]:
    """Return (model, task it is trained for) of the shipped suites, each once."""
    from benchmarks.checkpoints import TRAINED_FOR
    from benchmarks.suite import load_suite, shipped_suites

    suites = [load_suite(path) for path in shipped_suites().values()]
    tasks = {suite.suite: TRAINED_FOR.get(suite.task, suite.task) for suite in suites}
    return list(dict.fromkeys((model, tasks[suite.suite]) for suite in suites for model in suite.models))


def check_checkpoint(model: str, task: str) -> Check:
    """A checkpoint is there and can be read; one that an optional package brings may be absent."""
    from benchmarks.checkpoints import MissingCheckpointError, find_checkpoint
    from benchmarks.packaged import WEIGHTS

    name = f"checkpoint {task}/{model}"
    try:
        checkpoint = find_checkpoint(model, task)
    except MissingCheckpointError as error:
        if (model, task) in WEIGHTS:
            return Check(name, True, f"not here, and needed by its own suite only; {error}")
        return Check(name, False, "not in the package", str(error))
    return Check(name, True, f"sha256 {checkpoint.sha256[:12]}")


def check_suites() -> Check:
    """The shipped suites are found."""
    from benchmarks.suite import shipped_suites

    suites = shipped_suites()
    if not suites:
        return Check("suites", False, "none in the package", "Install the package again.")
    return Check("suites", True, ", ".join(suites))
