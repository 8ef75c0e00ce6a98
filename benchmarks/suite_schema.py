"""What may stand in a suite's file: its keys, their types and names. Imports no torch until options are checked.

Checks that pydantic does not know raise `fault`, which carries the key to blame below the value that was checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from benchmarks.methods import METHODS
from benchmarks.models import MODELS
from benchmarks.records import key_of
from benchmarks.tasks import TASKS
from benchmarks.yaml_lines import clip
from dqss.candidates import BIAS, is_for_weights_alone
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.registry import Registry, did_you_mean
from dqss.spec import PROTOCOLS, Bits, Granularity, Protocol, Scheme, Tail

MAX_SEED = 2**32 - 1
# Folders beside the suites' own under the output folder.
RESERVED_NAMES = frozenset({"mlartifacts", "site"})
UNIFORM = "uniform-"
DEFAULT = Protocol()
LISTS = {"model": "models", "task": "tasks", "quantizer": "quantizers", "method": "searches"}
EXPECTED = {
    "int_type": "Give a whole number.",
    "float_type": "Give a number.",
    "finite_number": "Give a finite number.",
    "bool_type": "Give true or false.",
    "string_type": "Give a name, in quotes where YAML reads something else.",
}

T = TypeVar("T")


def fault(what: str, *at: str | int) -> PydanticCustomError:
    """Return the error to raise in a validator: the message, and the location below the checked value."""
    return PydanticCustomError("fault", "{what}", {"what": what, "at": at})


def shown(value: object) -> str:
    """Return how a message calls a value that was found.

    >>> shown("resnet8"), shown(True), shown(3), shown([1]), shown(None)
    ("the text 'resnet8'", 'the truth value true', 'the number 3', 'a list', 'nothing')
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{clip(value)}'"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"the {type(value).__name__} {clip(str(value))}"


def explain(error: ErrorDetails) -> str:
    """Return what was found and what is allowed, for one of pydantic's errors."""
    if error["type"] == "fault":
        return str(error["ctx"]["what"])
    if error["type"] == "literal_error":
        return f"found {shown(error['input'])}. Give {error['ctx']['expected']}."
    return f"found {shown(error['input'])}. {EXPECTED.get(error['type'], error['msg'] + '.')}"


def _named(registry: Registry[Any], name: str) -> str:
    if name not in registry:
        raise fault(_no(registry.kind, name, [*registry]))
    return name


def _weight_quantizer(name: str) -> str:
    if name not in QUANTIZERS and not is_for_weights_alone(name):
        ending = BIAS if name.endswith(BIAS) else ""
        raise fault(_no("quantizer", name, [known + ending for known in (*QUANTIZERS, *RECONSTRUCTIONS)]))
    return name


def _activation_quantizer(name: str) -> str:
    if is_for_weights_alone(name):
        raise fault(f"'{name}' is for weights alone. Name it under weight, and here: {', '.join(QUANTIZERS)}.")
    return _named(QUANTIZERS, name)


def _no(kind: str, name: str, allowed: list[str]) -> str:
    close = did_you_mean(clip(name), allowed)
    return f"no {kind} '{clip(name)}'. {close} See `dqss-bench list {LISTS[kind]}`."


def _listed(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise fault(f"found {shown(value)}. Give a list{f': [{clip(value)}]' if isinstance(value, str) else ''}.")
    if not value:
        raise fault("the list is empty, which makes no cells. Give at least one entry.")
    seen = set()
    for i, entry in enumerate(value):
        if repr(entry) in seen:
            raise fault(f"{clip(str(entry))} stands twice. Delete one.", i)
        seen.add(repr(entry))
    return tuple(value)


def _suite_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) or name in RESERVED_NAMES:
        raise fault(
            f"'{clip(name)}' is not a suite's name, which is also its folder's. "
            f"Give up to 64 of a-z, 0-9, - and _, other than {', '.join(sorted(RESERVED_NAMES))}."
        )
    return name


