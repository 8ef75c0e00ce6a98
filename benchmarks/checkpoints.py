"""Trained networks: a safetensors file of weights and a JSON file of how they were made, per task and model.

Imports no torch until a model is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.datasets import PHOTOS, MissingDataError
from benchmarks.highres import SCALES, SETS
from benchmarks.models import MODELS
from benchmarks.packaged import WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from benchmarks.tasks.base import Task

SHIPPED = Path(__file__).parent / "checkpoints"
TRAINED_FOR = {f"{name}-x{scale}": f"{PHOTOS}-x{scale}" for name in SETS for scale in SCALES}
"""Task -> the task whose checkpoints it takes; others take their own."""


class MissingCheckpointError(RuntimeError):
    """No trained weights for a model and task; the message says how to make them."""


@dataclass(frozen=True)
class Checkpoint:
    """One trained network on disk.

    Args:
        sha256: of the weights' file; part of every cell's key.
        recipe: how it was trained, and what it measured then.
    """

    weights: Path
    sha256: str
    recipe: dict[str, Any]


def find_checkpoint(model: str, task: str) -> Checkpoint:
    """Return the checkpoint of a model trained for a task: from $DQSS_CHECKPOINTS if it is there, else the shipped one.

    The weights of some models come with another package; some tasks only test what was trained for another one.

    Raises:
        MissingCheckpointError: there is none, or its two files do not belong together.
    """
    task = TRAINED_FOR.get(task, task)
    own = os.environ.get("DQSS_CHECKPOINTS")
    folders = [Path(own)] if own else []
    for folder in (*folders, SHIPPED):
        weights = folder / task / f"{model}.safetensors"
        if weights.is_file():
            return _read(weights)
    if (model, task) in WEIGHTS:
        file = WEIGHTS[model, task]
        try:
            return Checkpoint(file.locate(), file.sha256, {"source": f"{file.package}/{file.path}"})
        except MissingDataError as error:
            raise MissingCheckpointError(f"no checkpoint of {model} for {task}: {error}") from error
    raise MissingCheckpointError(
        f"no checkpoint of {model} for {task}. Train one with `dqss-bench pretrain {model} --task {task} --dest DIR`, "
        "by a recipe in benchmarks/pretrain.py, and run with DQSS_CHECKPOINTS=DIR."
    )


def _read(weights: Path) -> Checkpoint:
    beside = weights.with_suffix(".json")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    try:
        recipe = json.loads(beside.read_text(encoding="utf-8"))
        fits = recipe["sha256"] == sha256
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingCheckpointError(f"{beside}: not readable ({error!r}). Train the model again.") from error
    if not fits:
        raise MissingCheckpointError(f"{weights}: not the file that {beside.name} describes. Train the model again.")
    return Checkpoint(weights, sha256, recipe)


def load_model(model: str, task: Task, checkpoint: Checkpoint) -> nn.Module:
    """Return the network with the checkpoint's weights, in eval mode."""
    import torch
    from safetensors.torch import load_file

    network = task.build(MODELS.load(model))
    if checkpoint.weights.suffix == ".pth":
        # Another package's file, known by its hash; weights_only builds tensors and nothing else.
        weights = torch.load(checkpoint.weights, map_location="cpu", weights_only=True)
    else:
        weights = load_file(checkpoint.weights)
    network.load_state_dict(weights)
    return network.eval()
