import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import dqss
from dqss.engine import Alone
from dqss.qat import train_qat
from dqss.schedule import Rates, Schedule
from dqss.snapshots import Snapshots

SCHEDULE = Schedule(steps=20, relaxation="gumbel")
# With running averages, statistics of weights and learned parameters.
FEW = {
    "weight_quantizers": ["lsq", "sawb", "ste-minmax"],
    "activation_quantizers": ["lsq-plus", "ste-minmax"],
    "bits": "W3A3",
    "seed": 5,
}


@pytest.fixture
def training():
    generator = torch.Generator().manual_seed(2)
    examples = [(torch.randn(8, 2, 5, 5, generator=generator), torch.randn(8, 3, generator=generator)) for _ in "abc"]
    return lambda epoch: examples


class StoppedError(Exception):
    pass


def stop_after(steps):
    def report(stage, done, total):
        if (stage, done) == ("training", steps):
            raise StoppedError

    return report


def assert_same(one, other):
    assert one.strategy == other.strategy
    # Equal but for the seconds.
    assert one.report == other.report
    tensors, others = one.model.state_dict(), other.model.state_dict()
    assert list(tensors) == list(others)
    assert all(tensor.equal(others[name]) for name, tensor in tensors.items())


# In the warm-up, in the search (from step 2), at its end (8), after it, at the very end, before any snapshot.
@pytest.mark.parametrize("steps", [1, 2, 5, 8, 9, 13, 20])
@pytest.mark.parametrize("then", ["go-on", "restart"])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(tiny, batches, training, tmp_path, steps, then):
    given = tiny, training, F.mse_loss, batches, replace(SCHEDULE, then=then)
    unbroken = train_qat(*given, **FEW)
    snapshots = Snapshots(tmp_path / "run", every=2)
    with pytest.raises(StoppedError):
        train_qat(*given, report=stop_after(steps), snapshots=snapshots, **FEW)
    done = []
    result = train_qat(*given, report=lambda stage, step, _: done.append((stage, step)), snapshots=snapshots, **FEW)
    assert_same(result, unbroken)
    # What was kept was not done again.
    assert [step for stage, step in done if stage == "training"] == list(range(steps // 2 * 2 + 1, 21))
    assert not (tmp_path / "run").exists()


def test_batches_that_were_used_are_drawn_but_not_trained_on(tiny, batches, training, tmp_path):
    drawn, seen = [], []

    def counted(epoch):
        for number, example in enumerate(training(epoch)):
            drawn.append((epoch, number))
            yield example

    def loss(output, target):
        seen.append(target)
        return F.mse_loss(output, target)

    given = tiny, counted, loss, batches, SCHEDULE
    with pytest.raises(StoppedError):
        train_qat(*given, report=stop_after(10), snapshots=Snapshots(tmp_path, 10), **FEW)
    drawn.clear()
    seen.clear()
    train_qat(*given, snapshots=Snapshots(tmp_path, 10), **FEW)
    assert drawn == [(step // 3, step % 3) for step in range(20)]
    assert all(found.equal(training(0)[step % 3][1]) for found, step in zip(seen, range(10, 20), strict=True))


PROGRAM = """
import os, signal, sys
import torch
from torch import nn
from torch.nn import functional as F
from dqss.engine import Alone
from dqss.qat import train_qat
from dqss.schedule import Schedule
from dqss.snapshots import Snapshots

folder, kill, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()
examples = [(torch.randn(8, 2, 5, 5), torch.randn(8, 3)) for _ in range(3)]

def report(stage, done, total):
    if stage == "training" and done == kill:
        os.kill(os.getpid(), signal.SIGKILL)

result = train_qat(
    network, lambda epoch: examples, F.mse_loss, [x for x, _ in examples], Schedule(steps=20), bits="W3A3",
    weight_quantizers=["lsq", "ste-minmax"], activation_quantizers=["lsq-plus", "ste-minmax"],
    report=report, snapshots=Snapshots(folder, 3),
)
torch.save({"model": result.model.state_dict(), "loss": result.report.curves["loss"]}, out)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_was_killed_twice_goes_on_to_the_same_weights(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(dqss.__file__).parents[1])}

    def run(folder, kill, out):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(kill), str(tmp_path / out)]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    assert run("unbroken", -1, "whole.pt").returncode == 0
    for kill in (5, 14):
        assert run("killed", kill, "killed.pt").returncode == -signal.SIGKILL
        assert (tmp_path / "killed" / "training-0.pt").exists()
    assert run("killed", -1, "killed.pt").returncode == 0
    whole, killed = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "killed.pt"))
    assert whole["loss"] == killed["loss"]
    assert all(tensor.equal(killed["model"][name]) for name, tensor in whole["model"].items())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"bits": "W3A4"},
        {"rates": Rates(network=0.002)},
        {"schedule": replace(SCHEDULE, steps=21)},
        {"weight_quantizers": ["lsq", "sawb", "dorefa"]},
        {"distillation": 0.5},
        {"model": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_snapshot_of_another_training_is_passed_over(tiny, batches, training, tmp_path, change):
    given = {"training_batches": training, "loss": F.mse_loss, "calibration_batches": batches, "schedule": SCHEDULE}
    given |= FEW
    with pytest.raises(StoppedError):
        train_qat(tiny, **given, report=stop_after(12), snapshots=Snapshots(tmp_path, 4))
    if change.pop("model", None):
        tiny.head.weight.data *= 1.5
    given |= change
    result, unbroken = train_qat(tiny, **given, snapshots=Snapshots(tmp_path, 4)), train_qat(tiny, **given)
    assert result.report.curves == unbroken.report.curves
    assert result.report.notes == ("The snapshot training-0.pt is of another training: this one began anew.",)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "list", "pickle"])
def test_a_damaged_snapshot_is_passed_over(tiny, batches, training, tmp_path, damage):
    given = tiny, training, F.mse_loss, batches, SCHEDULE
    with pytest.raises(StoppedError):
        train_qat(*given, report=stop_after(12), snapshots=Snapshots(tmp_path, 4), **FEW)
    path = tmp_path / "training-0.pt"
    if damage in ("list", "pickle"):
        torch.save([1, 2] if damage == "list" else Path("x"), path)
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:5000], "text": b"no snapshot"}[damage])
    result = train_qat(*given, snapshots=Snapshots(tmp_path, 4), **FEW)
    assert result.report.curves == train_qat(*given, **FEW).report.curves
    (note,) = result.report.notes
    assert note.startswith("The snapshot training-0.pt is damaged (")
    assert list(tmp_path.parent.glob(f"{tmp_path.name}/*")) == []


def test_processes_that_found_other_snapshots_begin_anew_together(tiny, batches, training, tmp_path):
    class Second(Alone):
        """One of two, where the other found nothing."""

        def agree(self, value):
            return value == 0

    given = tiny, training, F.mse_loss, batches, SCHEDULE
    with pytest.raises(StoppedError):
        train_qat(*given, report=stop_after(12), snapshots=Snapshots(tmp_path, 4), **FEW)
    result = train_qat(*given, engine=Second(), snapshots=Snapshots(tmp_path, 4), **FEW)
    assert result.report.curves == train_qat(*given, **FEW).report.curves
    assert result.report.notes == ("Not all processes had the same snapshot: training began anew.",)


def test_a_snapshot_that_was_not_finished_leaves_the_one_before(tmp_path):
    snapshots = Snapshots(tmp_path, 4)
    snapshots.prepare({"step": 4}, "same", 0)
    snapshots.publish(0)
    snapshots.prepare({"step": 8}, "same", 0)
    assert snapshots.load("same", 0) == ({"step": 4}, None)
    snapshots.publish(0)
    assert snapshots.load("same", 0) == ({"step": 8}, None)
    assert snapshots.load("same", 1) == (None, None)


def test_an_interval_of_no_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"every: 0 is not allowed\. Give at least 1\."):
        Snapshots(tmp_path, 0)
