"""`qat:`, what is compared in quantization-aware training. Imports no torch until options are checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, field_validator, model_validator

from benchmarks.methods import QAT_METHODS
from benchmarks.schema.algorithms import algorithm_of
from benchmarks.schema.faults import fault, shown
from benchmarks.schema.methods import UNIFORM, Method, checked_options, method_of
from benchmarks.schema.sections import BitsText, Many, Section, named
from dqss.learned import LEARNED
from dqss.registry import did_you_mean

BITS = re.compile(r"W[0-9]+A[0-9]+")


def _algorithm(name: str) -> str:
    named(LEARNED, name)
    if not algorithm_of(name).uniform:
        raise fault(
            f"'{name}' has levels that are not evenly spaced: integers cannot hold them, and every protocol here is of "
            "models to deploy. Delete it."
        )
    return name


def _method(value: Any) -> Method:
    """Return what an entry stands for; among its options bits may stand, with options that hold there alone."""
    allowed = [*QAT_METHODS, *(UNIFORM + name for name in LEARNED)]
    given, at = value, {}
    if isinstance(value, dict) and len(value) == 1:
        name, options = next(iter(value.items()))
        if isinstance(options, dict):
            at = {key: own for key, own in options.items() if isinstance(key, str) and BITS.fullmatch(key)}
            given = {name: {key: option for key, option in options.items() if key not in at}}
    method = method_of(given, QAT_METHODS, "training method", allowed, "{dqss: {alpha: 0.1}}")
    if method.name.startswith(UNIFORM):
        _algorithm(method.name.removeprefix(UNIFORM))
    by_bits = {}
    for bits, own in at.items():
        if not isinstance(own, dict):
            raise fault(f"found {shown(own)}. Give a mapping of options: {{network: 0.01}}.", method.name, bits)
        checked = checked_options(method.name, {**method.options, **own}, QAT_METHODS, (bits,))
        by_bits[bits] = {option: checked[option] for option in own}
    return replace(method, by_bits=by_bits)


PRECISIONS = ("no", "bf16", "fp16")
ZERO_STAGES = (0, 1, 2)

AlgorithmName = Annotated[str, AfterValidator(_algorithm)]


class LearnedSection(Section):
    """`qat: quantizers:`, what `dqss` chooses among and `uniform` unfolds to; `uniform-<name>` may be another."""

    weight: Many[AlgorithmName] = Field(examples=["[lsq, dorefa]"])
    activation: Many[AlgorithmName] = Field(examples=["[lsq, dorefa]"])


class TrainingSection(Section):
    """`qat: training:`, the budget, equal for all methods.

    Args:
        epochs: over the task's fine-tuning images.
        batch_size: of all processes together; a last batch that is not full is left out.
        distillation: as of dqss.train_qat.
        accumulation: how many equal parts each process cuts its share of a batch into, for less memory.
        precision: of the network's products: `no` is float32; `bf16`; `fp16`, on GPUs alone.
        zero: the stage of DeepSpeed's ZeRO, 1 or 2, over several processes; 0 is none.
    """

    epochs: int = Field(examples=["2"])
    batch_size: int = Field(examples=["64"])
    distillation: float = 0.0
    accumulation: int = 1
    precision: str = "no"
    zero: int = 0

    @field_validator("epochs", "batch_size", "accumulation")
    @classmethod
    def _is_positive(cls, count: int) -> int:
        if count < 1:
            raise fault(f"{count} is not allowed. Give 1 or more.")
        return count

    @field_validator("distillation")
    @classmethod
    def _is_a_share(cls, share: float) -> float:
        if not 0 <= share <= 1:
            raise fault(f"{share} is not allowed. Give a number between 0 and 1.")
        return share

    @field_validator("precision", mode="before")
    @classmethod
    def _is_text(cls, precision: Any) -> Any:
        # What YAML makes of a plain no.
        return "no" if precision is False else precision

    @field_validator("precision")
    @classmethod
    def _is_a_precision(cls, precision: str) -> str:
        if precision not in PRECISIONS:
            raise fault(f"'{precision}' is not allowed. {did_you_mean(precision, PRECISIONS)}")
        return precision

    @field_validator("zero")
    @classmethod
    def _is_a_stage(cls, zero: int) -> int:
        if zero not in ZERO_STAGES:
            raise fault(f"{zero} is not allowed. Give 0 (none), 1 or 2.")
        return zero

    @model_validator(mode="after")
    def _go_together(self) -> TrainingSection:
        if self.batch_size % self.accumulation:
            raise fault(
                f"{self.accumulation} is not allowed, since a batch of {self.batch_size} cannot be cut into as many "
                "equal parts. Give a divisor.",
                "accumulation",
            )
        if self.zero and self.precision != "no":
            raise fault(f"'{self.precision}' is not allowed with zero {self.zero}. Write 'no'.", "precision")
        return self


@dataclass(frozen=True)
class Training:
    """One method among its candidates: algorithms under the names of those that do the work."""

    method: Method
    weights: tuple[str, ...]
    activations: tuple[str, ...]


class QatSection(Section):
    """`qat:`, what is compared in quantization-aware training.

    Args:
        bits: instead of the suite's.
    """

    quantizers: LearnedSection = Field(examples=["{weight: [lsq, dorefa], activation: [lsq, dorefa]}"])
    training: TrainingSection = Field(examples=["{epochs: 2, batch_size: 64}"])
    methods: Many[Annotated[Method, PlainValidator(_method)]] = Field(examples=["[uniform, dqss]"])
    bits: Many[BitsText] | None = None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms of uniform strategies: those in either list, of such that make the same pair the first."""
        found: dict[tuple[str, str], str] = {}
        for name in (*self.quantizers.weight, *self.quantizers.activation):
            found.setdefault((algorithm_of(name).weights, algorithm_of(name).activations), name)
        return tuple(found.values())

    @model_validator(mode="after")
    def _methods_make_distinct_cells(self) -> QatSection:
        seen: set[str] = set()
        for i, method in enumerate(self.methods):
            if method.name in seen:
                raise fault(f"'{method.name}' would run twice. Delete one.", "methods", i)
            seen.add(method.name)
        if "uniform" in seen and all(UNIFORM + name in seen for name in self.algorithms):
            what = "'uniform' makes no cell: each of its algorithms is named beside it. Delete it."
            raise fault(what, "methods", [method.name for method in self.methods].index("uniform"))
        return self

    def unfolded(self) -> list[Training]:
        """Return the methods with their candidates.

        `uniform` becomes one `uniform-<algorithm>` for each that is not named beside it, with the options of `uniform`.
        """
        apart = {method.name for method in self.methods}
        found = []
        for method in self.methods:
            if method.name == "uniform":
                names = [UNIFORM + algorithm for algorithm in self.algorithms]
                found += [self._training(replace(method, name=name)) for name in names if name not in apart]
            else:
                found.append(self._training(method))
        return found

    def _training(self, method: Method) -> Training:
        only = (method.name.removeprefix(UNIFORM),) if method.search == "uniform" else None
        weights = dict.fromkeys(algorithm_of(name).weights for name in only or self.quantizers.weight)
        activations = dict.fromkeys(algorithm_of(name).activations for name in only or self.quantizers.activation)
        return Training(method, tuple(weights), tuple(activations))
