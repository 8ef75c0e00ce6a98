"""Small trainings, of which tests compare those of several processes with those of one.

`python -m tests.benchmarks.trainings NAME FOLDER` runs PROGRAMS[NAME] as one process of a run; what it found it saves.
"""

import copy
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.engine import Accelerated
from benchmarks.launch import join
from dqss.qat import train_qat
from dqss.schedule import Schedule
from dqss.snapshots import Snapshots

SEARCH = {"weight_quantizers": ["lsq", "dorefa", "dsq"], "activation_quantizers": ["lsq", "apot"], "bits": "W3A3"}
UNIFORM = {"search": "uniform", "weight_quantizers": ["lsq"], "activation_quantizers": ["lsq"]}
# Ranges that move with what each process sees.
OBSERVED = {"weight_quantizers": ["lsq", "ste-minmax"], "activation_quantizers": ["lsq", "ste-minmax"]}


def examples():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 2, 5, 5, generator=generator), torch.randn(8, 3, generator=generator)) for _ in "abc"]


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()


def trained(engine, options, schedule=Schedule(steps=12), **more):  # noqa: B008
    """Return the curves, alpha and model of a training, in what `torch.save` keeps."""
    data = examples()
    given = network(), lambda epoch: data, F.mse_loss, [inputs for inputs, _ in data], schedule
    result = train_qat(*given, engine=engine, **options, **more)
    # A model that anything still holds or wraps would not survive it.
    model = copy.deepcopy(result.model)
    assert {type(module).__module__.partition(".")[0] for module in model.modules()} <= {"torch", "dqss"}
    return {
        "loss": result.report.curves["loss"],
        "alpha": result.report.alpha,
        "model": dict(model.state_dict()),
    }


def gradients(base: type, *arguments, relaxation: str = "softmax") -> list[dict[str, Tensor]]:
    """Return those of every step of a training that stands still."""

    @dataclass
    class Still(base):
        seen: list = field(default_factory=list)

        def step(self):
            # As it was before it was wrapped.
            model = self._plain if base is Accelerated else self._model
            found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            self.seen.append(copy.deepcopy(found))

    engine = Still(*arguments)
    trained(engine, SEARCH, Schedule(steps=10, warm_up=0.1, search=0.3, relaxation=relaxation))
    return engine.seen


def several(processes, folder):
    found = {
        f"gradients {relaxation} {parts}": gradients(Accelerated, processes, parts, relaxation=relaxation)
        for relaxation, parts in (("softmax", 1), ("softmax", 2), ("gumbel", 1))
    }
    found["uniform"] = trained(Accelerated(processes), UNIFORM)
    found["search"] = trained(Accelerated(processes), SEARCH)
    found["observed"] = trained(Accelerated(processes), OBSERVED)
    found["bf16"] = trained(Accelerated(processes, precision="bf16"), UNIFORM)
    found["again"] = trained(Accelerated(processes), UNIFORM)
    try:
        trained(Accelerated(processes, 3), UNIFORM)
    except ValueError as error:
        found["error"] = str(error)
    return found


def stop(stage, done, total):
    if (stage, done) == ("training", 7):
        raise InterruptedError


def broken(processes, folder, zero=0):
    """Train by snapshots, stopped after step 7, and without."""
    found = {}
    for then in ("go-on", "restart"):
        schedule, snapshots, done = Schedule(steps=12, then=then), Snapshots(folder / then, 3), []
        found[then] = trained(Accelerated(processes, zero=zero), OBSERVED, schedule)
        with suppress(InterruptedError):
            trained(Accelerated(processes, zero=zero), OBSERVED, schedule, report=stop, snapshots=snapshots)

        def note(stage, step, total, done=done):
            if stage == "training":
                done.append(step)

        engine = Accelerated(processes, zero=zero)
        found[f"{then} broken"] = trained(engine, OBSERVED, schedule, report=note, snapshots=snapshots)
        found[f"{then} steps"] = done
    return found


def zero(processes, folder, stage):
    found = broken(processes, folder, stage)
    found["search"] = trained(Accelerated(processes, zero=stage), SEARCH)
    found["uniform"] = trained(Accelerated(processes, zero=stage), UNIFORM)
    found["parts"] = trained(Accelerated(processes, 2, zero=stage), UNIFORM)
    return found


PROGRAMS = {
    "several": several,
    "broken": broken,
    "zero-1": lambda processes, folder: zero(processes, folder, 1),
    "zero-2": lambda processes, folder: zero(processes, folder, 2),
}


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    processes = join()
    torch.save({"world": processes.world, **PROGRAMS[name](processes, folder)}, folder / f"{processes.rank}.pt")
