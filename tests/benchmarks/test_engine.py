"""Trainings in two real processes, against one process with whole batches."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks.engine import Accelerated
from benchmarks.launch import Processes
from dqss.engine import Alone
from tests.benchmarks.trainings import OBSERVED, SEARCH, UNIFORM, gradients, trained

LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU", "DS_ACCELERATOR", "ACCELERATE_USE_DEEPSPEED"}


def environment(**variables):
    given = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    path = str(Path(benchmarks.__file__).parents[1])
    return {**given, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **variables}


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


def in_two_processes(folder, program, **variables):
    """Run a program of `trainings` in two processes that meet by gloo, and return what each saved."""
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.trainings", program, str(folder)],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **meeting, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    return saved(folder)


def saved(folder):
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [one["world"] for one in found] == [2, 2]
    return found


def assert_same(one, other):
    assert (one["loss"], one["alpha"]) == (other["loss"], other["alpha"])
    assert one["model"].keys() == other["model"].keys()
    assert all(tensor.equal(other["model"][name]) for name, tensor in one["model"].items())


def assert_close(found, expected):
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["model"].keys() == expected["model"].keys()
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(found["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return in_two_processes(folder, "several", ACCELERATE_USE_CPU="true")


@pytest.mark.parametrize(("relaxation", "parts"), [("softmax", 1), ("softmax", 2), ("gumbel", 1)])
def test_gradients_of_alpha_and_of_all_else_are_those_of_one_process(two, relaxation, parts):
    expected = gradients(Alone, relaxation=relaxation)
    for found in two:
        steps = found[f"gradients {relaxation} {parts}"]
        # Warm-up, search, and the derived strategy alone.
        for step, searching in ((0, False), (1, True), (3, True), (9, False)):
            assert steps[step].keys() == expected[step].keys()
            assert ({"alpha_weight", "alpha_activation"} <= steps[step].keys()) == searching
            for name, gradient in expected[step].items():
                largest = gradient.abs().max()
                torch.testing.assert_close(steps[step][name], gradient, rtol=0, atol=1e-4 * largest.item(), msg=name)
                # So that it says something.
                assert largest > 1e-5 or not name.startswith("alpha")


def test_two_processes_end_where_one_does(two):
    for found in two:
        assert_close(found["uniform"], trained(Alone(), UNIFORM))
        # On the same parts; Adam makes steps of gradients that are 0 but for the order of sums.
        assert_close(found["search"], trained(Alone(2), SEARCH))


@pytest.mark.parametrize("training", ["uniform", "search", "observed", "bf16"])
def test_both_processes_end_with_the_same_model(two, training):
    assert_same(two[0][training], two[1][training])


def test_lower_precision_is_near_and_leaves_no_trace(two):
    found = two[0]
    assert found["bf16"]["loss"] != found["uniform"]["loss"]
    assert found["bf16"]["loss"] == pytest.approx(found["uniform"]["loss"], rel=0.05)
    assert all(
        tensor.dtype == torch.float32 for tensor in found["bf16"]["model"].values() if tensor.is_floating_point()
    )
    assert_same(found["again"], found["uniform"])


def test_ranges_are_of_what_both_processes_saw(two):
    """The mean of the extremes of both halves of a batch lies near its own; the first half's alone does not."""
    expected, found = trained(Alone(), OBSERVED), two[0]["observed"]
    assert found["loss"][0] == pytest.approx(expected["loss"][0], rel=0.05)
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.1)


def test_a_batch_that_the_processes_cannot_share_is_told(two):
    for found in two:
        assert found["error"].startswith(
            "training_batches: a batch of 8 cannot be cut into 2 (processes) x 3 (accumulation) equal parts."
        )


def test_one_process_by_accelerate_is_one_without():
    found = trained(Accelerated(Processes(0, 1, 0), 2), SEARCH)
    assert_same(found, trained(Alone(2), SEARCH))


@pytest.mark.slow
def test_two_processes_go_on_from_a_snapshot_to_the_same_weights(tmp_path):
    for found in in_two_processes(tmp_path, "broken", ACCELERATE_USE_CPU="true"):
        check_snapshots(found)
    assert not list(tmp_path.glob("*/training*"))


def check_snapshots(found):
    for then in ("go-on", "restart"):
        assert found[f"{then} steps"] == list(range(7, 13))
        assert_same(found[f"{then} broken"], found[then])


@pytest.mark.slow
def test_accelerate_launch_trains_in_two_processes(tmp_path):
    launcher = "accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0"
    ended = subprocess.run(
        [sys.executable, "-m", *launcher.split(), "-m", "tests.benchmarks.trainings", "several", str(tmp_path)],
        env=environment(ACCELERATE_USE_CPU="true", HF_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    expected = trained(Alone(), UNIFORM)
    for found in saved(tmp_path):
        assert_close(found["uniform"], expected)


MISSING = [name for name in ("deepspeed", "transformers") if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'dqss-bench[deepspeed]'")
@pytest.mark.parametrize("stage", [1, 2])
def test_zero_ends_where_one_process_does_and_goes_on_from_a_snapshot(tmp_path, stage):
    """The first time on a machine DeepSpeed compiles, for minutes."""
    both = in_two_processes(tmp_path, f"zero-{stage}", DS_ACCELERATOR="cpu")
    expected = trained(Alone(), UNIFORM)
    for found in both:
        check_snapshots(found)
        assert_close(found["uniform"], expected)
        assert_close(found["parts"], expected)
        assert_close(found["search"], trained(Alone(2), SEARCH))
    for training in ("go-on", "restart", "search", "uniform"):
        assert_same(both[0][training], both[1][training])
    assert not list(tmp_path.glob("*/training*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, r"precision: 'half' is not allowed\. Write one of no, bf16, fp16\."),
        ({"precision": "fp16"}, r"precision: 'fp16' is not allowed on a CPU\. Write 'bf16' or 'no'\."),
        ({"zero": 3}, r"zero: 3 is not allowed\. Give 0 \(none\), 1 or 2\."),
        ({"zero": 1, "precision": "bf16"}, r"precision: 'bf16' is not allowed with zero 1\. Write 'no'\."),
        ({"accumulation": 0}, r"accumulation: 0 is not allowed"),
    ],
)
def test_what_cannot_be_is_told_before_training(monkeypatch, options, message):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ValueError, match=message):
        Accelerated(Processes(0, 2, 0), **options)


def test_zero_without_deepspeed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("benchmarks.engine._installed", lambda name: name != "deepspeed")
    with pytest.raises(ValueError, match=r"zero: 2 needs deepspeed, not installed here: `pip install 'dqss-bench\["):
        Accelerated(Processes(0, 2, 0), zero=2)


def test_a_launch_that_decides_on_deepspeed_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match=r"--use_deepspeed is not allowed, .* Launch with --multi_gpu\."):
        Accelerated(Processes(0, 2, 0))


def test_zero_needs_processes_that_deepspeed_can_have(monkeypatch):
    monkeypatch.setattr("benchmarks.engine._installed", lambda name: True)
    with pytest.raises(ValueError, match=r"zero: 1 is not allowed in 1 process\. Start more, or give 0\."):
        Accelerated(Processes(0, 1, 0), zero=1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ValueError, match=r"zero: 1 is not allowed with ACCELERATE_USE_CPU, .* DS_ACCELERATOR=cpu"):
        Accelerated(Processes(0, 2, 0), zero=1)
