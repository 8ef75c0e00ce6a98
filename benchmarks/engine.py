"""The steps of a training over the processes that `accelerate launch` started, by Accelerate and DeepSpeed."""

from __future__ import annotations

import copy
import importlib.util
import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast, gather, reduce
from torch import Tensor, nn

from benchmarks.launch import MEETING_TIMEOUT, Processes, told_cpu
from benchmarks.schema.qat import PRECISIONS, ZERO_STAGES
from dqss.engine import Example, PartLoss, check_accumulation, load_plain, parts_of, plain_state
from dqss.snapshots import State


@dataclass
class Accelerated:
    """DistributedDataParallel or ZeRO, over gloo on CPU and nccl on GPUs; one process runs as `dqss.engine.Alone`.

    What layers observe of their inputs, such as running extremes, is the mean of what the processes saw. Under ZeRO
    `backward` takes the step too, and a parameter that no output depends on keeps its momentum.

    Args:
        processes: of the run; each calls the training.
        accumulation: how many equal parts each process cuts its share of a batch into.
        precision: of the network's products, by autocast: `no` is float32; `bf16`; `fp16`, on a GPU alone.
        zero: the stage of ZeRO: 0 is DistributedDataParallel; 1 shares out the optimizer's state among the processes,
            2 the gradients too. Both are in float32.
    """

    processes: Processes
    accumulation: int = 1
    precision: str = "no"
    zero: int = 0
    _accelerator: Any = field(default=None, init=False, repr=False)
    _plain: Any = field(default=None, init=False, repr=False)
    _model: Any = field(default=None, init=False, repr=False)
    _optimizer: Any = field(default=None, init=False, repr=False)
    _scalars: list[nn.Parameter] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_accumulation(self.accumulation)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: '{self.precision}' is not allowed. Write one of {', '.join(PRECISIONS)}.")
        if self.zero not in ZERO_STAGES:
            raise ValueError(f"zero: {self.zero} is not allowed. Give 0 (none), 1 or 2.")
        if self.precision == "fp16" and self.processes.device() == "cpu":
            raise ValueError("precision: 'fp16' is not allowed on a CPU. Write 'bf16' or 'no'.")
        if self.zero and self.precision != "no":
            raise ValueError(f"precision: '{self.precision}' is not allowed with zero {self.zero}. Write 'no'.")
        if self.zero and (missing := [name for name in ("deepspeed", "transformers") if not _installed(name)]):
            raise ValueError(
                f"zero: {self.zero} needs {' and '.join(missing)}, not installed here: "
                "`pip install 'dqss-bench[deepspeed]'`. Or give 0."
            )
        if self.zero and self.processes.world == 1:
            raise ValueError(f"zero: {self.zero} is not allowed in 1 process. Start more, or give 0.")
        if self.zero and told_cpu():
            raise ValueError(
                f"zero: {self.zero} is not allowed with ACCELERATE_USE_CPU, by which Accelerate leaves DeepSpeed out. "
                "Set DS_ACCELERATOR=cpu in its place."
            )
        if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
            raise ValueError(
                "accelerate launch: --use_deepspeed is not allowed, since each training says by `zero` whether it uses "
                "DeepSpeed. Launch with --multi_gpu."
            )

    @property
    def name(self) -> str:
        return f"{self.processes.world} processes, {self.accumulation} parts, {self.precision}, zero {self.zero}"

    @property
    def shard(self) -> int:
        return self.processes.rank if self.zero else 0

    @property
    def writes(self) -> bool:
        return self.zero > 0 or self.processes.rank == 0

    def begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        on_cpu = self.processes.device() == "cpu"
        self._plain, plugin = model, None
        handlers: list[Any] = [DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)]
        if self.zero:
            plugin = _zero_plugin(self.zero, self.accumulation, on_cpu)
            handlers = [InitProcessGroupKwargs(backend="gloo" if on_cpu else "nccl", timeout=MEETING_TIMEOUT)]
            # DeepSpeed cannot send parameters without an axis.
            self._scalars = [parameter for parameter in model.parameters() if parameter.ndim == 0]
            for parameter in self._scalars:
                parameter.data = parameter.data.view(1)
        self._accelerator = Accelerator(
            cpu=on_cpu and not self.zero,
            mixed_precision=self.precision,
            gradient_accumulation_steps=self.accumulation,
            deepspeed_plugin=plugin,
            kwargs_handlers=handlers,
        )
        with warnings.catch_warnings():
            # PyTorch 2.13 renamed an argument that Accelerate passes on.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self._model, self._optimizer = self._accelerator.prepare(model, optimizer)
        prepared: nn.Module = self._model
        return prepared

    def backward(self, example: Example, loss: PartLoss) -> float:
        if not self.zero:
            self._optimizer.optimizer.zero_grad()
        values = []
        for inputs, targets in parts_of(example, self.processes.world, self.accumulation, self.processes.rank):
            with self._accelerator.accumulate(self._model):
                value = loss(inputs, targets)
                self._accelerator.backward(value)
            values.append(value.detach())
        return float(reduce(torch.stack(values).double().mean(), "mean").item())

    def step(self) -> None:
        if self.zero:
            self._forgive_waiting()
        else:
            self._optimizer.step()
        if self.processes.world > 1:
            _bring_together([buffer for buffer in self._plain.buffers() if buffer.is_floating_point()])

    def state(self) -> State:
        optimizer = self._optimizer.optimizer
        if self.zero:
            state = plain_state(self._plain, optimizer.optimizer)
            return {**state, "partitions": copy.deepcopy(_partitions(optimizer))}
        scaler = self._accelerator.scaler
        return {**plain_state(self._plain, optimizer), "scaler": None if scaler is None else scaler.state_dict()}

    def load(self, state: State) -> None:
        optimizer = self._optimizer.optimizer
        if self.zero:
            load_plain(state, self._plain, optimizer.optimizer)
            for partition, saved in zip(_partitions(optimizer), state["partitions"], strict=True):
                partition.copy_(saved)
            return
        load_plain(state, self._plain, optimizer)
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def agree(self, value: int) -> bool:
        values: Tensor = gather(torch.tensor([value], device=self._accelerator.device))
        return bool((values == value).all())

    def end(self) -> None:
        if self._plain is None:
            return
        for parameter in self._scalars:
            parameter.data = parameter.data.view(())
        self._scalars = []
        if self.zero:
            _detach(self._plain)
        if self._accelerator is not None:
            self._accelerator.free_memory()
        # Another training of this process may have another precision, or no ZeRO; Accelerate lets no one change that.
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        AcceleratorState._reset_state()
        self._accelerator = self._plain = self._model = self._optimizer = None

    def _forgive_waiting(self) -> None:
        # ZeRO takes no gradient for one of 0. Steps before a parameter's first gradient must not count for Adam.
        for state in self._optimizer.optimizer.optimizer.state.values():
            if not state["exp_avg"].any():
                state["step"].zero_()


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _zero_plugin(stage: int, accumulation: int, on_cpu: bool) -> Any:
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from accelerate.utils import DeepSpeedPlugin

    config = {
        # Only its own counters of throughput read it.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    return DeepSpeedPlugin(hf_ds_config=config)


def _partitions(optimizer: Any) -> list[Tensor]:
    """Return what this process keeps of the parameters, one flat tensor per group."""
    return [partition.data for partition in optimizer.single_partition_of_fp32_groups]


def _bring_together(buffers: list[Tensor]) -> None:
    """Set each to its mean over the processes; those that are alike stay as they are, to the bit."""
    if not buffers:
        return
    own = torch.cat([buffer.reshape(-1) for buffer in buffers])
    first = broadcast(own.clone())
    mean = first + reduce(own - first, "mean")
    for buffer, values in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))


def _detach(model: nn.Module) -> None:
    """Give the model parameters of its own in the place of those that DeepSpeed holds in its buffers."""
    fresh: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in fresh:
                fresh[parameter] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(module, name, fresh[parameter])
