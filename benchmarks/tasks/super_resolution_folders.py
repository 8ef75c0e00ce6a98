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
    """One set, enlarged by one scale.

    Args:
        data: the set, a name of SETS.
        scale: by how much height and width grow, one of SCALES.
    """

    def __init__(self, data: str, scale: int) -> None:
        super().__init__()
        self.name = f"{data}-x{scale}"
        self.scale = scale

    def test_files(self) -> list[Path]:
        return HIGH_RESOLUTION[self.name].files()
