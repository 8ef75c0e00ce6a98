"""Seconds and memory that it takes to find out what is done, with very many records in one folder.

python tests/bench/resume_scan.py [number of records] [folder to keep them in]
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy

from benchmarks.records import LayerChoice, LayerFacts, MetricFacts, Outcomes, Record, key_of, record_path
from benchmarks.scan import scan
from benchmarks.seal import sealed

LAYERS = 24


def plausible(number: int) -> Record:
    """Return a record of about 10 KB, the size of one with 10,000 test images."""
    definition = {
        "suite_version": 1,
        "task": {"name": "fashion-mnist", "version": 1, "data": "d" * 64},
        "model": {"name": f"model-{number % 7}", "version": 1, "checkpoint": "c" * 64},
        "bits": "W4A4",
        "mode": "ptq",
        "method": {"name": "dqss", "version": 6, "options": {}},
        "seed": number,
    }
    hits = numpy.random.default_rng(number).random(10_000) < 0.9
    names = [f"stages.{layer // 4}.{layer % 4}.conv" for layer in range(LAYERS)]
    return Record(
        key=key_of(definition),
        definition=definition,
        suite="many",
        suite_version=1,
        task="fashion-mnist",
        model=f"model-{number % 7}",
        bits="W4A4",
        mode="ptq",
        protocol="all-layers",
        method="dqss",
        seed=number,
        status="ok",
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points"),
        score=float(hits.mean()) * 100,
        search_seconds=12.5,
        evaluation_seconds=3.25,
        strategy={name: LayerChoice(weight="mse", activation="kl", bits="W4A4") for name in names},
        layers={
            name: LayerFacts(weight_sqnr_db=17.25, activation_sqnr_db=21.5, alpha_weight=[0.125] * 4) for name in names
        },
        outcomes=Outcomes.pack(hits),
        started="2030-01-02T03:04:05+00:00",
    )


def write(out: Path, number: int) -> None:
    """Write a record without waiting for the disk."""
    record = plausible(number)
    path = record_path(out, record.suite, record.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sealed(record.model_dump_json(indent=1, exclude={"schema_version"})))


def main(count: int, out: Path) -> None:
    """Write what is missing, scan, and print what it took."""
    there = len(list((out / "many").glob("*.json"))) if (out / "many").is_dir() else 0
    for number in range(there, count):
        write(out, number)
    size = sum(path.stat().st_size for path in (out / "many").iterdir())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, cpu = time.perf_counter(), time.process_time()
    found = scan(out / "many")
    facts = {
        "records": len(found.briefs),
        "faults": len(found.faults),
        "kb_each": round(size / 1000 / len(found.briefs), 1),
        "seconds": round(time.perf_counter() - begun, 2),
        "processor_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_mb_before": before // 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    if len(sys.argv) > 2:
        main(count, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(count, Path(folder))
