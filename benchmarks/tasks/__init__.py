"""The tasks that suites name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.highres import SCALES, SETS
from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task

TASKS: Registry[Task] = Registry(
    "task",
    "benchmarks.tasks.base:Task",
    {
        "fashion-mnist": Entry("benchmarks.tasks.fashion_mnist:FashionMnist"),
        "imagenet": Entry("benchmarks.tasks.imagenet:Imagenet"),
        "imagenet-fidelity": Entry("benchmarks.tasks.imagenet_fidelity:ImagenetFidelity"),
        "photos-x2": Entry("benchmarks.tasks.photos:PhotosX2"),
        "photos-x4": Entry("benchmarks.tasks.photos:PhotosX4"),
        # Of each set of photographs that users bring, a task for each scale.
        **{
            f"{data}-x{scale}": Entry(
                "benchmarks.tasks.super_resolution_folders:Folder", options={"data": data, "scale": scale}
            )
            for data in SETS
            for scale in SCALES
        },
    },
)
