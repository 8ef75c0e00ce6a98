"""The tasks that suites name."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        "set5-x2": Entry("benchmarks.tasks.sr_folders:Set5X2"),
        "set5-x4": Entry("benchmarks.tasks.sr_folders:Set5X4"),
        "set14-x2": Entry("benchmarks.tasks.sr_folders:Set14X2"),
        "set14-x4": Entry("benchmarks.tasks.sr_folders:Set14X4"),
        "b100-x2": Entry("benchmarks.tasks.sr_folders:B100X2"),
        "b100-x4": Entry("benchmarks.tasks.sr_folders:B100X4"),
        "urban100-x2": Entry("benchmarks.tasks.sr_folders:Urban100X2"),
        "urban100-x4": Entry("benchmarks.tasks.sr_folders:Urban100X4"),
        "div2k-x2": Entry("benchmarks.tasks.sr_folders:Div2kX2"),
        "div2k-x4": Entry("benchmarks.tasks.sr_folders:Div2kX4"),
    },
)
