"""A copy of a caller's model that is made of plain layers: what hides a layer from quantization is taken apart."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dqss.attention import Attention


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode that asks for no gradients; the model itself is not changed.

    Parametrised weights (weight_norm, spectral_norm, ...) become what they stand for, attention is made of linear
    layers, and transformer encoders leave their fused kernels, which would pass by quantized layers.
    """
    # Weights that a hook works out are no leaves of autograd, which cannot be copied.
    stand_ins = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    copied = copy.deepcopy(model, dict(stand_ins)).eval()
    for module in copied.modules():
        _without_parametrizations(module)
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    apart: dict[nn.Module, Attention] = {}
    for name, module in list(copied.named_modules(remove_duplicate=False)):
        # A subclass may do something else.
        if type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn:
            apart.setdefault(module, Attention(module))
            if name:
                copied.set_submodule(name, apart[module])
    return apart.get(copied, copied).requires_grad_(False)


def _without_parametrizations(module: nn.Module) -> None:
    if parametrize.is_parametrized(module):
        # The weight is a property of a class that the copy shares with the caller's module, and goes away with it.
        own = type(module)
        module.__class__ = type(own.__name__, own.__bases__, dict(vars(own)))
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
