"""Folders of photographs that super-resolution is tested on, in their usual layouts. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.datasets import Description, MissingDataError, data_home

SUFFIXES = {".png", ".bmp", ".jpg", ".jpeg"}
LAYOUTS = ("HR/*", "original/*", "GTmod12/*", "image_SRF_2/*_HR.*", "image_SRF_4/*_HR.*", "*")


@dataclass(frozen=True)
class HighResolution:
    """A set of photographs that a user has below the folder of data sets.

    Args:
        name: as papers call it.
        count: how many photographs it has.
        folders: its names below `data_home()`, first come first.
        layouts: patterns of its files below its folder, first come first.
        size_bytes: of the photographs together, about.
        licence: what is known of it.
    """

    name: str
    count: int
    folders: tuple[str, ...]
    size_bytes: int
    licence: str
    layouts: tuple[str, ...] = LAYOUTS

    @property
    def searched(self) -> tuple[Path, ...]:
        """The folders that it is looked for in, first come first."""
        return tuple((data_home() / pattern).parent for pattern in self._patterns())

    def _patterns(self) -> list[str]:
        return [str(Path(folder, layout)) for folder in self.folders for layout in self.layouts]

    def files(self) -> list[Path]:
        """Return its photographs in the order of their names.

        Raises:
            MissingDataError: no layout has as many photographs as the set has; the message says what there was.
        """
        wrong = []
        for pattern in self._patterns():
            paths = sorted(path for path in data_home().glob(pattern) if _is_photograph(path))
            if len(paths) == self.count:
                return paths
            if paths:
                wrong.append(f"{pattern} has {len(paths)}")
        found = f"; {', '.join(wrong)}" if wrong else ""
        raise MissingDataError(
            f"{self.name} is not in {data_home()}: no {self.count} photographs in {' or '.join(self.folders)} as "
            f"{', '.join(self.layouts)}{found}. Put them there, or set DQSS_DATA to the folder above."
        )

    def check(self) -> None:
        """Raise MissingDataError unless it is there."""
        self.files()

    def digest(self) -> str:
        """Return one hash of the names and contents of its photographs, wherever they lie."""
        digest = hashlib.sha256()
        for path in self.files():
            digest.update(f"{_sha256(path, path.stat().st_mtime_ns)}  {path.name}\n".encode())
        return digest.hexdigest()

    def describe(self) -> Description:
        """Return its row of `dqss-bench data list`."""
        what = f"{self.count} photographs, for super-resolution"
        try:
            folder, get = self.files()[0].parent, ""
        except MissingDataError as error:
            folder, get = None, str(error)
        return Description(self.name.lower(), what, folder, self.searched, get, self.size_bytes, self.licence)


def _is_photograph(path: Path) -> bool:
    # macOS leaves a `._baby.png` beside every `baby.png` that it unpacks.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


@cache
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


UNKNOWN = "not stated"
SETS = {
    "set5": HighResolution("Set5", 5, ("Set5",), 1_000_000, UNKNOWN),
    "set14": HighResolution("Set14", 14, ("Set14",), 6_000_000, UNKNOWN),
    "b100": HighResolution(
        "B100", 100, ("B100", "BSD100", "BSDS100", "BSDS300"), 27_000_000, UNKNOWN, layouts=(*LAYOUTS, "images/test/*")
    ),
    "urban100": HighResolution("Urban100", 100, ("Urban100",), 132_000_000, UNKNOWN),
    "div2k": HighResolution(
        "DIV2K", 100, ("DIV2K", "."), 449_000_000, "academic research only", layouts=("DIV2K_valid_HR/*",)
    ),
}
"""Bevilacqua et al. (BMVC 2012), Zeyde et al. (2010), Martin et al. (ICCV 2001), Huang et al. (CVPR 2015), and the 100
validation photographs of Agustsson and Timofte (CVPRW 2017)."""

SCALES = (2, 4)
HIGH_RESOLUTION = {f"{name}-x{scale}": found for name, found in SETS.items() for scale in SCALES}
"""Task -> the set that it is tested on. The rest of its data are the shipped photographs."""
