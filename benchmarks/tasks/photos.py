"""Super-resolution of the shipped photographs, on the luma of ten that no training or calibration has seen."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets import EMBEDDED, PHOTOS
from benchmarks.tasks.super_resolution import SuperResolution


class Photos(SuperResolution):
    """Super-resolution of the shipped test photographs; a subclass brings its scale."""

    def test_files(self) -> list[Path]:
        return sorted((EMBEDDED / PHOTOS / "test").glob("*.png"))


class PhotosX2(Photos):
    """Super-resolution of the shipped photographs to twice their height and width."""

    name = "photos-x2"
    scale = 2


class PhotosX4(Photos):
    """Super-resolution of the shipped photographs to four times their height and width."""

    name = "photos-x4"
    scale = 4
