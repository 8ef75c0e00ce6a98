"""What every section of a suite's file is made of: mappings with known keys, lists, and names of a table."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from benchmarks.schema.faults import fault, no_such, shown
from benchmarks.yaml_lines import clip
from dqss.registry import Registry, did_you_mean
from dqss.spec import Bits

T = TypeVar("T")


def listed(value: Any) -> tuple[Any, ...]:
    """Return the entries of a list that has some, all distinct."""
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


def named(registry: Registry[Any], name: str) -> str:
    """Return a name that is in the table."""
    if name not in registry:
        raise fault(no_such(registry.kind, name, [*registry]))
    return name


def _bits(text: str) -> str:
    try:
        return str(Bits.parse(clip(text)))
    except ValueError as error:
        raise fault(str(error)) from error


Many = Annotated[tuple[T, ...], BeforeValidator(listed)]
BitsText = Annotated[str, AfterValidator(_bits)]


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
