"""`model.pte`: every method of the model in one ExecuTorch program for XNNPACK, its weights stored once.

Methods and constants are named as the runners in executorch/extension/llm expect (their constants.h), so that
MultimodalRunner opens the file as it is. The SDK runs `append` in place of `text_decoder`: the same weights, with keys
and values outside.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alm.errors import DependencyError, ExportError
from alm_export.executorch_decoder import AppendMethod, TextDecoderMethod, TokenEmbeddingMethod, new_caches
from alm_export.executorch_encoder import AudioEncoderMethod
from alm_quantize.gate import Assignment
from alm_train.models.mellow import Mellow

PROGRAM, DELEGATION = "model.pte", "delegation.json"
"""Entries of a package: the program, and what XNNPACK runs of it."""
GROUP = 32
"""Weights per scale with 4 bits; XNNPACK takes multiples of 32."""
ROWS = 16
"""The most logits that one `append` gives: memory for all of them is planned."""
HEAVY = ("linear", "mm", "bmm", "addmm", "matmul", "conv", "quantize", "choose_qparams")
"""Parts of operator names that must not stay outside a delegate."""


@dataclass(frozen=True)
class Delegation:
    """What XNNPACK runs of a method, and what it does not."""

    delegates: int
    """Pieces that XNNPACK runs."""
    nodes: int
    """Operators inside them."""
    outside: dict[str, int]
    """Operators that ExecuTorch's own kernels run, by name, with their number."""


@dataclass(frozen=True)
class _Method:
    """A method before it is traced."""

    module: nn.Module
    """Computes it."""
    inputs: tuple[Any, ...]
    """An example."""
    lengths: tuple[Any, ...] | None = None
    """Dynamic dimensions, as `torch.export` takes them."""
    delegated: bool = True
    """Whether XNNPACK gets what it can."""


def write_program(model: Mellow, schemes: Assignment, positions: int, path: Path) -> dict[str, Delegation]:
    """Write the program to `path`; returns what became of each method.

    `schemes` gives `audio_encoder`, `decoder` and `head` one of fp32, 8da8w and (decoder only) 8da4w. DependencyError
    without executorch; ExportError when a product would run outside XNNPACK.
    """
    require_executorch()
    with _quietly(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass
        from torch.export import export

        methods = _methods(model, schemes, positions)
        traced = {
            name: export(method.module, method.inputs, dynamic_shapes=method.lengths, strict=False)
            for name, method in methods.items()
        }
        edge = to_edge_transform_and_lower(
            traced,
            partitioner={name: [XnnpackPartitioner()] for name, method in methods.items() if method.delegated},
            # It checks operators by name, and those of the KV cache are none of torch's.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
            constant_methods=_constants(model, positions),
        )
        keep_inputs_in_place(edge.exported_program("append"))
        report = {name: _delegation(edge.exported_program(name).graph_module) for name in methods}
        check_delegation(report)
        # Planned inputs would be copied in: every cache at every step.
        planning = {name: MemoryPlanningPass(alloc_graph_input=name != "append") for name in methods}
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
        with path.open("wb") as file:
            program.write_to_file(file)
    return report


def require_executorch() -> None:
    """DependencyError when ExecuTorch or torchao cannot be imported."""
    try:
        with _quietly():
            import executorch.exir  # noqa: F401
            import torchao.quantization  # noqa: F401
            from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"ExecuTorch programs need a library that cannot be imported ({error}); "
            "install it with: pip install 'alm-edge[executorch,export]'"
        ) from error


def delegation_json(report: Mapping[str, Delegation]) -> bytes:
    """The entry `delegation.json`."""
    return json.dumps({name: asdict(delegation) for name, delegation in report.items()}, indent=1).encode()


