"""A small set of made-up records, and the SHA-256 of every file of the site that they make.

After a change of the pages that is meant, `python -m tests.leaderboard.golden` writes the list anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from random import Random

from benchmarks.records import write_record
from leaderboard.build import build_site
from tests.leaderboard.conftest import make_record

GOLDEN = Path(__file__).with_name("golden.sha256")
METHODS: dict[str, tuple[int | None, ...]] = {
    "best-uniform": (None,),
    "uniform-mse": (None,),
    "random": (0, 1),
    "dqss": (0, 1),
}
CHOICES = {"stem.conv": ("mse", "minmax"), "fc": ("minmax", "mse")}


def write_records(out: Path) -> None:
    """Write two comparisons of four boards each, hits of 200 images and scores of 12.

    Of one cell the record says that it failed, of another it is broken. Numbers are sums of halves, so that every
    machine has the same ones.
    """
    generator = Random(7)
    for suite, images in (("classification", 200), ("photographs", 12)):
        for model in ("resnet8", "resnet20"):
            for bits in ("W4A4", "W8A8"):
                ease = [generator.random() for _ in range(images)]
                for method, seeds in METHODS.items():
                    for seed in seeds:
                        found = [one + 0.1 * (generator.random() - 0.5) for one in ease]
                        outcomes = [one > 0.2 if images > 100 else 30 + round(64 * one) / 64 for one in found]
                        where = {"suite": suite, "model": model, "bits": bits, "seed": seed}
                        facts = {"strategy": CHOICES, "alpha": [0.25, 0.75]} if method == "dqss" else {}
                        write_record(out, make_record(method, outcomes, **where, **facts))
    write_record(out, make_record("tpe", None, suite="photographs", seed=0, status="failed", reason="no memory"))
    broken = write_record(out, make_record("tpe", [1, 0, 1], suite="classification", seed=0))
    broken.write_text(broken.read_text()[:-40])


def digests(site: Path) -> dict[str, str]:
    """Return the path of each file of a site -> its SHA-256."""
    files = [path for path in sorted(site.rglob("*")) if path.is_file()]
    return {path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def listed() -> dict[str, str]:
    """Return what the list says, as `sha256sum` writes it."""
    lines = [line.split("  ", 1) for line in GOLDEN.read_text().splitlines()]
    return {path: digest for digest, path in lines}


def main() -> None:
    """Write the list."""
    with tempfile.TemporaryDirectory() as folder:
        results, site = Path(folder) / "results", Path(folder) / "site"
        write_records(results)
        build_site(results, site)
        GOLDEN.write_text("".join(f"{digest}  {path}\n" for path, digest in digests(site).items()))


if __name__ == "__main__":
    main()
