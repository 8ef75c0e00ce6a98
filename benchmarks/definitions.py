"""What a record's definition says, where it is one: with known keys and types, and as the record's fields. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.records import Record, key_of
from benchmarks.schema.protocol import protocol_name
from dqss.spec import Protocol, Scheme

LARGEST = 20_000
"""Characters; those of shipped suites have about a thousand."""


class DefinitionError(ValueError):
    """A definition that no cell has; the message says where, without a full stop."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Task(_Part):
    name: str
    version: int
    data: str | None


class _Model(_Part):
    name: str
    version: int
    checkpoint: str | None


class _Scheme(_Part):
    symmetric: bool
    granularity: Literal["per-tensor", "per-channel"]


class _Protocol(_Part):
    first_last_bits: int | None
    weight: _Scheme
    activation: _Scheme
    tail: Literal["last-layer", "enlarging"]


class _Method(_Part):
    name: str
    version: int
    options: dict[str, Any]


class _Quantizer(_Part):
    name: str
    version: int
    bias_version: int | None = None


class _Quantizers(_Part):
    weight: list[_Quantizer]
    activation: list[_Quantizer]


class _Budget(_Part):
    epochs: int
    batch_size: int
    distillation: float
    accumulation: int = 1
    precision: str = "no"
    zero: int = 0


class Definition(_Part):
    """All that a cell's result depends on, as `Cell.definition` has it."""

    suite_version: int
    task: _Task
    model: _Model
    bits: str
    mode: Literal["ptq", "qat"]
    protocol: _Protocol
    method: _Method
    quantizers: _Quantizers
    seed: int | None
    training: _Budget | None = None

    @property
    def protocol_definition(self) -> Protocol:
        """The protocol; raises ValueError where its parts do not go together."""
        told = self.protocol
        weight = Scheme(told.weight.symmetric, told.weight.granularity)
        activation = Scheme(told.activation.symmetric, told.activation.granularity)
        return Protocol(told.first_last_bits, weight, activation, told.tail)

    @property
    def method_name(self) -> str:
        """The method as records and suites call it: of a uniform one in mode `ptq` also the algorithm."""
        uniform = self.mode == "ptq" and self.method.name == "uniform"
        return f"uniform-{self.quantizers.weight[0].name}" if uniform else self.method.name


def definition_of(record: Record) -> Definition:
    """Return the definition of a record, whose other fields say the same.

    Raises:
        DefinitionError: the definition has other keys or types, its parts do not go together, its key is not the
            record's, or a field of the record tells otherwise.
    """
    if len(str(record.definition)) > LARGEST:
        raise DefinitionError(f"definition: more than {LARGEST} characters")
    try:
        definition = Definition.model_validate(record.definition)
        protocol = definition.protocol_definition
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DefinitionError(f"definition.{where}: {first['msg']}") from error
    except ValueError as error:
        raise DefinitionError(f"definition.protocol: {str(error).rstrip('.')}") from error
    if not (definition.quantizers.weight and definition.quantizers.activation):
        raise DefinitionError("definition.quantizers: no candidates")
    if (definition.training is None) != (definition.mode == "ptq"):
        raise DefinitionError("definition.training: for mode qat, and for it alone")
    if key_of(record.definition) != record.key:
        raise DefinitionError("its key is not the hash of its definition")
    told = {
        "suite_version": definition.suite_version,
        "task": definition.task.name,
        "model": definition.model.name,
        "bits": definition.bits,
        "mode": definition.mode,
        "protocol": protocol_name(protocol),
        "method": definition.method_name,
        "seed": definition.seed,
    }
    other = next((name for name, value in told.items() if getattr(record, name) != value), None)
    if other is not None:
        raise DefinitionError(f"its {other} is not what its definition says")
    return definition
