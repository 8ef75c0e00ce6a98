"""Made-up records that give every kind of page something to show: two comparisons of three models at three bit-widths.

Post-training, where an image is right or wrong; and trained quantized, where it has a PSNR, with pictures. One cell
failed, one was skipped, one is missing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy
import PIL.Image

from benchmarks.records import MetricFacts, Picture, Pictures, Record, entropy, key_of, write_record
from tests.leaderboard.conftest import make_record

MODELS = ("resnet8", "resnet20", "mobilenetv2-small")
BITS = ("W8A8", "W4A4", "W3A3")
SEEDS = (0, 1)
IMAGES, PHOTOGRAPHS = 200, 10
LAYERS = ("stem.conv", "stage1.block0.conv1", "stage1.block0.conv2", "stage2.block0.conv1", "stage2.shortcut", "fc")
PTQ = ("minmax", "percentile", "mse", "kl")
QAT = ("lsq", "dsq", "pact")
FAILED = ("mobilenetv2-small", "W3A3", "uniform-kl")
SKIPPED = ("resnet20", "W4A4", "fisher")
MISSING = ("resnet8", "W3A3", "uniform-percentile")

# How far below full precision each method ends, in units of what its bit-width costs.
LOSS = {"uniform-minmax": 1.6, "uniform-percentile": 1.4, "uniform-mse": 1.2, "uniform-kl": 1.5, "best-uniform": 1.0}
LOSS |= {"random": 0.9, "fisher": 1.1, "dqss": 0.5, "uniform-lsq": 1.0, "uniform-dsq": 1.1, "uniform-pact": 1.3}
COST = dict(zip(BITS, (0.005, 0.04, 0.12), strict=True))


def write_sample(results: Path) -> None:
    """Write the records as a run would: `<results>/<suite>/<key>.json`."""
    for record in (*classification(), *photographs()):
        write_record(results, record)


def classification() -> Iterator[Record]:
    """Yield cells of post-training quantization, whose outcomes are hits."""
    methods = [*(f"uniform-{name}" for name in PTQ), "best-uniform", "random", "fisher", "dqss"]
    for model, bits, method, seed in cells(methods, seeded=("random", "dqss")):
        facts: dict[str, Any] = {"suite": "classification", "model": model, "bits": bits, "seed": seed}
        facts |= {"full_precision": 93.0}
        if (model, bits, method) == FAILED:
            failed = make_record(method, None, status="failed", reason="it ran out of memory", **facts)
            yield completed(failed, PTQ, {})
        elif (model, bits, method) == SKIPPED:
            skipped = make_record(method, None, status="skipped", reason="no gradients at this width", **facts)
            yield completed(skipped, PTQ, {})
        elif (model, bits, method) != MISSING:
            hits = draws(model, bits, method, seed).random(IMAGES) < 0.93 - COST[bits] * LOSS[method]
            yield completed(make_record(method, hits.astype(int).tolist(), **facts), PTQ, {"calibration_loss": 0.04})


def photographs() -> Iterator[Record]:
    """Yield cells of training, whose outcomes are a PSNR in dB per photograph."""
    methods = [*(f"uniform-{name}" for name in QAT), "dqss"]
    training = {"epochs": 2, "batch_size": 8, "distillation": 0.5}
    psnr = MetricFacts(name="PSNR", unit="dB", difference_unit="dB")
    for model, bits, method, seed in cells(methods, seeded=methods):
        shift = 10 * COST[bits] * LOSS[method]
        values = 32 - shift + draws(model, "", "", None).normal(0, 2, PHOTOGRAPHS)
        values += draws(model, bits, method, seed).normal(0, 0.05, PHOTOGRAPHS)
        record = make_record(
            method,
            values.tolist(),
            suite="photographs_qat",
            task="super-resolution-x2",
            protocol="super-resolution",
            mode="qat",
            model=model,
            bits=bits,
            seed=seed,
            full_precision=32.5,
            validation=31 - shift,
            training=training,
            pictures=pictures(LOSS[method]),
        )
        yield completed(record, QAT, {"metric": psnr})


@cache
def mean_scores() -> dict[tuple[str, str, str], float]:
    """Return (method, model, bits) -> mean score over seeds, of what is ok in the classification suite."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for record in classification():
        if record.score is not None:
            found.setdefault((record.method, record.model, record.bits), []).append(record.score)
    return {names: fmean(values) for names, values in found.items()}


