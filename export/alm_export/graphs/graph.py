"""Build ONNX graphs node by node.

Graphs are written here and not traced, so that each node is there on purpose: fused kernels, precomputed
indices and quantized matrices come out the same with every torch release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from alm_quantize.schemes import SCHEMES, quantize_blocks, quantize_rows

if TYPE_CHECKING:
    import torch

OPSET = 20
"""Has Gelu; the newest that every onnxruntime in the supported range knows."""
INLINE_BYTES = 1024
"""Smaller constants stay in the graph: onnxruntime needs the values of shapes and axes while it loads."""
MICROSOFT = "com.microsoft"


@dataclass
class GraphBuilder:
    """One component's graph. Methods add a node and return the name of its (first) output."""

    name: str
    """Component name."""
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    """Weights kept outside the graph."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    """Operators in the order they run."""
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    """What the graph is given."""
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    """What it gives."""
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """Constants by name; the larger ones only say where outside the graph their values are."""
    named: int = 0
    """Nodes whose outputs were given names, those inside of `either` too: no name may come twice."""

    def input(self, name: str, dtype: type, shape: Sequence[int | str]) -> str:
        """Declare a graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))
        return name

    def output(self, value: str, name: str, dtype: type, shape: Sequence[int | str]) -> None:
        """Declare `value` as a graph output called `name`."""
        if value != name:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))

    def op(self, kind: str, *inputs: str, outputs: int | Sequence[str] = 1, domain: str = "", **attributes: Any):
        """Add a node; returns its output name, or the list of them when there are several."""
        if isinstance(outputs, int):
            outputs = [f"{kind}_{self.named}_{i}" for i in range(outputs)]
            self.named += 1
        self.nodes.append(helper.make_node(kind, inputs, list(outputs), domain=domain, **attributes))
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def either(
        self,
        condition: str,
        then: Callable[[], Sequence[str]],
        otherwise: Callable[[], Sequence[str]],
        kinds: Sequence[tuple[type, Sequence[int | str]]],
    ) -> list[str]:
        """Run the nodes that `then` adds where `condition`, one bool, holds, else those of `otherwise`.

        Both may use what was made before, and return values of the types and shapes `kinds`; the outputs are theirs.
        """
        around, bodies = self.nodes, []
        for body in (then, otherwise):
            self.nodes = []
            ends = [
                helper.make_tensor_value_info(value, _onnx_type(dtype), shape)
                for value, (dtype, shape) in zip(body(), kinds, strict=True)
            ]
            bodies.append(helper.make_graph(self.nodes, body.__name__, [], ends))
        self.nodes = around
        outputs = [f"If_{self.named}_{index}" for index in range(len(kinds))]
        self.named += 1
        self.op("If", condition, outputs=outputs, then_branch=bodies[0], else_branch=bodies[1])
        return outputs

    def constant(self, value: np.ndarray | Sequence[int] | float, name: str | None = None) -> str:
        """Add a constant: integers become int64, floats float32. A name shares it between components."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = name or f"{self.name}.constant_{len(self.constants)}"
        if name not in self.constants:
            proto = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
            if array.nbytes <= INLINE_BYTES:
                proto.raw_data = array.tobytes()
            else:
                proto.data_location = TensorProto.EXTERNAL
                self.tensors[name] = np.ascontiguousarray(array)
            self.constants[name] = proto
        return name

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Reshape to a fixed shape, -1 and 0 as in ONNX."""
        return self.op("Reshape", value, self.constant(np.array(shape, np.int64)))

    def transpose(self, value: str, order: Sequence[int]) -> str:
        """Permute axes."""
        return self.op("Transpose", value, perm=list(order))

    def linear(self, value: str, weight: np.ndarray, scheme: str, name: str, bias: np.ndarray | None = None) -> str:
        """`value` (..., in) times `weight` (out, in), stored by `scheme`, plus `bias` (out,)."""
        chosen = SCHEMES[scheme]
        if chosen.bits == 32:
            out = self.op("MatMul", value, self.constant(np.ascontiguousarray(weight.T), f"{name}.weight"))
        elif chosen.block:
            return self._block_linear(value, weight, scheme, name, bias)
        else:
            return self._row_linear(value, weight, chosen.signed, name, bias)
        return out if bias is None else self.op("Add", out, self.constant(bias, f"{name}.bias"))

    def _row_linear(self, value: str, weight: np.ndarray, signed: bool, name: str, bias: np.ndarray | None) -> str:
        rows = quantize_rows(weight, signed)
        zero = np.full(len(weight), 0 if signed else 128, rows.values.dtype)
        inputs = [
            value,
            self.constant(rows.values, f"{name}.int8"),
            self.constant(rows.scales, f"{name}.scales"),
            self.constant(zero, f"{name}.zero"),
        ]
        if bias is not None:
            inputs.append(self.constant(bias, f"{name}.bias"))
        return self.op("DynamicQuantizeMatMul", *inputs, domain=MICROSOFT)

    def _block_linear(self, value: str, weight: np.ndarray, scheme: str, name: str, bias: np.ndarray | None) -> str:
        chosen = SCHEMES[scheme]
        blocks = quantize_blocks(weight, chosen.bits, chosen.block)
        inputs = [
            value,
            self.constant(blocks.packed, f"{name}.packed"),
            self.constant(blocks.scales, f"{name}.scales"),
        ]
        if bias is not None:
            inputs += ["", "", self.constant(bias, f"{name}.bias")]
        # Level 4 lets kernels multiply in int8 (onnxruntime/mobius #402 reports 2.3x faster decoding on an Apple CPU).
        attributes = {"bits": chosen.bits, "block_size": chosen.block, "accuracy_level": 4}
        return self.op("MatMulNBits", *inputs, domain=MICROSOFT, K=weight.shape[1], N=weight.shape[0], **attributes)

    @property
    def external(self) -> list[str]:
        """Names of the constants that are kept outside the graph."""
        return [name for name, proto in self.constants.items() if proto.data_location == TensorProto.EXTERNAL]

    def build(self, places: Mapping[str, tuple[str, int, int]]) -> bytes:
        """The serialized model; `places` gives the file, offset and size of each external constant."""
        for name in self.external:
            for key, value in zip(("location", "offset", "length"), places[name], strict=True):
                self.constants[name].external_data.add(key=key, value=str(value))
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="alm-edge")
        return model.SerializeToString()


def _onnx_type(dtype: type) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def array(parameter: torch.Tensor) -> np.ndarray:
    """A parameter's values as float32, in its shape."""
    return parameter.detach().float().cpu().numpy()
