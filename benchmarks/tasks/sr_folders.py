"""Super-resolution of the usual test sets, from a user's own folders: Set5, Set14, B100, Urban100 and DIV2K.

Read are high-resolution images in their usual layouts below $DQSS_DATA (`dqss-bench data list` says what it found and
where it looked). Low-resolution ones are made here, by the same interpolation for all tasks, so scores differ a little
from those on files that MATLAB made. Training, calibration and validation are those of the shipped photographs, and so
are the checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.highres import HIGH_RESOLUTION
from benchmarks.tasks.super_resolution import SuperResolution


class Folder(SuperResolution):
    """Super-resolution of a set of photographs in a user's folder; a subclass brings name and scale."""

    def test_files(self) -> list[Path]:
        return HIGH_RESOLUTION[self.name].files()


class Set5X2(Folder):
    """Super-resolution of Set5 to twice their height and width."""

    name = "set5-x2"
    scale = 2


class Set5X4(Folder):
    """Super-resolution of Set5 to four times their height and width."""

    name = "set5-x4"
    scale = 4


class Set14X2(Folder):
    """Super-resolution of Set14 to twice their height and width."""

    name = "set14-x2"
    scale = 2


class Set14X4(Folder):
    """Super-resolution of Set14 to four times their height and width."""

    name = "set14-x4"
    scale = 4


class B100X2(Folder):
    """Super-resolution of B100 to twice their height and width."""

    name = "b100-x2"
    scale = 2


class B100X4(Folder):
    """Super-resolution of B100 to four times their height and width."""

    name = "b100-x4"
    scale = 4


class Urban100X2(Folder):
    """Super-resolution of Urban100 to twice their height and width."""

    name = "urban100-x2"
    scale = 2


class Urban100X4(Folder):
    """Super-resolution of Urban100 to four times their height and width."""

    name = "urban100-x4"
    scale = 4


class Div2kX2(Folder):
    """Super-resolution of DIV2K's validation photographs to twice their height and width."""

    name = "div2k-x2"
    scale = 2


class Div2kX4(Folder):
    """Super-resolution of DIV2K's validation photographs to four times their height and width."""

    name = "div2k-x4"
    scale = 4
