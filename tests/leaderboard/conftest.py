"""Records made by hand: four fields fix them, the rest is alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from benchmarks.records import LayerChoice, LayerFacts, MetricFacts, Outcomes, Pictures, Record, key_of, write_record

QUANTIZERS = ["minmax", "mse"]


def make_record(
    method: str,
    outcomes: Sequence[float] | None,
    *,
    suite: str = "demo",
    suite_version: int = 1,
    task: str = "fashion-mnist",
    model: str = "resnet8",
    bits: str = "W4A4",
    mode: str = "ptq",
    protocol: str = "all-layers",
    first_last_bits: int | None = None,
    seed: int | None = None,
    status: str = "ok",
    reason: str | None = None,
    score: float | None = None,
    full_precision: float = 90.0,
    checkpoint: str = "c0",
    data: str = "d0",
    options: dict[str, Any] | None = None,
    quantizers: Sequence[str] = QUANTIZERS,
    strategy: dict[str, tuple[str, str]] | None = None,
    alpha: Sequence[float] | None = None,
    losses: dict[str, float] | None = None,
    pictures: Pictures | None = None,
    validation: float | None = None,
    training: dict[str, Any] | None = None,
    started: str = "2026-01-01T00:00:00+00:00",
) -> Record:
    """Return a record; truth values (0 and 1) are hits, other numbers are scores of images."""
    definition = {
        "suite_version": suite_version,
        "task": {"name": task, "version": 1, "data": data},
        "model": {"name": model, "version": 1, "checkpoint": checkpoint},
        "bits": bits,
        "mode": mode,
        "protocol": {
            "first_last_bits": first_last_bits,
            "weight": {"symmetric": True, "granularity": "per-tensor"},
            "activation": {"symmetric": False, "granularity": "per-tensor"},
            "tail": "last-layer",
            "name": protocol,
        },
        "method": {"name": method, "version": 1, "options": options or {}},
        "quantizers": {kind: [{"name": q, "version": 1} for q in quantizers] for kind in ("weight", "activation")},
        "seed": seed,
        **({"training": training} if training else {}),
    }
    values: dict[str, Any] = {}
    if status == "ok":
        hits = None if outcomes is None else set(outcomes) <= {0, 1}
        packed = None if outcomes is None else numpy.array(outcomes, dtype=bool if hits else float)
        mean = None if packed is None else float(packed.mean()) * (100 if hits else 1)
        values = {
            "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
            "score": mean if score is None else score,
            "full_precision_score": full_precision,
            "validation_score": validation,
            "search_seconds": 2.0,
            "forward_passes": 1024,
            "outcomes": None if packed is None else Outcomes.pack(packed),
            "pictures": pictures,
            **(losses or {}),
        }
        if strategy:
            values["strategy"] = {
                name: LayerChoice(weight=weight, activation=activation, bits=bits)
                for name, (weight, activation) in strategy.items()
            }
            values["layers"] = {
                name: LayerFacts(
                    weight_sqnr_db=17.25,
                    activation_sqnr_db=None,
                    alpha_weight=None if alpha is None else list(alpha),
                    alpha_activation=None if alpha is None else list(alpha),
                    entropy_weight=None if alpha is None else 0.5625,
                )
                for name in strategy
            }
    return Record(
        key=key_of(definition),
        suite=suite,
        suite_version=suite_version,
        task=task,
        model=model,
        bits=bits,
        mode=mode,  # type: ignore[arg-type]
        protocol=protocol,
        method=method,
        seed=seed,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        definition=definition,
        started=started,
        **values,
    )


@pytest.fixture
def record() -> Callable[..., Record]:
    """Make a record."""
    return make_record


@pytest.fixture
def cell(tmp_path: Path) -> Callable[..., Path]:
    """Make a record and write it under the test's folder."""
    return lambda *args, **facts: write_record(tmp_path, make_record(*args, **facts))