def cells(methods: list[str], seeded: tuple[str, ...] | list[str]) -> Iterator[tuple[str, str, str, int | None]]:
    """Yield (model, bits, method, seed) of the grid; a method without a seed has one cell."""
    for model in MODELS:
        for bits in BITS:
            for method in methods:
                for seed in SEEDS if method in seeded else (None,):
                    yield model, bits, method, seed


def draws(*names: object) -> numpy.random.Generator:
    """Return random numbers that depend on these names alone."""
    return numpy.random.default_rng([*"/".join(map(str, names)).encode()])


def completed(record: Record, quantizers: tuple[str, ...], facts: dict[str, Any]) -> Record:
    """Return a record with these candidates and, where it is ok, all that a run measures beside its score."""
    entries = [{"name": name, "version": 1} for name in quantizers]
    definition = {**record.definition, "quantizers": {"weight": entries, "activation": entries}}
    changed: dict[str, Any] = {"definition": definition, "key": key_of(definition)}
    if record.status == "ok":
        random = draws(*record.key)
        loss = COST[record.bits] * LOSS[record.method]
        changed |= {
            "search_seconds": float(random.uniform(1, 60)),
            "calibration_seconds": 3.5,
            "evaluation_seconds": 1.25,
            "peak_memory_mb": 812.5,
            "size_bytes": 80_000 * int(record.bits[1]) // 8,
            "bops": 12_000_000 * int(record.bits[1]) * int(record.bits[3]),
            "versions": {"dqss": "0.1.0", "torch": "2.13.0"},
            "hardware": {"device": "cpu", "processor": "made up"},
            "threads": 1,
            **strategy(record, quantizers, random),
            **facts,
        }
        if record.method == "dqss":
            falling = (numpy.geomspace(1, loss, 30) * random.uniform(0.8, 1.2, 30)).tolist()
            changed["curves"] = {"loss": falling, "entropy": numpy.linspace(1.3, 0.1, 30).tolist()}
            changed |= {"relaxed_loss": loss / 2, "discretized_loss": loss}
    return Record.model_validate({**record.model_dump(), **changed})


def strategy(record: Record, quantizers: tuple[str, ...], random: numpy.random.Generator) -> dict[str, Any]:
    """Return the strategy and the facts of each layer; only DQSS has alpha, and differs from layer to layer."""
    searched = record.method in ("random", "fisher", "dqss")
    chosen = {name: random.dirichlet([0.3] * len(quantizers), 2).tolist() for name in LAYERS}
    alone = "mse" if record.method == "best-uniform" else record.method.removeprefix("uniform-")
    choices: dict[str, dict[str, str]] = {}
    layers: dict[str, dict[str, Any]] = {}
    for name, (weight, activation) in chosen.items():
        picked = [quantizers[int(numpy.argmax(shares))] if searched else alone for shares in (weight, activation)]
        choices[name] = {"weight": picked[0], "activation": picked[1], "bits": record.bits}
        layers[name] = {
            "weight_sqnr_db": float(random.uniform(8, 40)),
            "activation_sqnr_db": float(random.uniform(8, 40)),
            "sensitivity": None if record.mode == "qat" else float(random.uniform(0, 0.1)),
        }
        if record.method == "dqss":
            layers[name] |= {"alpha_weight": weight, "alpha_activation": activation}
            layers[name] |= {"entropy_weight": entropy(weight), "entropy_activation": entropy(activation)}
    return {"strategy": choices, "layers": layers}


def pictures(noise: float) -> Pictures:
    """Return an output with this much noise, its error, and what it is compared with."""
    ramp = numpy.linspace(40, 215, 24)[:, None] + numpy.linspace(-30, 30, 24)[None, :]
    rough = 12 * noise * draws("noise").normal(0, 1, (24, 24))
    references = {"original": Picture.of(png(ramp)), "bicubic": Picture.of(png(ramp + 8), png(0 * ramp + 20))}
    return Pictures(
        caption="24 x 24 pixels of a made-up ramp",
        references=references,
        output=Picture.of(png(ramp + rough), png(4 * abs(rough))),
    )


def png(grey: numpy.ndarray[Any, Any]) -> bytes:
    """Return a PNG file of values 0 to 255."""
    file = io.BytesIO()
    PIL.Image.fromarray(grey.clip(0, 255).astype("uint8")).save(file, "PNG")
    return file.getvalue()
