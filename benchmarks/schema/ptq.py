"""`ptq:`, what is compared in post-training quantization. Imports no torch until options are checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from benchmarks.methods import METHODS
from benchmarks.schema.faults import fault, no_such
from benchmarks.schema.methods import UNIFORM, Method, method_of
from benchmarks.schema.sections import Many, Section, named
from dqss.candidates import BIAS, is_for_weights_alone
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS


def _weight_quantizer(name: str) -> str:
    if name not in QUANTIZERS and not is_for_weights_alone(name):
        ending = BIAS if name.endswith(BIAS) else ""
        raise fault(no_such("quantizer", name, [known + ending for known in (*QUANTIZERS, *RECONSTRUCTIONS)]))
    return name


def _activation_quantizer(name: str) -> str:
    if is_for_weights_alone(name):
        raise fault(f"'{name}' is for weights alone. Name it under weight, and here: {', '.join(QUANTIZERS)}.")
    return named(QUANTIZERS, name)


def _method(value: Any) -> Method:
    name = next(iter(value), None) if isinstance(value, dict) else value
    allowed = [*METHODS, *(UNIFORM + quantizer for quantizer in (*QUANTIZERS, *RECONSTRUCTIONS))]
    if isinstance(name, str) and name.startswith(UNIFORM) and is_for_weights_alone(name.removeprefix(UNIFORM)):
        # With a corrected bias there are too many to list them.
        allowed = [*allowed, name]
    return method_of(value, METHODS, "method", allowed, "{dqss: {steps: 200}}")


WeightQuantizerName = Annotated[str, AfterValidator(_weight_quantizer)]
ActivationQuantizerName = Annotated[str, AfterValidator(_activation_quantizer)]


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
