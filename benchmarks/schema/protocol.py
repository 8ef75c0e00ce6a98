"""`protocol:`, a name or a mapping, one or several."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator

from benchmarks.records import key_of
from benchmarks.schema.faults import fault, shown
from benchmarks.schema.sections import Section, listed
from benchmarks.yaml_lines import clip
from dqss.registry import did_you_mean
from dqss.spec import PROTOCOLS, Granularity, Protocol, Scheme, Tail

DEFAULT = Protocol()


class WeightSection(Section):
    """`protocol: weight:`."""

    symmetric: bool = DEFAULT.weight.symmetric
    granularity: Granularity = DEFAULT.weight.granularity


class ActivationSection(Section):
    """`protocol: activation:`."""

    symmetric: bool = DEFAULT.activation.symmetric
    granularity: Granularity = DEFAULT.activation.granularity

    @field_validator("granularity")
    @classmethod
    def _protocol_takes_it(cls, granularity: Granularity) -> Granularity:
        try:
            Protocol(activation=Scheme(DEFAULT.activation.symmetric, granularity))
        except ValueError as error:
            raise fault(str(error).removeprefix("activation granularity: ")) from error
        return granularity


class ProtocolSection(Section):
    """`protocol:`, a named one or one's own; a key that is left out is as in `Protocol()`."""

    first_last_bits: int | None = DEFAULT.first_last_bits
    weight: WeightSection = WeightSection()
    activation: ActivationSection = ActivationSection()
    tail: Tail = DEFAULT.tail

    @field_validator("first_last_bits")
    @classmethod
    def _protocol_takes_it(cls, bits: int | None) -> int | None:
        try:
            Protocol(first_last_bits=bits)
        except ValueError as error:
            raise fault(str(error).removeprefix("first_last_bits: ")) from error
        return bits

    @field_validator("tail")
    @classmethod
    def _tail_says_something(cls, tail: Tail, info: ValidationInfo) -> Tail:
        # Bits that are wrong themselves are not among the data, and already told.
        if "first_last_bits" in info.data:
            try:
                Protocol(first_last_bits=info.data["first_last_bits"], tail=tail)
            except ValueError as error:
                raise fault(str(error).removeprefix("tail: ")) from error
        return tail

    @property
    def definition(self) -> Protocol:
        """The protocol itself."""
        weight = Scheme(self.weight.symmetric, self.weight.granularity)
        activation = Scheme(self.activation.symmetric, self.activation.granularity)
        return Protocol(self.first_last_bits, weight, activation, self.tail)

    @property
    def name(self) -> str:
        """The name in PROTOCOLS, also where an equal mapping was written out; else `custom-` and eight hex digits."""
        return protocol_name(self.definition)


def protocol_name(protocol: Protocol) -> str:
    """Return the name of a protocol: that in PROTOCOLS, else `custom-` and the first digits of its hash."""
    known = next((name for name, other in PROTOCOLS.items() if other == protocol), None)
    return known or f"custom-{key_of(asdict(protocol))[:8]}"


def _protocol(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        if value not in PROTOCOLS:
            raise fault(f"no protocol '{clip(value)}'. {did_you_mean(clip(value), PROTOCOLS)} Or give a mapping.")
        return asdict(PROTOCOLS[value])
    if not isinstance(value, dict):
        raise fault(
            f"found {shown(value)}. Give a name ({', '.join(PROTOCOLS)}), "
            f"or a mapping with the keys {', '.join(ProtocolSection.model_fields)}."
        )
    return value


def _protocols(value: Any) -> Any:
    return listed(value) if isinstance(value, list) else (value,)


def _distinct(protocols: tuple[ProtocolSection, ...]) -> tuple[ProtocolSection, ...]:
    names = [protocol.name for protocol in protocols]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise fault(f"'{name}' stands twice. Delete one.", i)
    return protocols


Protocols = Annotated[
    tuple[Annotated[ProtocolSection, BeforeValidator(_protocol)], ...],
    BeforeValidator(_protocols),
    AfterValidator(_distinct),
]
