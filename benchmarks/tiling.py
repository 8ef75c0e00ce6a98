"""Networks on images of any size, tile by tile, with the result of the whole image at once.

A tile is cut with a halo of the pixels that its outputs depend on. Where the image goes on, nothing is padded; at the
image's own border the tile ends, and the network pads there as it does for the whole image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TILE = 256
PROBES = (33, 65, 129, 257)


def reach(network: nn.Module, scale: int) -> int | None:
    """Return how many input pixels away from its own place an output pixel can depend on the input.

    One input pixel that is not a number makes every output that depends on it not a number, whatever the weights. For
    networks that treat all input pixels alike: convolutions, and transposed ones, without a stride over the input.

    Args:
        network: takes (1, 1, H, W) to (1, C, H * scale, W * scale); in eval mode.
        scale: output pixels per input pixel.

    Returns:
        None where it is farther than half of the largest probe, as for a network that pools over the whole image.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    for side in PROBES:
        middle = side // 2
        probe = torch.zeros(1, 1, side, side, device=parameter.device, dtype=parameter.dtype)
        probe[..., middle, middle] = torch.nan
        with torch.inference_mode():
            struck = network(probe).isnan()[0].any(0).nonzero() // scale
        if not len(struck):
            raise ValueError(
                f"network: {type(network).__name__} hides values that are not numbers, so its reach cannot be measured."
            )
        distance = int((struck - middle).abs().max())
        # At the border the spread may have been cut.
        if distance < middle:
            return distance
    return None


def upscale(network: nn.Module, image: Tensor, scale: int, halo: int | None, tile: int = TILE) -> Tensor:
    """Return the network's output for an image.

    Args:
        network: in eval mode.
        image: (1, C, H, W); on the network's device.
        scale: output pixels per input pixel.
        halo: the network's reach; None: the image is taken whole, whatever its size.
        tile: the side of what one call gives, in input pixels; images of up to that size are taken whole.

    Returns:
        (1, C', H * scale, W * scale).
    """
    height, width = image.shape[2:]
    with torch.inference_mode():
        if halo is None or max(height, width) <= tile:
            return network(image)  # type: ignore[no-any-return]
        rows = []
        for top in range(0, height, tile):
            row = []
            for left in range(0, width, tile):
                up, before = min(halo, top), min(halo, left)
                piece = image[:, :, top - up : top + tile + halo, left - before : left + tile + halo]
                output = network(piece)[:, :, up * scale :, before * scale :]
                row.append(output[:, :, : tile * scale, : tile * scale])
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)