def _version(version: int) -> int:
    if version < 1:
        raise fault(f"{version} is not allowed. Give 1 or more.")
    return version


def _bits(text: str) -> str:
    try:
        return str(Bits.parse(clip(text)))
    except ValueError as error:
        raise fault(str(error)) from error


def _seed(seed: int) -> int:
    if not 0 <= seed <= MAX_SEED:
        raise fault(f"{seed} is not a seed. Give 0 to {MAX_SEED}.")
    return seed


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
    return _listed(value) if isinstance(value, list) else (value,)


def search_of(method: str) -> str:
    """Return the name in METHODS of a method.

    >>> search_of("uniform-mse"), search_of("dqss")
    ('uniform', 'dqss')
    """
    return "uniform" if method.startswith(UNIFORM) else method


@dataclass(frozen=True)
class Method:
    """An entry under `methods`.

    Args:
        name: of a search, or `uniform-<quantizer>`, where the quantizer may be for weights alone.
        options: those given, by field of the search's class.
    """

    name: str
    options: dict[str, Any]

    @property
    def search(self) -> str:
        """The name in METHODS."""
        return search_of(self.name)


def _method(value: Any) -> Method:
    if isinstance(value, str):
        name, given = value, None
    elif isinstance(value, dict) and len(value) == 1:
        name, given = next(iter(value.items()))
        if not isinstance(given, dict):
            raise fault(f"found {shown(given)}. Give a mapping of options, or the name without a colon.", name)
    else:
        keys = f" of {len(value)} keys" if isinstance(value, dict) else ""
        raise fault(f"found {shown(value)}{keys}. Give a name, or one name with options: {{dqss: {{steps: 200}}}}.")
    allowed = [*METHODS, *(UNIFORM + quantizer for quantizer in (*QUANTIZERS, *RECONSTRUCTIONS))]
    if name not in allowed and not (name.startswith(UNIFORM) and is_for_weights_alone(name.removeprefix(UNIFORM))):
        raise fault(_no("method", name, allowed))
    method = Method(name, {})
    return replace(method, options=_options(method, given)) if given else method


