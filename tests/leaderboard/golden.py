"""The site of fixed made-up records, file by file, as SHA-256: what the same records must give, byte for byte.

    python -m tests.leaderboard.golden

writes `golden.sha256` anew, after a change of pages that was meant.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from leaderboard.build import build_site
from tests.browser.sample import write_sample

LIST = Path(__file__).with_name("golden.sha256")


def hashes(results: Path, site: Path, processes: int) -> str:
    """Build the site and return a line for each of its files, as sha256sum writes it."""
    build_site(results, site, processes)
    files = sorted(path for path in site.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(site).as_posix()}" for path in files]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the list."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder) / "results")
        LIST.write_text(hashes(Path(folder) / "results", Path(folder) / "site", 1), encoding="utf-8")


if __name__ == "__main__":
    main()
