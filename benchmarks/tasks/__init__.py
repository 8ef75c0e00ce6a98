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
    },
)