def _options(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, checked against the fields of the search's class, and as its types say (1 as 1.0)."""
    found = METHODS.load(method.search)
    hints = get_type_hints(found)
    types = {field.name: hints[field.name] for field in fields(found)}  # type: ignore[arg-type]  # Search says dataclass
    options = {}
    for name, value in given.items():
        if name not in types:
            allowed = did_you_mean(clip(name), types) if types else "It has none."
            raise fault(f"no such option of '{method.search}'. {allowed}", method.name, name)
        try:
            adapter = TypeAdapter(types[name], config=ConfigDict(strict=True, allow_inf_nan=False))
            options[name] = adapter.validate_python(value)
        except ValidationError as error:
            raise fault(explain(error.errors()[0]), method.name, name) from error
    try:
        METHODS.create(method.search, options)
    except ValueError as error:
        option, _, rest = str(error).partition(": ")
        blamed = fault(rest, method.name, option) if option in options else fault(str(error), method.name)
        raise blamed from error
    return options


Many = Annotated[tuple[T, ...], BeforeValidator(_listed)]
TaskName = Annotated[str, AfterValidator(partial(_named, TASKS))]
ModelName = Annotated[str, AfterValidator(partial(_named, MODELS))]
WeightQuantizerName = Annotated[str, AfterValidator(_weight_quantizer)]
ActivationQuantizerName = Annotated[str, AfterValidator(_activation_quantizer)]
BitsText = Annotated[str, AfterValidator(_bits)]
Seed = Annotated[int, AfterValidator(_seed)]


class Section(BaseModel):
    """A mapping of the file: its fields are the keys, each required one with an example for messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_the_right_keys(cls, value: Any) -> Any:
        known = cls.model_fields
        if not isinstance(value, dict):
            raise fault(f"found {shown(value)}. Give a mapping with the keys {', '.join(known)}.")
        for key in value:
            if key not in known:
                raise fault(f"unknown key. {did_you_mean(clip(key), known)}", key)
        for key, field in known.items():
            if key not in value and field.is_required():
                example = f", for example `{key}: {field.examples[0]}`" if field.examples else ""
                raise fault(f"the key is missing. Add it{example}.", key)
        return value


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
        for name, protocol in PROTOCOLS.items():
            if protocol == self.definition:
                return name
        return f"custom-{key_of(asdict(self.definition))[:8]}"


class QuantizersSection(Section):
    """`ptq: quantizers:`, the candidates in their order."""

    weight: Many[WeightQuantizerName] = Field(examples=["[minmax, mse]"])
    activation: Many[ActivationQuantizerName] = Field(examples=["[minmax, mse]"])


class PtqSection(Section):
    """`ptq:`, what is compared in post-training quantization."""

    quantizers: QuantizersSection = Field(examples=["{weight: [minmax, mse], activation: [minmax, mse]}"])
    methods: Many[Annotated[Method, PlainValidator(_method)]] = Field(examples=["[uniform, best-uniform, dqss]"])

    @property
    def shared_quantizers(self) -> tuple[str, ...]:
        """Those for weights that are for activations too: the algorithms of uniform strategies."""
        return tuple(name for name in self.quantizers.weight if name in self.quantizers.activation)

    @model_validator(mode="after")
    def _methods_make_distinct_cells(self) -> PtqSection:
        seen: set[str] = set()
        for i, method in enumerate(self.methods):
            quantizer = method.name.removeprefix(UNIFORM)
            if is_for_weights_alone(quantizer):
                if quantizer not in self.quantizers.weight:
                    raise fault(
                        f"'{method.name}' needs '{quantizer}' among the weight quantizers. "
                        f"There: {', '.join(self.quantizers.weight)}.",
                        "methods",
                        i,
                    )
            elif method.search == "uniform" and not self.shared_quantizers:
                raise fault(
                    f"'{method.name}' makes no cell: no quantizer is in both lists. Add one to both, or delete this.",
                    "methods",
                    i,
                )
            elif method.name.startswith(UNIFORM) and quantizer not in self.shared_quantizers:
                raise fault(
                    f"'{method.name}' needs '{quantizer}' among the weight and the activation quantizers. "
                    f"In both lists: {', '.join(self.shared_quantizers)}.",
                    "methods",
                    i,
                )
            names = self._names(method)
            doubled = [name for name in names if name in seen]
            if doubled:
                hint = " 'uniform' holds it too." if method.search == "uniform" else ""
                raise fault(f"'{doubled[0]}' would run twice.{hint} Delete one.", "methods", i)
            seen.update(names)
        return self

    def unfolded(self) -> list[Method]:
        """Return the methods with `uniform` as one `uniform-<quantizer>` for each shared quantizer."""
        return [replace(method, name=name) for method in self.methods for name in self._names(method)]

    def _names(self, method: Method) -> list[str]:
        return [UNIFORM + q for q in self.shared_quantizers] if method.name == "uniform" else [method.name]


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


class Suite(Section):
    """A suite's file.

    Args:
        suite: its name, and that of its folder of records.
        version: raised when scores may change.
        protocol: one or several; in the file one may stand without a list.
    """

    suite: Annotated[str, AfterValidator(_suite_name)] = Field(examples=["my-suite"])
    version: Annotated[int, AfterValidator(_version)] = Field(examples=["1"])
    task: TaskName = Field(examples=["fashion-mnist"])
    models: Many[ModelName] = Field(examples=["[resnet8, resnet20]"])
    bits: Many[BitsText] = Field(examples=["[W8A8, W4A4]"])
    protocol: Protocols = Field(examples=["all-layers"])
    seeds: Many[Seed] = Field(examples=["[0]"])
    ptq: PtqSection = Field(
        examples=["{quantizers: {weight: [minmax, mse], activation: [minmax, mse]}, methods: [uniform, dqss]}"]
    )
    _path: Path = PrivateAttr(default_factory=Path)

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path
