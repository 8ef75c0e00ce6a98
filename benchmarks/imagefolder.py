"""Images in folders by class, `<root>/<split>/<class>/<image>`, as ImageNet is usually kept. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets import MissingDataError, data_home

SUFFIXES = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True)
class ImageFolder:
    """A data set that a user has below the folder of data sets.

    Args:
        name: of its folder below `data_home()`.
        classes: how many classes each split has; a class's number is its place among the sorted names of its folders.
    """

    name: str
    classes: int

    def split(self, split: str) -> list[tuple[Path, int]]:
        """Return the images of a split with the number of their class, in the order of their paths.

        Raises:
            MissingDataError: the split is not there, or has another number of classes.
        """
        root = data_home() / self.name / split
        folders = sorted(folder for folder in root.glob("*") if folder.is_dir())
        if len(folders) != self.classes:
            raise MissingDataError(
                f"{root} has {len(folders)} folders of classes, not {self.classes}. Put the images there as "
                f"{split}/<class>/<image>.JPEG, or set DQSS_DATA to the folder that holds {self.name}/."
            )
        return [
            (image, number)
            for number, folder in enumerate(folders)
            for image in sorted(folder.iterdir())
            if image.suffix.lower() in SUFFIXES
        ]

    def check(self) -> None:
        """Raise MissingDataError unless `train` and `val` are there."""
        for split in ("train", "val"):
            self.split(split)

    def digest(self) -> str:
        """Return one hash of every image's path and size; to read all of them would take hours."""
        digest = hashlib.sha256()
        root = data_home() / self.name
        for split in ("train", "val"):
            for image, _ in self.split(split):
                digest.update(f"{image.relative_to(root).as_posix()} {image.stat().st_size}\n".encode())
        return digest.hexdigest()


FOLDERS = {"imagenet": ImageFolder("imagenet", classes=1000)}
"""Task -> its folder of images."""
