"""A strategy: which quantizers each layer uses; its JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from dqss.spec import Bits, Protocol, Scheme

FORMAT = 1


@dataclass(frozen=True)
class Choice:
    """Names of the weight and the activation quantizer of one layer, and its bits."""

    weight: str
    activation: str
    bits: Bits


@dataclass(frozen=True)
class Strategy:
    """Layer name -> choice, with the protocol under which it was found.

    Args:
        layers: in the network's order.
        bits: of the comparison; a layer's own may differ where the protocol says so.
    """

    layers: dict[str, Choice]
    bits: Bits
    protocol: Protocol

    def to_json(self) -> str:
        """Return the text of a `strategy.json`."""
        layers = {
            name: {"weight": choice.weight, "activation": choice.activation, "bits": str(choice.bits)}
            for name, choice in self.layers.items()
        }
        content = {"format": FORMAT, "bits": str(self.bits), "protocol": asdict(self.protocol), "layers": layers}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Strategy:
        """Read the text of a `strategy.json`.

        Raises:
            ValueError: not JSON, or not of this format.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format: {content['format']} is not readable. This program reads {FORMAT}.")
            protocol = content["protocol"]
            layers = {
                name: Choice(_name(choice["weight"]), _name(choice["activation"]), Bits.parse(choice["bits"]))
                for name, choice in content["layers"].items()
            }
            return cls(
                layers,
                Bits.parse(content["bits"]),
                Protocol(
                    protocol["first_last_bits"],
                    Scheme(**protocol["weight"]),
                    Scheme(**protocol["activation"]),
                    protocol["tail"],
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"strategy: not a strategy.json (at {error}). Write one with Strategy.to_json.") from error


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, which is not a quantizer's name")
    return value
