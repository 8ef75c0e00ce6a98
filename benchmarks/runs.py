"""What of a record becomes what of an MLflow run: names, tags, parameters, metrics. Imports no mlflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from benchmarks.progress import method_name
from benchmarks.records import Record
from benchmarks.results import gap_to_full_precision
from dqss.spec import COMMON_PROTOCOL
from dqss.strategy import FORMAT

SCALARS = (
    "score",
    "full_precision_score",
    "validation_score",
    "calibration_loss",
    "relaxed_loss",
    "discretized_loss",
    "search_seconds",
    "calibration_seconds",
    "reconstruction_seconds",
    "evaluation_seconds",
    "forward_passes",
    "peak_memory_mb",
    "size_bytes",
    "bops",
)
"""Fields of a record that are metrics of the same name."""

MAX_VALUE = 500
"""The longest value of a parameter that every MLflow server takes."""


def allowed_name(name: str) -> str:
    """Return the name of a metric or parameter with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def run_name(record: Record) -> str:
    """Return the name of the record's run, for example `resnet8 W4A4 dqss seed 0`."""
    seed = [] if record.seed is None else [f"seed {record.seed}"]
    protocol = [] if record.protocol == COMMON_PROTOCOL else [record.protocol]
    return " ".join([record.model, record.bits, method_name(record), *seed, *protocol])


def tags_of(record: Record) -> dict[str, str]:
    """Return what runs are searched by."""
    names = ("key", "suite", "task", "model", "bits", "mode", "protocol", "method", "status")
    tags = {f"dqss.{name}": str(getattr(record, name)) for name in names}
    return tags if record.reason is None else {**tags, "dqss.reason": record.reason[:MAX_VALUE]}


def parameters_of(record: Record) -> dict[str, str]:
    """Return the cell's coordinates, and all of its definition with dots in the names."""
    names = ("suite_version", "task", "model", "bits", "mode", "protocol", "method", "seed", "processes", "threads")
    return _flat("", record.definition) | {name: str(getattr(record, name)) for name in names}


def _flat(name: str, value: Any) -> dict[str, str]:
    """Return nested mappings as one.

    >>> _flat("", {"options": {"steps": 200}, "candidates": ["kl", "mse"]})
    {'options.steps': '200', 'candidates': '["kl", "mse"]'}
    """
    if not isinstance(value, dict):
        return {name: value if isinstance(value, str) else json.dumps(value)}
    inner = [_flat(f"{name}.{key}" if name else str(key), each) for key, each in value.items()]
    return {key: text for each in inner for key, text in each.items()}


def metrics_of(record: Record) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step of each metric.

    `gap_to_full_precision` is, as on the board, the score less full precision's: below 0 where quantization lost
    something. A curve's name begins with `curve/`, because some carry the name of the scalar that they lead to.
    """
    for name in SCALARS:
        value = getattr(record, name)
        if value is not None:
            yield name, float(value), 0
    if (gap := gap_to_full_precision(record)) is not None:
        yield "gap_to_full_precision", gap, 0
    for name, curve in record.curves.items():
        for step, point in enumerate(curve):
            yield allowed_name(f"curve/{name}"), point, step


def strategy_text(record: Record) -> str:
    """Return the text of a `strategy.json` that `dqss.apply_strategy` replays."""
    layers = {name: choice.model_dump() for name, choice in (record.strategy or {}).items()}
    content = {
        "format": FORMAT,
        "bits": record.bits,
        "protocol": record.definition.get("protocol"),
        "layers": layers,
    }
    return json.dumps(content, indent=2) + "\n"
