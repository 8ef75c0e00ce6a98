"""What may stand in a suite's file: its keys, their types and names. Imports no torch until options are checked."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from benchmarks.models import MODELS
from benchmarks.schema.faults import fault
from benchmarks.schema.protocol import Protocols
from benchmarks.schema.ptq import PtqSection
from benchmarks.schema.qat import QatSection
from benchmarks.schema.sections import BitsText, Many, Section, named
from benchmarks.tasks import TASKS
from benchmarks.yaml_lines import clip
from dqss.registry import did_you_mean

MAX_SEED = 2**32 - 1
# Folders beside the suites' own under the output folder.
RESERVED_NAMES = frozenset({"mlartifacts", "site"})


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


def _seed(seed: int) -> int:
    if not 0 <= seed <= MAX_SEED:
        raise fault(f"{seed} is not a seed. Give 0 to {MAX_SEED}.")
    return seed


TaskName = Annotated[str, AfterValidator(partial(named, TASKS))]
ModelName = Annotated[str, AfterValidator(partial(named, MODELS))]
Seed = Annotated[int, AfterValidator(_seed)]


class Suite(Section):
    """A suite's file.

    Args:
        suite: its name, and that of its folder of records.
        version: raised when scores may change.
        protocol: one or several; in the file one may stand without a list.
        ptq: post-training quantization.
        qat: quantization-aware training; one of the two at least.
    """

    suite: Annotated[str, AfterValidator(_suite_name)] = Field(examples=["my-suite"])
    version: Annotated[int, AfterValidator(_version)] = Field(examples=["1"])
    task: TaskName = Field(examples=["fashion-mnist"])
    models: Many[ModelName] = Field(examples=["[resnet8, resnet20]"])
    bits: Many[BitsText] = Field(examples=["[W8A8, W4A4]"])
    protocol: Protocols = Field(examples=["all-layers"])
    seeds: Many[Seed] = Field(examples=["[0]"])
    ptq: PtqSection | None = None
    qat: QatSection | None = None
    _path: Path = PrivateAttr(default_factory=Path)

    @field_validator("ptq", "qat", mode="before")
    @classmethod
    def _is_there_where_it_is_named(cls, section: Any) -> Any:
        if section is None:
            raise fault("found nothing. Give a mapping, or leave the key out.")
        return section

    @model_validator(mode="after")
    def _compares_something(self) -> Suite:
        if self.ptq is None and self.qat is None:
            raise fault("it has neither ptq nor qat, which makes no cells. Add one of these keys.")
        return self

    @model_validator(mode="after")
    def _trains_symmetric_weights(self) -> Suite:
        affine = [protocol.name for protocol in self.protocol if not protocol.weight.symmetric]
        if self.qat is not None and affine:
            raise fault(
                f"the weights of protocol '{affine[0]}' are affine, and no learned quantizer is made for that. "
                "Name a protocol with symmetric weights, or leave qat out.",
                "qat",
            )
        return self

    @model_validator(mode="after")
    def _options_are_for_bits_of_the_suite(self) -> Suite:
        if self.qat is not None:
            present = self.qat.bits or self.bits
            for i, method in enumerate(self.qat.methods):
                for bits in method.by_bits:
                    if bits not in present:
                        what = f"no cell of training has these bits. {did_you_mean(bits, present)}"
                        raise fault(what, "qat", "methods", i, method.name, bits)
        return self

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path
