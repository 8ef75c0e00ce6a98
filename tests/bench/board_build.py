"""Measure a whole build of the leaderboard, from records' files to the site: time, memory, size of the first page.

Records are made up, in suites of 15 cells with 14 methods each, six of them with three seeds, as searches leave them:
strategies, layers, curves of 120 points, 3,000 ids; in every other suite hits of 10,000 test images, else scores of 48.
Run it with `python tests/bench/board_build.py --records 10000`; it fails above what that many may take. On a machine
that does other work too compare the processor time: quiet cores need about that, divided by their number.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy

from benchmarks.records import LayerChoice, LayerFacts, MetricFacts, Outcomes, Record, key_of, write_record
from leaderboard.build import build_site

# Records -> wall seconds on two quiet cores, and MB of this process and its children together.
ALLOWED = {10_000: (10.0, 1000), 100_000: (60.0, 1000)}
# Of 10,000 records; the page has a section for each suite.
FIRST_PAGE_KB = 300
MODELS, BITS = ("resnet8", "resnet20", "mobilenetv2-small"), ("W3A3", "W4A4", "W4A8", "W6A6", "W8A8")
METHODS = {
    "best-uniform": 1,
    **{f"uniform-{name}": 1 for name in ("minmax", "percentile", "mse", "lp", "kl", "aciq-laplace", "adaround")},
    **dict.fromkeys(("random", "tpe", "fisher", "coordinate-descent", "dqss-softmax", "dqss"), 3),
}
CANDIDATES = ("minmax", "percentile", "percentile-99.99", "mse", "lp", "kl", "kl-tight", "aciq-laplace")
LAYERS = 20
IMAGES, PHOTOGRAPHS = 10_000, 48


def write_records(out: Path, count: int) -> None:
    """Write so many records under a results folder."""
    generator = numpy.random.default_rng(0)
    written = 0
    for suite in range(count):
        hits = suite % 2 == 0
        images = IMAGES if hits else PHOTOGRAPHS
        for model in MODELS:
            for bits in BITS:
                # Nine of ten images are right, and one of eight is not so for all: about as at W4A4.
                ease = generator.uniform(size=images)
                for method, seeds in METHODS.items():
                    for seed in range(seeds) if seeds > 1 else (None,):
                        if written == count:
                            return
                        found = ease + generator.normal(scale=0.03, size=images)
                        outcomes = Outcomes.pack(found > 0.1 if hits else 30 + found)
                        write_record(out, _record(f"suite-{suite}", model, bits, method, seed, outcomes, generator))
                        written += 1


def _record(
    suite: str,
    model: str,
    bits: str,
    method: str,
    seed: int | None,
    outcomes: Outcomes,
    generator: numpy.random.Generator,
) -> Record:
    definition = {
        "suite_version": 1,
        "task": {"name": "made-up", "version": 1, "data": key_of({"suite": suite})},
        "model": {"name": model, "version": 1, "checkpoint": key_of({"model": model})},
        "bits": bits,
        "mode": "ptq",
        "protocol": {
            "first_last_bits": None,
            "weight": {"symmetric": True, "granularity": "per-tensor"},
            "activation": {"symmetric": False, "granularity": "per-tensor"},
            "tail": "last-layer",
        },
        "method": {"name": method, "version": 1, "options": {}},
        "quantizers": {
            kind: [{"name": name, "version": 1} for name in CANDIDATES] for kind in ("weight", "activation")
        },
        "seed": seed,
    }
    mean = float(outcomes.unpack().mean())
    picks = generator.integers(len(CANDIDATES), size=(LAYERS, 2))
    chosen = {
        f"blocks.{i}.conv": LayerChoice(weight=CANDIDATES[w], activation=CANDIDATES[a], bits=bits)
        for i, (w, a) in enumerate(picks)
    }
    searched = method.startswith("dqss")
    shares = generator.dirichlet(numpy.ones(len(CANDIDATES)), size=(LAYERS, 2)).tolist()
    facts = {
        name: LayerFacts(
            weight_sqnr_db=float(generator.normal(20, 3)),
            activation_sqnr_db=float(generator.normal(20, 3)),
            alpha_weight=shares[i][0] if searched else None,
            alpha_activation=shares[i][1] if searched else None,
            sensitivity=float(generator.exponential()),
        )
        for i, name in enumerate(chosen)
    }
    curves = {"loss": generator.exponential(size=120).tolist(), "entropy": generator.exponential(size=120).tolist()}
    return Record(
        key=key_of(definition),
        suite=suite,
        suite_version=1,
        task="made-up",
        model=model,
        bits=bits,
        mode="ptq",
        protocol="all-layers",
        method=method,
        seed=seed,
        status="ok",
        search_seconds=float(generator.exponential(20)),
        evaluation_seconds=3.0,
        definition=definition,
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points"),
        score=mean * (100 if outcomes.kind == "bits" else 1),
        full_precision_score=99.0,
        calibration_loss=float(generator.exponential()),
        forward_passes=int(generator.integers(1_000_000)),
        peak_memory_mb=800.0,
        size_bytes=int(generator.integers(1_000_000)),
        bops=int(generator.integers(1_000_000_000)),
        strategy=chosen,
        layers=facts,
        curves=curves if searched or method == "random" else {},
        outcomes=outcomes,
        ids={
            "calibration": generator.integers(60_000, size=1024).tolist(),
            "search-validation": generator.integers(60_000, size=2000).tolist(),
            "test": f"0-{outcomes.count - 1}",
        },
        started="2026-01-01T00:00:00+00:00",
        threads=1,
        versions={"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6", "optuna": "5.0.0"},
        hardware={"processor": "AMD EPYC", "cores": "2", "memory_gb": "25", "system": "Linux x86_64", "device": "cpu"},
    )


class Memory:
    """The highest memory of this process and its children together, in MB, as far as looking now and then shows it.

    What processes share counts once (their proportional set sizes).
    """

    def __init__(self) -> None:
        self.highest = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.2):
            self.highest = max(self.highest, sum(map(_megabytes, _family(os.getpid()))))


def _family(parent: int) -> list[int]:
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        children = []
    return [parent, *(one for child in children for one in _family(int(child)))]


def _megabytes(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> int:
    """Print what the build takes and return 1 where it is too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000, help="how many to make up")
    parser.add_argument("--processes", type=int, default=None, help="by default as many as there are processors")
    parser.add_argument("--results", type=Path, default=None, help="make them here, or take what is here; it is kept")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="board-build-"))
    try:
        results = options.results or work / "results"
        if not results.exists():
            # What is made up need not outlast a power cut.
            with mock.patch("os.fsync"):
                write_records(results, options.records)
        before, begun = _processor_seconds(), time.monotonic()
        with Memory() as memory:
            index = build_site(results, work / "site", options.processes)
        wall, processor = time.monotonic() - begun, _processor_seconds() - before
        pages = [path.stat().st_size for path in (work / "site").rglob("*") if path.is_file()]
        first_page = index.stat().st_size / 1000
    finally:
        shutil.rmtree(work)
    seconds, megabytes = ALLOWED.get(options.records, (options.records / 1000, 1000))
    print(f"{options.records} records on {os.cpu_count()} processors: {wall:.1f} s (at most {seconds:.0f}), ", end="")
    print(f"{options.records / wall:.0f} records/s; processor time {processor:.1f} s; ", end="")
    print(f"memory {memory.highest:.0f} MB (at most {megabytes}); ", end="")
    print(f"{len(pages)} files, {sum(pages) / 1e6:.1f} MB; first page {first_page:.0f} KB (at most {FIRST_PAGE_KB})")
    large_page = first_page > FIRST_PAGE_KB and options.records <= 10_000
    return int(wall > seconds or memory.highest > megabytes or large_page)


if __name__ == "__main__":
    sys.exit(main())
