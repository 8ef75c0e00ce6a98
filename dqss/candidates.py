"""Names of candidates, and what they stand for. Imports no torch.

A name is one of QUANTIZERS, for weights and activations; one of RECONSTRUCTIONS, for weights alone; or either with
`+bias`, for weights alone: the same weight with a corrected bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.registry import UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from dqss.quantizers.base import Quantizer
    from dqss.reconstruction.base import Reconstruction

BIAS = "+bias"
BIAS_VERSION = 1
"""Raised when a corrected bias may come out differently; part of the key of the cells that have one."""


@dataclass(frozen=True)
class BiasCorrected:
    """A weight candidate whose bias takes up the weight's mean error (`dqss.bias_correction`)."""

    algorithm: Quantizer | Reconstruction


def weight_candidate(name: str) -> Quantizer | Reconstruction | BiasCorrected:
    """Return what a name stands for among weight candidates.

    Raises:
        UnknownNameError: no such name.
    """
    plain = plain_name(name)
    algorithm = QUANTIZERS.create(plain) if plain in QUANTIZERS else RECONSTRUCTIONS.create(plain)
    return BiasCorrected(algorithm) if name.endswith(BIAS) else algorithm


def activation_candidate(name: str) -> Quantizer:
    """Return what a name stands for among activation candidates.

    Raises:
        UnknownNameError: no such name, or one for weights alone.
    """
    if is_for_weights_alone(name):
        raise UnknownNameError(f"'{name}' is for weights alone. For activations name one of: {', '.join(QUANTIZERS)}.")
    return QUANTIZERS.create(name)


def plain_name(name: str) -> str:
    """Return the name in QUANTIZERS or RECONSTRUCTIONS.

    >>> plain_name("mse+bias"), plain_name("adaround")
    ('mse', 'adaround')

    Raises:
        UnknownNameError: no such name.
    """
    plain = name.removesuffix(BIAS)
    if plain not in QUANTIZERS and plain not in RECONSTRUCTIONS:
        raise UnknownNameError(f"no quantizer '{name}'. {did_you_mean(plain, [*QUANTIZERS, *RECONSTRUCTIONS])}")
    return plain


def is_for_weights_alone(name: str) -> bool:
    """Return whether the name is of a weight candidate that has no form for activations.

    >>> is_for_weights_alone("mse"), is_for_weights_alone("mse+bias"), is_for_weights_alone("adaround")
    (False, True, True)
    """
    return (name.endswith(BIAS) and name.removesuffix(BIAS) in QUANTIZERS) or name.removesuffix(BIAS) in RECONSTRUCTIONS


def with_version(name: str) -> dict[str, Any]:
    """Return a candidate's name with the versions of all that it is made of, as plain JSON.

    >>> with_version("minmax")
    {'name': 'minmax', 'version': 1}

    Raises:
        UnknownNameError: no such name.
    """
    plain = plain_name(name)
    registry = QUANTIZERS if plain in QUANTIZERS else RECONSTRUCTIONS
    versions = {"name": name, "version": registry.entry(plain).version}
    return versions | ({"bias_version": BIAS_VERSION} if name.endswith(BIAS) else {})
