"""Suites: finding and reading their files, the cells that they unfold to, and the choice among cells. Imports no torch.

A cell's `definition` holds all that its result depends on, and nothing else: not the suite's name, file or layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmarks.methods import METHODS, QAT_METHODS
from benchmarks.models import MODELS
from benchmarks.records import key_of
from benchmarks.schema.faults import explain
from benchmarks.schema.methods import UNIFORM, Method, search_of
from benchmarks.schema.ptq import PtqSection
from benchmarks.schema.qat import QatSection
from benchmarks.schema.suite import MAX_SEED, Suite
from benchmarks.tasks import TASKS
from benchmarks.yaml_lines import DocumentError, Location, clip, read_document
from dqss.candidates import is_for_weights_alone, with_version
from dqss.learned import LEARNED
from dqss.registry import did_you_mean
from dqss.search import DETERMINISTIC
from dqss.spec import Protocol

__all__ = [
    "Cell",
    "Suite",
    "SuiteError",
    "cells_of",
    "find_suite",
    "load_suite",
    "parse_only",
    "parse_seeds",
    "select",
    "shipped_suites",
]

SELECT_KEYS = ("model", "bits", "method", "mode", "seed", "protocol")


class SuiteError(ValueError):
    """A suite, or a choice among its cells, that cannot be; the message says where, what, and what is allowed."""


def shipped_suites() -> dict[str, Path]:
    """Return name -> file of the suites that come with the program, sorted by name.

    They are in the package's folder `suites` (an installed wheel), else in the folder of that name beside the package
    (a source tree).
    """
    package = Path(__file__).parent
    folders = (package / "suites", package.parent / "suites")
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_suite(name_or_path: str) -> Path:
    """Return the file of a shipped suite by its name, from any folder, else of a path.

    A file in the working folder that is called as a shipped suite is reached by `./name`.

    Raises:
        SuiteError: neither.
    """
    shipped = shipped_suites()
    if name_or_path in shipped:
        return shipped[name_or_path]
    # Unlike Path.exists, it answers for names that no file system takes.
    if os.path.exists(name_or_path):
        return Path(name_or_path)
    hint = did_you_mean(clip(Path(name_or_path).stem), shipped)
    raise SuiteError(
        f"no suite '{clip(name_or_path, 300)}': neither a file nor a shipped suite. {hint} "
        "See `dqss-bench list suites`."
    )


def load_suite(path: Path) -> Suite:
    """Read a suite's file and check all of it.

    Raises:
        SuiteError: the file's first fault, as `path:line: key: what was found. What is allowed.`
    """
    try:
        document = read_document(path)
    except DocumentError as error:
        raise _error(path, error.line, error.location, error.what) from error
    try:
        suite = Suite.model_validate(document.value)
    except ValidationError as error:
        faults = []
        for details in error.errors(include_url=False):
            location: Location = (*details["loc"], *details.get("ctx", {}).get("at", ()))
            if location[:2] == ("protocol", 0) and ("protocol", 0) not in document.lines:
                # A protocol that stands alone is read as a list of one.
                location = ("protocol", *location[2:])
            faults.append((document.line(location), location, explain(details)))
        raise _error(path, *min(faults, key=lambda found: found[0])) from error
    suite._path = path
    return suite


def _error(path: Path, line: int | None, location: Location, what: str) -> SuiteError:
    where = clip(str(path), 300) + (f":{line}" if line else "")
    key = ".".join(clip(part) for part in location if isinstance(part, str))
    return SuiteError(": ".join(part for part in (where, key, what) if part))


class Lookup(NamedTuple):
    """The hash of something a cell needs, or why it is not on this machine."""

    sha256: str | None
    missing: str | None


@dataclass(frozen=True)
class Inventory:
    """What this machine has for the cells that share this object. Each thing is looked up once."""

    known: dict[tuple[str, ...], Lookup] = field(default_factory=dict)

    def data(self, task: str) -> Lookup:
        """Look up the data that the task's cells need."""
        if (task,) not in self.known:
            from benchmarks.datasets import MissingDataError
            from benchmarks.packaged import check_data, data_digest

            try:
                check_data(task)
                self.known[(task,)] = Lookup(data_digest(task), None)
            except MissingDataError as error:
                self.known[(task,)] = Lookup(None, str(error))
        return self.known[(task,)]

    def training(self, task: str) -> str | None:
        """Return why the task has nothing on this machine to train quantized on; None where it has."""
        if ("training", task) not in self.known:
            from benchmarks.datasets import MissingDataError
            from benchmarks.packaged import check_training_data

            missing = None
            try:
                check_training_data(task)
            except MissingDataError as error:
                missing = str(error)
            self.known[("training", task)] = Lookup(None, missing)
        return self.known[("training", task)].missing

    def checkpoint(self, model: str, task: str) -> Lookup:
        """Look up the model's checkpoint for the task."""
        if (model, task) not in self.known:
            from benchmarks.checkpoints import MissingCheckpointError, find_checkpoint

            try:
                self.known[(model, task)] = Lookup(find_checkpoint(model, task).sha256, None)
            except MissingCheckpointError as error:
                self.known[(model, task)] = Lookup(None, str(error))
        return self.known[(model, task)]


