"""What the networks for super-resolution of luma share."""

from __future__ import annotations

MEAN = 0.4379
"""Luma (studio range, over 255) of the RGB means of DIV2K that EDSR's code subtracts: 0.4488, 0.4371, 0.4040.

Without a mean to learn first, training takes far fewer steps.
"""


def doublings(scale: int) -> int:
    """Return how often an image doubles to grow by `scale`.

    >>> doublings(2), doublings(4)
    (1, 2)
    """
    steps = scale.bit_length() - 1
    if scale < 2 or scale != 2**steps:
        raise ValueError(f"scale: {scale} is no power of two. Write 2 or 4: this network enlarges by doubling.")
    return steps
