"""torch.fx: trace a model, and give functional calls of convolution and linear layers a module of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dqss.attention import Attention

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
FUNCTIONS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
    F.linear: (nn.Linear, ("input", "weight", "bias")),
    F.conv1d: (nn.Conv1d, _CONV),
    F.conv2d: (nn.Conv2d, _CONV),
    F.conv3d: (nn.Conv3d, _CONV),
    F.conv_transpose1d: (nn.ConvTranspose1d, _TRANSPOSED),
    F.conv_transpose2d: (nn.ConvTranspose2d, _TRANSPOSED),
    F.conv_transpose3d: (nn.ConvTranspose3d, _TRANSPOSED),
}
"""Function -> the module that does the same, and the names of the function's arguments in their order."""


class Tracer(fx.Tracer):
    """Takes `Attention` as one step, beside all that torch.fx takes so."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Attention) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, fixed: Mapping[str, Any]) -> fx.GraphModule:
    """Return the model as a graph that holds the model's own modules.

    Args:
        fixed: inputs of the model that are no inputs of the graph, with their values.

    Raises:
        Exception: of any kind, where torch.fx cannot follow the model.
    """
    tracer = Tracer()
    graph = tracer.trace(model, concrete_args=dict(fixed) or None)
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


def with_function_layers(model: fx.GraphModule) -> fx.GraphModule:
    """Return the model with a module where a convolution or linear function has a weight that no input changes.

    The model's graph is changed. A new module is named after the weight and the function: `block.conv2d` for
    `block.weight`, `block.kernel_conv2d` for `block.kernel`. Calls that agree in all share one.
    """
    made: dict[str, str] = {}
    moved: set[fx.Node] = set()
    for node in list(model.graph.nodes):
        if node.op != "call_function" or node.target not in FUNCTIONS:
            continue
        kind, names = FUNCTIONS[node.target]
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        settings = {name: value for name, value in given.items() if name not in ("input", "weight", "bias")}
        parameters = {name: _constant(model, given.get(name)) for name in ("weight", "bias")}
        unknown = any(parameters[name] is None and given.get(name) is not None for name in parameters)
        if unknown or not isinstance(given.get("input"), fx.Node) or _nodes(settings):
            continue
        key = f"{kind.__name__} {given['weight']} {given.get('bias')} {settings}"
        if key not in made:
            made[key] = _free_name(model, _name(given["weight"], node.target))
            model.add_submodule(made[key], _layer(kind, parameters["weight"], parameters["bias"], settings))
        with model.graph.inserting_before(node):
            call = model.graph.call_module(made[key], (given["input"],))
        node.replace_all_uses_with(call)
        moved.update(_nodes([given["weight"], given.get("bias")]))
        model.graph.erase_node(node)
    # Not the graph's own elimination of dead code, which drops changes in place whose result nobody reads.
    for node in reversed(model.graph.nodes):
        if node in moved and not node.users:
            moved.update(node.all_input_nodes)
            model.graph.erase_node(node)
    # A new graph module takes only what the graph uses, not the parameters that have moved.
    return fx.GraphModule(model, model.graph, type(model).__name__)


def _nodes(arguments: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(arguments, found.append)
    return found


def _constant(model: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the tensor that a node stands for whatever the model's inputs; None where there is none."""
    if not isinstance(node, fx.Node):
        return None
    value: Any = None
    if node.op == "get_attr":
        value = model
        for part in str(node.target).split("."):
            value = getattr(value, part)
    elif node.op in ("call_function", "call_method") and node.all_input_nodes:
        values = {source: _constant(model, source) for source in node.all_input_nodes}
        if all(value is not None for value in values.values()):
            args: Any = fx.node.map_arg(node.args, lambda source: values[source])
            kwargs: Any = fx.node.map_arg(node.kwargs, lambda source: values[source])
            target: Any = node.target
            with torch.no_grad():
                function = (
                    (lambda x, *rest, **named: getattr(x, target)(*rest, **named))
                    if isinstance(target, str)
                    else target
                )
                value = function(*args, **kwargs)
    return value if isinstance(value, Tensor) else None


def _name(weight: fx.Node, function: Any) -> str:
    """Return a name for the layer of a function: after the first attribute that its weight comes from."""
    while weight.op != "get_attr":
        weight = weight.all_input_nodes[0]
    owner, _, attribute = str(weight.target).rpartition(".")
    own = function.__name__ if attribute == "weight" else f"{attribute}_{function.__name__}"
    return f"{owner}.{own}" if owner else own


def _free_name(model: nn.Module, name: str) -> str:
    number, free = 1, name
    while _taken(model, free):
        number += 1
        free = f"{name}_{number}"
    return free


def _taken(model: nn.Module, name: str) -> bool:
    owner: Any = model
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


def _layer(kind: type[nn.Module], weight: Tensor | None, bias: Tensor | None, settings: dict[str, Any]) -> nn.Module:
    assert weight is not None
    has_bias = bias is not None
    if kind is nn.Linear:
        layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, device="meta")
    else:
        groups = settings.get("groups", 1)
        outer, inner = weight.shape[0], weight.shape[1] * groups
        channels = (outer, inner) if "Transpose" in kind.__name__ else (inner, outer)
        layer = kind(*channels, tuple(weight.shape[2:]), **settings, bias=has_bias, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer
