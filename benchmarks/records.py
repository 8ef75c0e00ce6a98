"""The record of one cell, and its file. Imports no torch, so that results and boards open at once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from benchmarks.outcomes import fault_of
from benchmarks.seal import SCHEMA_VERSION, BrokenSealError, opened, sealed
from benchmarks.storage import write_atomically
from dqss.spec import Bits
from dqss.strategy import Strategy

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Status = Literal["ok", "failed", "skipped"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MetricFacts(_Part):
    """The task's primary metric: its name ("top-1"), unit ("%") and the unit of differences ("points")."""

    name: str
    unit: str
    difference_unit: str


class LayerChoice(_Part):
    """What a strategy says of one layer: names of quantizers, and bit-widths as in `W4A4`."""

    weight: str
    activation: str
    bits: str

    @classmethod
    def by_layer(cls, strategy: Strategy) -> dict[str, LayerChoice]:
        """Return layer name -> what the strategy says of it."""
        return {
            name: cls(weight=choice.weight, activation=choice.activation, bits=str(choice.bits))
            for name, choice in strategy.layers.items()
        }


class LayerFacts(_Part):
    """What the run saw at one layer.

    Args:
        weight_sqnr_db: signal to quantization noise of the chosen weights; None where the noise is nil.
        activation_sqnr_db: the same of the layer's inputs over the calibration set.
        alpha_weight: final mixing weights of the weight candidates, in their order; None for other searches.
        alpha_activation: the same of the activation candidates.
        entropy_weight: of alpha_weight, in nats: 0 where one candidate has it all, ln M where M have equal shares.
        entropy_activation: the same of alpha_activation.
        sensitivity: calibration loss of the network with this layer alone quantized as chosen; None where it is not
            finite, in training, and in records that are older than it.
    """

    weight_sqnr_db: float | None
    activation_sqnr_db: float | None
    alpha_weight: list[float] | None = None
    alpha_activation: list[float] | None = None
    entropy_weight: float | None = None
    entropy_activation: float | None = None
    sensitivity: float | None = None

    @classmethod
    def by_layer(
        cls,
        sqnr: Mapping[str, tuple[float | None, float | None]],
        alpha: Mapping[str, tuple[list[float], list[float]]] | None,
        sensitivity: Mapping[str, float | None] | None = None,
    ) -> dict[str, LayerFacts]:
        """Return layer name -> facts, of SQNR and alpha, both for (weight, activation), and of sensitivity."""
        facts = {}
        for name, (weight, activation) in sqnr.items():
            shares = alpha[name] if alpha else (None, None)
            facts[name] = cls(
                weight_sqnr_db=weight,
                activation_sqnr_db=activation,
                alpha_weight=shares[0],
                alpha_activation=shares[1],
                entropy_weight=entropy(shares[0]),
                entropy_activation=entropy(shares[1]),
                sensitivity=sensitivity[name] if sensitivity else None,
            )
        return facts