def keep_inputs_in_place(program: Any) -> None:
    """Let operators write into a method's inputs: drop the copies that give changed inputs back as outputs."""
    from torch.export.graph_signature import OutputKind

    graph, outputs = program.graph_module.graph, program.graph_signature.output_specs
    last = graph.output_node()
    kept = [
        (spec, node)
        for spec, node in zip(outputs, last.args[0], strict=True)
        if spec.kind != OutputKind.USER_INPUT_MUTATION
    ]
    outputs[:] = [spec for spec, _ in kept]
    last.args = (tuple(node for _, node in kept),)
    for node in list(graph.nodes):
        if _operator(node) == "aten.copy.default":
            node.replace_all_uses_with(node.args[1])
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _methods(model: Mellow, schemes: Assignment, positions: int) -> dict[str, _Method]:
    from torch.export import Dim

    config, language = model.config, model.caption_decoder.lm
    length = Dim("length", min=1, max=positions)
    embeddings, start = torch.zeros(1, 3, config.decoder.width), torch.zeros(1, dtype=torch.int64)
    caches = new_caches(language, positions)
    append, text = AppendMethod(language, positions), TextDecoderMethod(language, positions)
    for method in (append, text):
        _quantize(method.core.layers, schemes["decoder"])
        _quantize(method.core, schemes["head"])
    encoder = AudioEncoderMethod(model)
    _quantize(encoder, schemes["audio_encoder"])
    waveform = torch.zeros(1, 1, config.encoder.frontend.samples)
    ids, rows = torch.zeros(1, 3, dtype=torch.int64), torch.arange(2)
    return {
        "audio_encoder": _Method(encoder.eval(), (waveform,)),
        "token_embedding": _Method(
            TokenEmbeddingMethod(language, schemes["head"]).eval(), (ids,), ({1: length},), delegated=False
        ),
        "text_decoder": _Method(text.eval(), (embeddings, start), ({1: length}, None)),
        "append": _Method(
            append.eval(),
            (embeddings, rows, start, caches),
            ({1: length}, {0: Dim("rows", min=1, max=ROWS)}, None, [None] * len(caches)),
        ),
    }


def _quantize(module: nn.Module, scheme: str) -> None:
    """Give the layers below `module` that are still in float their scheme; activations get 8 bits as they come."""
    if scheme == "fp32":
        return
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerAxis, PerGroup, quantize_

    weights = {"8da4w": (torch.int4, PerGroup(GROUP)), "8da8w": (torch.int8, PerAxis(0))}
    kind, granularity = weights[scheme]
    floats = [
        layer for layer in module.modules() if isinstance(layer, nn.Linear) and type(layer.weight) is nn.Parameter
    ]
    uneven = {layer.in_features for layer in floats if scheme == "8da4w" and layer.in_features % GROUP}
    if uneven:
        raise ExportError(f"8da4w groups {GROUP} weights, and rows of {min(uneven)} have none such; choose --int8")
    config = Int8DynamicActivationIntxWeightConfig(weight_dtype=kind, weight_granularity=granularity)
    quantize_(module, config, filter_fn=lambda layer, name: any(layer is one for one in floats))


def _constants(model: Mellow, positions: int) -> dict[str, Any]:
    config = model.config
    return {
        "get_bos_id": config.stop_id,
        "get_eos_ids": [config.stop_id],
        "get_max_seq_len": positions,
        "get_max_context_len": positions,
        "get_vocab_size": config.decoder.vocabulary,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
        "enable_dynamic_shape": True,
    }


def _operator(node: Any) -> str:
    """Name of the operator by which a graph's node computes a tensor; empty for any other node."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    operator = node.target._op if isinstance(node.target, EdgeOpOverload) else node.target
    computes = isinstance(operator, torch._ops.OpOverload) and isinstance(node.meta.get("val"), torch.Tensor)
    return str(operator) if computes else ""


def _delegation(graph_module: Any) -> Delegation:
    nodes = list(graph_module.graph.nodes)
    inside = [getattr(graph_module, node.target) for node in nodes if node.op == "get_attr"]
    count = sum(bool(_operator(node)) for one in inside for node in one.original_module.graph_module.graph.nodes)
    # An operator that writes into its arguments is wrapped, and is the wrapper's first argument.
    wrapped = [str(node.args[0]) for node in nodes if "auto_functionalized" in str(node.target)]
    outside = Counter(filter(None, map(_operator, nodes))) + Counter(wrapped)
    return Delegation(len(inside), count, dict(sorted(outside.items())))


def check_delegation(report: Mapping[str, Delegation]) -> None:
    """ExportError when a product would run outside XNNPACK."""
    left = {
        f"{count} × {operator} of {method}"
        for method, delegation in report.items()
        for operator, count in delegation.outside.items()
        if any(word in operator for word in HEAVY)
    }
    if left:
        raise ExportError(
            f"XNNPACK leaves {', '.join(sorted(left))} outside, which ExecuTorch's own kernels would run many times "
            "slower; this version of executorch cannot export the model"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """ExecuTorch's exporter warns about torch's deprecations by the hundred, and logs what it might have imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
