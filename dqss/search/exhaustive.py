"""Exhaustive search: the loss of every strategy, on a walk through the tree of strategies that shares their prefixes.

What strategies have in common is computed once: all that agree in the first layers share those layers' outputs. The
walk is depth-first over the traced graph, branches where a layer is first used, and keeps the values that later nodes
still read, so shortcuts may skip layers. Where inputs are small, as behind the last pooling, a layer's candidates are
stacked along the batch, and the rest of the network runs once for them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from dqss.inputs import Batch
from dqss.search.base import Found, Picks, Report, Search, SearchProblem

# Of a layer's input: candidates are stacked as long as it does not exceed this.
STACKED_ELEMENTS = 2**22


@dataclass(frozen=True)
class Exhaustive(Search):
    """The optimum, of spaces small enough. Each strategy is counted as one pass, although they share most of it.

    Args:
        limit: how many strategies the space may have.
    """

    limit: int = 100_000

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit: {self.limit} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        count = strategies(problem)
        if count > self.limit:
            raise ValueError(
                f"limit: the space has {count} strategies, and {self.limit} are allowed. Give fewer quantizers or a "
                "higher limit."
            )
        shares = torch.tensor([len(target) for target in problem.calibration.targets]).double()
        best = int((shares @ batch_losses(problem, report)).argmin())
        picks = picks_at(best, problem)
        return Found(problem.strategy(picks), problem.loss(picks))


def strategies(problem: SearchProblem) -> int:
    """Return how many strategies there are."""
    return int(pairs(problem) ** len(problem.layers))


def pairs(problem: SearchProblem) -> int:
    """Return how many pairs of candidates each layer has."""
    return len(problem.weight_quantizers) * len(problem.activation_quantizers)


def picks_at(index: int, problem: SearchProblem) -> Picks:
    """Return the strategy at a position in `batch_losses`: its digits to the base of the number of pairs."""
    digits = []
    for _ in problem.layers:
        index, digit = divmod(index, pairs(problem))
        digits.append(divmod(digit, len(problem.activation_quantizers)))
    return tuple(reversed(digits))


def position_of(picks: Picks, problem: SearchProblem) -> int:
    """Return where a strategy stands in `batch_losses`."""
    position = 0
    for weight, activation in picks:
        position = position * pairs(problem) + weight * len(problem.activation_quantizers) + activation
    return position


def batch_losses(problem: SearchProblem, report: Report) -> Tensor:
    """Return (batches, S) float64, each calibration batch's loss under each strategy.

    Strategies come in the lexicographic order of their picks.

    Raises:
        ValueError: the model changes in place what strategies share.
    """
    rows = []
    with torch.no_grad():
        for position, (batch, target) in enumerate(zip(problem.batches, problem.calibration.targets, strict=True)):
            rows.append(Walk(problem, target, report_part(report, position, len(problem.batches))).run(batch))
            problem.cost.forward_passes += strategies(problem) * len(target)
    return torch.stack(rows)


def report_part(report: Report, part: int, parts: int) -> Report:
    """Return a report of one part of work, told as of the whole."""
    return lambda stage, done, total: report(stage, part * total + done, parts * total)


class Walk:
    """The walk over one calibration batch of B images.

    It goes with the values that later nodes read, for W strategies at a time: a value's first axis holds the images of
    the first strategy, then those of the next. `index` (W,) are the strategies' choices so far, as digits.
    """

    def __init__(self, problem: SearchProblem, target: Tensor, report: Report) -> None:
        if not isinstance(problem.model, fx.GraphModule):
            raise ValueError("model: torch.fx cannot trace it, and the walk follows its graph. Use another search.")
        self.problem = problem
        self.target = target
        self.report = report
        self.interpreter = fx.Interpreter(problem.model)
        self.losses = torch.zeros(strategies(problem), dtype=torch.float64)
        self.finished = 0
        self.nodes = list(problem.model.graph.nodes)
        layers = [node for node in self.nodes if node.op == "call_module" and str(node.target) in problem.layers]
        if any(len(node.args) + len(node.kwargs) > 1 for node in layers):
            raise ValueError("model: a layer is called with more than its input, which the walk does not pass on.")
        self.uses = Counter(str(node.target) for node in layers)
        self.branches = {next(node for node in layers if str(node.target) == name): name for name in self.uses}
        last_reader = {read: node for node in self.nodes for read in node.all_input_nodes}
        self.last_reads = {node: [read for read, last in last_reader.items() if last is node] for node in self.nodes}

    def run(self, batch: Batch) -> Tensor:
        """Return (S,) float64, the batch's loss under each strategy."""
        placeholders = [node for node in self.nodes if node.op == "placeholder"]
        if isinstance(batch, Mapping):
            given = {node: batch[str(node.target)] for node in placeholders if node.target in batch}
        else:
            given = dict(zip(placeholders, [batch] if isinstance(batch, Tensor) else batch, strict=False))
        # An optional input that is not given keeps its default.
        values = {node: given[node] if node in given else node.args[0] for node in placeholders}
        self._go(len(placeholders), values, torch.zeros(1, dtype=torch.long))
        return self.losses

    def _go(self, position: int, values: dict[fx.Node, Any], index: Tensor) -> None:
        for at in range(position, len(self.nodes)):
            node = self.nodes[at]
            if node in self.branches:
                self._branch(at, values, index)
                return
            self.interpreter.env = values
            values[node] = self.interpreter.run_node(node)
            for read in self.last_reads[node]:
                del values[read]
        self._score(values[self.nodes[-1]], index)

    def _branch(self, position: int, values: dict[fx.Node, Any], index: Tensor) -> None:
        node = self.nodes[position]
        layer = self.problem.layers[self.branches[node]]
        x = values[node.all_input_nodes[0]]
        if x.ndim == 4:
            # Convolution is then nearly twice as fast on a CPU.
            x = x.contiguous(memory_format=torch.channels_last)
        kept = {read: value for read, value in values.items() if read not in self.last_reads[node]}
        versions = {read: value._version for read, value in values.items() if isinstance(value, Tensor)}
        activations = len(self.problem.activation_quantizers)
        codes = torch.arange(pairs(self.problem))
        for chunk in codes.split(self._stacked(node, x, kept, len(index))):
            outputs = []
            for code in chunk.tolist():
                layer.choose(*divmod(code, activations))
                outputs.append(layer(x))
            deeper = kept | {node: outputs[0]}
            if len(chunk) > 1:
                deeper = {read: _repeated(read, value, len(chunk)) for read, value in kept.items()}
                deeper[node] = torch.cat(outputs)
            self._go(position + 1, deeper, (index * len(codes) + chunk[:, None]).flatten())
            changed = [read for read, version in versions.items() if values[read]._version != version]
            if changed:
                raise ValueError(
                    f"model: the value '{changed[0]}' is changed in place, and strategies share it. "
                    "Make the operation out of place, as nn.ReLU(inplace=False)."
                )

    def _stacked(self, node: fx.Node, x: Tensor, kept: dict[fx.Node, Any], width: int) -> int:
        """Return how many candidates of a layer may be stacked: 1 where a value holds other things than images."""
        images = width * len(self.target)
        moving = [x, *(value for read, value in kept.items() if read.op != "get_attr")]
        stackable = all(isinstance(value, Tensor) and value.shape[:1] == (images,) for value in moving)
        # A layer that is used again must find its choice there.
        once = self.uses[self.branches[node]] == 1
        return max(1, STACKED_ELEMENTS // max(x.numel(), 1)) if stackable and once else 1

    def _score(self, output: Any, index: Tensor) -> None:
        output = output[0] if isinstance(output, tuple | list) else output
        each = output.unflatten(0, (len(index), len(self.target)))
        # One by one: kl_div has no batching rule for torch.vmap.
        losses = [self.problem.output_loss(one, self.target) for one in each]
        self.losses[index] = torch.stack(losses).double().cpu()
        self.finished += len(index)
        self.report("search", self.finished, len(self.losses))


def _repeated(node: fx.Node, value: Tensor, times: int) -> Tensor:
    return value if node.op == "get_attr" else torch.cat([value] * times)