@dataclass(frozen=True)
class Budget:
    """What a cell may train: as the suite's `qat: training:` says, equal for all of its methods."""

    epochs: int
    batch_size: int
    distillation: float
    accumulation: int = 1
    precision: str = "no"
    zero: int = 0

    @property
    def definition(self) -> dict[str, Any]:
        """The part of a cell's definition: how steps are computed stands there only where it is not the usual way.

        >>> Budget(2, 64, 0.0, zero=2).definition
        {'epochs': 2, 'batch_size': 64, 'distillation': 0.0, 'zero': 2}
        """
        usual = {"accumulation": 1, "precision": "no", "zero": 0}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}


@dataclass(frozen=True)
class Cell:
    """One model x task x bits x method x seed of a suite.

    Args:
        bits: as in `W4A8`.
        mode: `ptq` or `qat`.
        protocol: its name; an inline one is called `custom-` and the first digits of its hash.
        method: `uniform-<quantizer>`, else a name of its mode's table.
        options: of the method; only those that the suite gives.
        weight_quantizers: the candidates in order; of a `uniform-<quantizer>` that one only.
        activation_quantizers: likewise; all of them where that one is for weights alone.
        seed: None for a deterministic method.
        budget: of training; None in mode `ptq`.
        inventory: shared by the cells of one suite, so that each file is hashed once.
    """

    suite: str
    suite_version: int
    task: str
    model: str
    bits: str
    mode: str
    protocol: str
    protocol_definition: Protocol
    method: str
    options: dict[str, Any]
    weight_quantizers: tuple[str, ...]
    activation_quantizers: tuple[str, ...]
    seed: int | None
    budget: Budget | None = None
    inventory: Inventory = field(default_factory=Inventory, repr=False, compare=False)

    @property
    def search(self) -> str:
        """The method's name in its mode's table."""
        return search_of(self.method)

    @cached_property
    def definition(self) -> dict[str, Any]:
        """All that the result depends on, as plain JSON. A hash is null where its file is missing."""
        return {
            "suite_version": self.suite_version,
            "task": {
                "name": self.task,
                "version": TASKS.entry(self.task).version,
                "data": self.inventory.data(self.task).sha256,
            },
            "model": {
                "name": self.model,
                "version": MODELS.entry(self.model).version,
                "checkpoint": self.inventory.checkpoint(self.model, self.task).sha256,
            },
            "bits": self.bits,
            "mode": self.mode,
            "protocol": asdict(self.protocol_definition),
            "method": {"name": self._method_name, "version": self._method_version, "options": self.options},
            "quantizers": {
                "weight": [self._with_version(name) for name in self.weight_quantizers],
                "activation": [self._with_version(name) for name in self.activation_quantizers],
            },
            "seed": self.seed,
            # Keys of cells that train nothing are without it.
            **({"training": self.budget.definition} if self.budget else {}),
        }

    @property
    def _method_name(self) -> str:
        # In training the algorithm that gives a uniform pair its name may quantize the activations alone.
        return self.method if self.mode == "qat" else self.search

    @property
    def _method_version(self) -> int:
        return (QAT_METHODS if self.mode == "qat" else METHODS).entry(self.search).version

    def _with_version(self, name: str) -> dict[str, Any]:
        return {"name": name, "version": LEARNED.entry(name).version} if self.mode == "qat" else with_version(name)

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the definition: the name of the cell's record."""
        return key_of(self.definition)

    @cached_property
    def skip_reason(self) -> str | None:
        """What is missing to run this cell, and how to get it; None where nothing is."""
        training = self.inventory.training(self.task) if self.mode == "qat" else None
        data, checkpoint = self.inventory.data(self.task), self.inventory.checkpoint(self.model, self.task)
        return training or data.missing or checkpoint.missing


@dataclass(frozen=True)
class _Entry:
    """A method of a mode with what it chooses among: the part of a cell that a suite's section tells."""

    mode: str
    method: Method
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    budget: Budget | None

    @property
    def is_deterministic(self) -> bool:
        # In training the seed gives the order of the images too.
        return self.mode == "ptq" and self.method.search in DETERMINISTIC


