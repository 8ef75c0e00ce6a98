"""The recipe that made the shipped checkpoints: full-precision training on the whole training set of a task.

SGD with Nesterov momentum, or Adam, with a one-cycle learning rate (Smith and Topin, "Super-Convergence", arXiv
1708.07120). The test set decides nothing: the last epoch's weights are kept, and the test score is measured once, after
training.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmarks.models import MODELS
from benchmarks.storage import write_atomically
from benchmarks.tasks.base import Report, Split, Task


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training run.

    Args:
        learning_rate: the highest of the cycle.
        momentum: of SGD; Adam's first beta. The cycle moves it between 0.85 and 0.95, against the learning rate.
        precision: "bf16-autocast" or "float32".
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    precision: str = "bf16-autocast"
    seed: int = 0


def super_resolution(epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    """Return a recipe with Adam, in float32: the steps of bfloat16 are as wide as a level of 8 bits."""
    return Recipe(epochs, batch_size, "adam", learning_rate, weight_decay=0.0, precision="float32")


RECIPES = {
    ("resnet8", "fashion-mnist"): Recipe(epochs=30),
    ("resnet20", "fashion-mnist"): Recipe(epochs=15),
    ("mobilenetv2-small", "fashion-mnist"): Recipe(epochs=12, weight_decay=1e-4),
    ("espcn", "photos-x2"): super_resolution(epochs=60, batch_size=4, learning_rate=2e-3),
    ("fsrcnn", "photos-x2"): super_resolution(epochs=60, batch_size=4, learning_rate=2e-3),
    ("edsr-small", "photos-x2"): super_resolution(epochs=40, batch_size=4, learning_rate=2e-3),
    ("srresnet-small", "photos-x2"): super_resolution(epochs=30, batch_size=4, learning_rate=1e-3),
    ("edsr-small", "photos-x4"): super_resolution(epochs=40, batch_size=8, learning_rate=2e-3),
}


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all the network's parameters."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(
            network.parameters(),
            lr=recipe.learning_rate,
            betas=(recipe.momentum, 0.999),
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )


def train(network: nn.Module, task: Task, recipe: Recipe, report: Report) -> None:
    """Train the network in place; it is left in eval mode."""
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = recipe.epochs * -(-len(task.ids(Split.TRAIN)) // recipe.batch_size)
    optimizer = optimizer_for(network, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # missing in its overloads
    done = 0
    for epoch in range(recipe.epochs):
        for inputs, targets in task.training_batches(Split.TRAIN, recipe.batch_size, generator):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-autocast"):
                outputs = network(inputs.contiguous(memory_format=torch.channels_last))
            loss = task.training_loss(outputs.float(), targets)
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            report(f"epoch {epoch + 1}/{recipe.epochs}, loss {loss.item():.4f}", done, steps)
    network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def pretrain(model: str, task: Task, recipe: Recipe, folder: Path, report: Report) -> Path:
    """Train a model for a task and write its checkpoint and JSON; return the checkpoint's path.

    Raises:
        MissingDataError: the full training data is not on this machine.
    """
    from safetensors.torch import save_file

    task.check(Split.TRAIN)
    torch.manual_seed(recipe.seed)
    network = task.build(MODELS.load(model))
    started = time.perf_counter()
    train(network, task, recipe, report)
    seconds = time.perf_counter() - started
    scores = task.evaluate(network, Split.TEST, report)
    facts = {
        "model": model,
        "task": task.name,
        "recipe": asdict(recipe),
        "data": task.training_data(),
        "training_images": len(task.ids(Split.TRAIN)),
        "torch": torch.__version__,
        "training_seconds": round(seconds),
        "parameters": sum(p.numel() for p in network.parameters()),
        "score": {"metric": task.metric.name, "unit": task.metric.unit, "test": scores.primary},
    }
    weights = folder / task.name / f"{model}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    part = weights.with_name(f"{weights.name}.part")
    save_file(network.state_dict(), part)
    part.replace(weights)
    facts["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_atomically(weights.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    return weights
