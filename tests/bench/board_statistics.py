"""Measure what the statistics of a leaderboard cost: `compare` on records made up, in processor time on one thread.

Records are in suites of 15 cells with 14 methods each, six of them with three seeds, on as many test images as asked
for. Run it with `python tests/bench/board_statistics.py`; it fails above the seconds allowed for that many records.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy

from benchmarks.records import MetricFacts, Outcomes, Record, key_of
from leaderboard.comparing import compare

# Of the 10 s that a whole build of 10,000 records may take.
ALLOWED_SECONDS_PER_RECORD = 7.0 / 10_000
MODELS, BITS = ("resnet8", "resnet20", "mobilenetv2-small"), ("W3A3", "W4A4", "W4A8", "W6A6", "W8A8")
METHODS = {
    "best-uniform": 1,
    **{f"uniform-{i}": 1 for i in range(7)},
    **dict.fromkeys(("random", "tpe", "fisher", "coordinate-descent", "dqss-softmax", "dqss"), 3),
}


def made_up(count: int, images: int, hits: bool) -> list[Record]:
    """Return records whose methods differ on some of the images."""
    generator = numpy.random.default_rng(0)
    records: list[Record] = []
    while len(records) < count:
        suite = f"suite-{len(records)}"
        for model in MODELS:
            for bits in BITS:
                # Nine of ten images are right, and one of eight is not so for all: about as at W4A4.
                ease = generator.uniform(size=images)
                for method, seeds in METHODS.items():
                    for seed in range(seeds) if seeds > 1 else (None,):
                        found = ease + generator.normal(scale=0.03, size=images)
                        scores = found > 0.1 if hits else 30 + found
                        records.append(_record(suite, model, bits, method, seed, Outcomes.pack(scores)))
    return records[:count]


def _record(suite: str, model: str, bits: str, method: str, seed: int | None, outcomes: Outcomes) -> Record:
    definition = {"suite": suite, "model": model, "bits": bits, "method": method, "seed": seed}
    mean = float(outcomes.unpack().mean())
    return Record.model_construct(
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
        definition=definition,
        metric=MetricFacts(name="top-1", unit="%", difference_unit="points"),
        score=mean * (100 if outcomes.kind == "bits" else 1),
        full_precision_score=99.0,
        outcomes=outcomes,
        started="2026-01-01T00:00:00+00:00",
    )


def main() -> int:
    """Print the seconds, for hits and for scores, and return 1 where they are too many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=10_000, help="test images where outcomes are hits")
    parser.add_argument("--scored-images", type=int, default=100, help="test images where outcomes are scores")
    options = parser.parse_args()
    allowed = ALLOWED_SECONDS_PER_RECORD * options.records
    slow = False
    # What is worked out once, whatever the records, is in the first.
    for name, images, hits in (("hits", options.images, True), ("scores", options.scored_images, False)):
        records = made_up(options.records, images, hits)
        begun = time.process_time()
        compare(records)
        seconds = time.process_time() - begun
        slow |= seconds > allowed
        print(
            f"{options.records} records, {images} images of {name}: {seconds:.2f} s (at most {allowed:.2f})", flush=True
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