class Outcomes(_Part):
    """One outcome per test image, packed.

    Args:
        kind: `bits` (truth values, eight to a byte, first image in the highest bit) or `float32` (little-endian).
        count: the number of images.
        data: base64 of the bytes.
    """

    kind: Literal["bits", "float32"]
    count: int
    data: str

    @classmethod
    def pack(cls, values: numpy.ndarray[Any, Any]) -> Outcomes:
        """Pack a one-dimensional array of booleans or floats."""
        if values.dtype == numpy.bool_:
            kind: Literal["bits", "float32"] = "bits"
            content = numpy.packbits(values).tobytes()
        else:
            kind, content = "float32", values.astype("<f4").tobytes()
        return cls(kind=kind, count=len(values), data=base64.b64encode(content).decode())

    def unpack(self) -> numpy.ndarray[Any, Any]:
        """Return the (count,) array that was packed.

        Raises:
            ValueError: the data is not that of so many outcomes.
        """
        content = binascii.a2b_base64(self.data, strict_mode=True)
        expected = -(-self.count // 8) if self.kind == "bits" else 4 * self.count
        if len(content) != expected:
            raise ValueError(f"outcomes: {len(content)} bytes are not {self.count} outcomes, which take {expected}.")
        if self.kind == "bits":
            return numpy.unpackbits(numpy.frombuffer(content, "u1"), count=self.count).astype(numpy.bool_)
        return numpy.frombuffer(content, "<f4")


class Picture(_Part):
    """A part of a test image as it came out.

    Args:
        image: base64 of a PNG file.
        error: the same, of its differences from the original; None for the original itself.
    """

    image: str
    error: str | None = None

    @field_validator("image", "error")
    @classmethod
    def _is_png(cls, value: str | None) -> str | None:
        if value is not None and not base64.b64decode(value, validate=True).startswith(PNG_SIGNATURE):
            raise ValueError("not a PNG file in base64")
        return value

    @classmethod
    def of(cls, image: bytes, error: bytes | None = None) -> Picture:
        """Return the picture that these PNG files make."""
        encoded = [None if content is None else base64.b64encode(content).decode() for content in (image, error)]
        return cls(image=encoded[0] or "", error=encoded[1])


class Pictures(_Part):
    """What a reader compares by eye: one part of one test image.

    Args:
        caption: which part of which image, and how errors are shown.
        references: name -> picture of what outputs are compared with, the original first.
        output: of the cell's quantized model.
    """

    caption: str
    references: dict[str, Picture]
    output: Picture


class Record(_Part):
    """Everything that is known of one finished cell.

    The fields before `definition` are what a run that goes on needs of it: `scan` reads no further.

    Args:
        key: SHA-256 of `definition`, the cell's canonical JSON; also the file's name.
        definition: all that fixes the result: versions of task, method and quantizers, protocol, hashes, options.
        seed: None for a deterministic method.
        reason: why it failed or was skipped, and what to do; None where it is ok.
        score: the task's primary metric on the test split.
        full_precision_score: the same of the checkpoint, measured in this run.
        validation_score: the same metric on the search-validation split, where a method trains: by it the best uniform
            algorithm is chosen.
        measures: what else the task measured on the test split: a name with its unit -> its value.
        calibration_loss: of the (discrete) strategy, on the calibration set.
        relaxed_loss: of the relaxed mixture where the search ended, on the calibration set.
        discretized_loss: of the strategy that alpha stands for; above `calibration_loss` where the search ended with
            another one.
        search_seconds: wall time of the search or the training, that of finding its `start` and
            `reconstruction_seconds` included; calibration is shared and stands in `calibration_seconds`.
        reconstruction_seconds: wall time of making the weight candidates that are more than a range, as if no other
            cell had made them, but for layers whose bits are the same at a bit-width that ran before; None for a cell
            without any.
        forward_passes: images sent forward through the network by the search or the training, to find its `start`, by
            distillation and for reconstructions; a backward pass counts as two. The steps of a reconstruction are of
            one layer and run no images.
        peak_memory_mb: highest resident memory of the process during the search, or the training and the search for its
            `start`.
        size_bytes: packed weights, biases and quantization parameters.
        bops: bit operations (multiply-accumulates x weight bits x activation bits) for one input of the calibration
            set.
        strategy: layer name -> choice.
        start: the same of the post-training strategy by whose ranges training began; None where nothing is trained, and
            in records that are older than it.
        layers: layer name -> facts, in the network's order.
        curves: name -> one value per step; as in dqss.search.base.Found and dqss.qat.QatReport.
        pictures: what the model made of a part of one test image, where the task has something to look at.
        ids: split name -> ids in the source data set, in their order; `first-last` where that is all of them in a row.
        processes: how many worked on the suite run.
        parallel: `data` where all of them trained this cell together, each on its part of every batch; `cells` where
            one of them ran it alone; None in one process, and in records that are older than the choice.
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    suite: str
    suite_version: int
    task: str
    model: str
    bits: str
    mode: Literal["ptq", "qat"]
    protocol: str
    method: str
    seed: int | None
    status: Status
    reason: str | None = None
    search_seconds: float | None = None
    evaluation_seconds: float | None = None
    definition: dict[str, Any]
    metric: MetricFacts | None = None
    score: float | None = None
    full_precision_score: float | None = None
    validation_score: float | None = None
    measures: dict[str, float] = {}
    calibration_loss: float | None = None
    relaxed_loss: float | None = None
    discretized_loss: float | None = None
    reconstruction_seconds: float | None = None
    calibration_seconds: float | None = None
    forward_passes: int | None = None
    peak_memory_mb: float | None = None
    size_bytes: int | None = None
    bops: int | None = None
    strategy: dict[str, LayerChoice] | None = None
    start: dict[str, LayerChoice] | None = None
    layers: dict[str, LayerFacts] | None = None
    curves: dict[str, list[float]] = {}
    outcomes: Outcomes | None = None
    pictures: Pictures | None = None
    ids: dict[str, list[int] | str] = {}
    started: str
    processes: int = 1
    parallel: Literal["cells", "data"] | None = None
    threads: int | None = None
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    traceback: str | None = None

    @field_validator("bits")
    @classmethod
    def _are_bits(cls, value: str) -> str:
        return str(Bits.parse(value))


class BadRecordError(ValueError):
    """A record's file that cannot be trusted; the message names the file and the fault.

    Args:
        path: the file.
        fault: one sentence without its full stop.
    """

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}. The next run sets it aside and runs its cell again.")
        self.path = path
        self.fault = fault


def key_of(definition: dict[str, Any]) -> str:
    """Return the SHA-256 of the definition's canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def shortened(ids: list[int]) -> list[int] | str:
    """Return ids as a record keeps them.

    >>> shortened([3, 4, 5, 6]), shortened([3, 5, 4])
    ('3-6', [3, 5, 4])
    """
    in_a_row = len(ids) > 1 and ids == list(range(ids[0], ids[0] + len(ids)))
    return f"{ids[0]}-{ids[-1]}" if in_a_row else ids


def contradiction(record: Record) -> str | None:
    """Return the field of a record that its definition, which the key seals, tells otherwise; None where all agree."""

    def defined(*path: str | int) -> Any:
        value: Any = record.definition
        for step in path:
            match value:
                case {**keys} if step in keys:
                    value = keys[step]
                case [*entries] if isinstance(step, int) and step < len(entries):
                    value = entries[step]
                case _:
                    return None
        return value

    method = defined("method", "name")
    if method == "uniform":
        method = f"uniform-{defined('quantizers', 'weight', 0, 'name')}"
    told = {
        "suite_version": defined("suite_version"),
        "task": defined("task", "name"),
        "model": defined("model", "name"),
        "bits": defined("bits"),
        "mode": defined("mode"),
        "method": method,
        "seed": defined("seed"),
    }
    return next((name for name, value in told.items() if value not in (None, getattr(record, name))), None)


def entropy(shares: Sequence[float] | None) -> float | None:
    """Return the entropy of mixing weights in nats; None for None.

    >>> entropy([0.0, 1.0]), entropy([0.5, 0.5]) == math.log(2), entropy(None)
    (0.0, True, None)
    """
    return None if shares is None else sum(-share * math.log(share) for share in shares if share > 0)


def record_path(out: Path, suite: str, key: str) -> Path:
    """Return the file of a cell's record under the output folder."""
    return out / suite / f"{key}.json"


def training_folder(out: Path, suite: str) -> Path:
    """Return the folder under the output folder where trainings of a suite are kept while they last."""
    return out / suite / "training"


def claims_folder(out: Path, suite: str) -> Path:
    """Return the folder under the output folder that says which cells of a suite are being run, and by whom."""
    return out / suite / "claims"


def logs_folder(out: Path, suite: str) -> Path:
    """Return the folder under the output folder for what the processes of a suite's cells say."""
    return out / suite / "logs"


def write_record(out: Path, record: Record) -> Path:
    """Write a record under the output folder and return its path.

    Raises:
        StorageError: it cannot be written.
    """
    path = record_path(out, record.suite, record.key)
    write_atomically(path, sealed(record.model_dump_json(indent=1, exclude={"schema_version"})))
    return path


def read_record(path: Path) -> Record:
    """Read one record, and check all of it.

    Raises:
        BadRecordError: as of `checked`, or not readable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRecordError(path, f"cannot be read: {error.strerror}") from error
    return checked(path, content)


def checked(path: Path, content: bytes) -> Record:
    """Return the record that a file of this content is.

    Raises:
        BadRecordError: not what was written, of another schema, its key does not fit its definition or its file's name,
            its fields tell otherwise than its definition, or its score otherwise than its outcomes.
    """
    try:
        _, body = opened(content)
        record = Record.model_validate_json(b"{" + body)
        key = key_of(record.definition)
    except ValueError as error:
        raise BadRecordError(path, f"not a record ({_first_fault(error)})") from error
    if not record.key == key == path.stem:
        raise BadRecordError(path, "its key does not fit its content")
    if (field := contradiction(record)) is not None:
        raise BadRecordError(path, f"its {field} is not what its definition says")
    if (fault := fault_of(record)) is not None:
        raise BadRecordError(path, fault.rstrip("."))
    return record


def _first_fault(error: ValueError) -> str:
    """Return where a file departs from a record first, and how, on one line."""
    if isinstance(error, BrokenSealError):
        return str(error)
    if not isinstance(error, ValidationError):
        return f"definition: {error}"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ").rstrip(".")
    return " ".join((f"{where}: {what}" if where else what).split())


def iterate_records(out: Path, suite: str | None = None) -> Iterator[Record | BadRecordError]:
    """Yield the records under an output folder, in the order of their paths, and the fault of each bad file."""
    for path in sorted(out.glob(f"{suite or '*'}/*.json")):
        if len(path.stem) == 64:
            try:
                yield read_record(path)
            except BadRecordError as error:
                yield error
