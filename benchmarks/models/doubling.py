"""Enlargement in steps of two, which the residual networks for super-resolution share."""

from __future__ import annotations


def doublings(scale: int) -> int:
    """Return how often an image doubles to grow by `scale`.

    >>> doublings(2), doublings(4)
    (1, 2)
    """
    steps = scale.bit_length() - 1
    if scale < 2 or scale != 2**steps:
        raise ValueError(f"scale: {scale} is no power of two. Write 2 or 4: this network enlarges by doubling.")
    return steps