def cells_of(suite: Suite, seeds: list[int] | None = None) -> list[Cell]:
    """Return the suite's cells: by model, then protocol, mode, bits, method in the suite's order, then seed.

    Args:
        suite: what to unfold.
        seeds: instead of the suite's own.
    """
    inventory = Inventory()
    cells = []
    for (model, protocol), (bits, entry) in product(product(suite.models, suite.protocol), _entries(suite)):
        runs: Sequence[int | None] = suite.seeds if seeds is None else seeds
        for seed in (None,) if entry.is_deterministic else runs:
            cells.append(
                Cell(
                    suite=suite.suite,
                    suite_version=suite.version,
                    task=suite.task,
                    model=model,
                    bits=bits,
                    mode=entry.mode,
                    protocol=protocol.name,
                    protocol_definition=protocol.definition,
                    method=entry.method.name,
                    options=entry.method.options_at(bits),
                    weight_quantizers=entry.weights,
                    activation_quantizers=entry.activations,
                    seed=seed,
                    budget=entry.budget,
                    inventory=inventory,
                )
            )
    return cells


def _entries(suite: Suite) -> list[tuple[str, _Entry]]:
    """Return each bit-width with each method of a mode, mode after mode."""
    found: list[tuple[str, _Entry]] = []
    if suite.ptq is not None:
        found += product(suite.bits, list(_ptq_entries(suite.ptq)))
    if suite.qat is not None:
        found += product(suite.qat.bits or suite.bits, list(_qat_entries(suite.qat)))
    return found


def _ptq_entries(section: PtqSection) -> Iterator[_Entry]:
    candidates = section.quantizers
    for method in section.unfolded():
        uniform = method.search == "uniform"
        only = (method.name.removeprefix(UNIFORM),)
        shared = uniform and not is_for_weights_alone(*only)
        weights, activations = only if uniform else candidates.weight, only if shared else candidates.activation
        yield _Entry("ptq", method, weights, activations, None)


def _qat_entries(section: QatSection) -> Iterator[_Entry]:
    budget = Budget(**section.training.model_dump())
    for training in section.unfolded():
        yield _Entry("qat", training.method, training.weights, training.activations, budget)


def parse_only(text: str) -> dict[str, list[str]]:
    """Read `--only`: key=value parts with commas between them; a repeated key gives alternatives.

    >>> parse_only("model=resnet8,bits=W4A4,bits=W8A8")
    {'model': ['resnet8'], 'bits': ['W4A4', 'W8A8']}

    Raises:
        SuiteError: not of that form, or an unknown key.
    """
    only: dict[str, list[str]] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            hint = (
                f" For an alternative write {next(reversed(only))}={clip(key)}." if only and key and not equals else ""
            )
            raise SuiteError(f"--only: '{clip(part)}' is not key=value.{hint} Keys: {', '.join(SELECT_KEYS)}.")
        _check_select_key(key)
        only.setdefault(key, []).append(value)
    return only


def parse_seeds(text: str) -> list[int]:
    """Read `--seeds`: whole numbers with commas between them.

    >>> parse_seeds("0,1,2")
    [0, 1, 2]

    Raises:
        SuiteError: not of that form, too large, or doubled.
    """
    seeds: list[int] = []
    for part in text.split(","):
        if not re.fullmatch(r"\s*[0-9]{1,10}\s*", part, re.ASCII) or int(part) > MAX_SEED:
            raise SuiteError(f"--seeds: '{clip(part)}' is not a seed. Give 0 to {MAX_SEED}, for example 0,1,2.")
        if int(part) in seeds:
            raise SuiteError(f"--seeds: {int(part)} stands twice. Delete one.")
        seeds.append(int(part))
    return seeds


def select(cells: Sequence[Cell], only: dict[str, list[str]]) -> list[Cell]:
    """Return the cells that have, for every key, one of its values; their order stays.

    `method=uniform` stands for every `uniform-<quantizer>`; `seed=none` for the deterministic methods.

    Raises:
        SuiteError: an unknown key, a value that no cell has, or values that no cell has together.
    """
    chosen = list(cells)
    for key, values in only.items():
        _check_select_key(key)
        present = dict.fromkeys(name for cell in cells for name in _names_of(cell, key))
        for value in values:
            if value not in present:
                raise SuiteError(f"--only: no cell has {key}={clip(value)}. {did_you_mean(clip(value), present)}")
        chosen = [cell for cell in chosen if any(name in values for name in _names_of(cell, key))]
    if cells and not chosen:
        wanted = ", ".join(f"{key}={'|'.join(values)}" for key, values in only.items())
        raise SuiteError(f"--only: no cell has all of {wanted}. Leave one out.")
    return chosen


def _check_select_key(key: str) -> None:
    if key not in SELECT_KEYS:
        raise SuiteError(f"--only: unknown key '{clip(key)}'. {did_you_mean(clip(key), SELECT_KEYS)}")


def _names_of(cell: Cell, key: str) -> tuple[str, ...]:
    """Return the values of `--only` that select the cell."""
    match key:
        case "method":
            return cell.method, cell.search
        case "seed":
            return ("none" if cell.seed is None else str(cell.seed),)
        case _:
            return (getattr(cell, key),)
