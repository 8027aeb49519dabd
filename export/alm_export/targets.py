"""Named device profiles, and what a precision means on each.

A ladder lists the schemes of one part from cheapest to dearest; the quality gate climbs it. Weights that are
multiplied with 8-bit activations are signed on arm64, where the product is exact, and unsigned on x86, where
a signed operand saturates on processors without VNNI (relative error 1.3e-2 against 1.9e-3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alm.errors import ExportError
from alm_export.measurements import ANSWERS_ON_ARM, CACHES_ON_ARM, ENGINES_ON_X86, NOT_ON_ARM, QUALITY, Measurement
from alm_quantize.gate import PARTS
from alm_quantize.schemes import SCHEMES

Ladders = Mapping[str, tuple[str, ...]]

ENGINES = {
    "onnxruntime": "onnxruntime",
    "gguf": "llama.cpp",
    "llama.cpp": "llama.cpp",
    "executorch": "executorch",
}
"""What --engine takes, and the engine that it means."""
OWN_LADDERS: Mapping[str, Mapping[str, Ladders]] = {
    "llama.cpp": {
        "fp32": {"decoder": ("fp32",), "head": ("fp32",)},
        "int8": {"decoder": ("q8_0",), "head": ("q8_0",)},
        "int4": {"decoder": ("q4_0", "q8_0"), "head": ("q8_0",)},
    },
    # One program holds all three; a scheme there is ExecuTorch's own name for it.
    "executorch": {
        "fp32": dict.fromkeys(PARTS, ("fp32",)),
        "int8": {"audio_encoder": ("8da8w", "fp32"), "decoder": ("8da8w",), "head": ("8da8w",)},
        "int4": {"audio_encoder": ("8da8w", "fp32"), "decoder": ("8da4w", "8da8w"), "head": ("8da8w",)},
    },
}
"""By engine and precision, the parts that it stores its own way; the others it leaves to onnxruntime."""
OWN_SCHEMES: Mapping[str, Ladders] = {
    "llama.cpp": {"decoder": ("fp32", "f16", "q8_0", "q4_0", "q4_k"), "head": ("fp32", "f16", "q8_0")},
    "executorch": {
        "audio_encoder": ("fp32", "8da8w"),
        "decoder": ("fp32", "8da8w", "8da4w"),
        "head": ("fp32", "8da8w"),
    },
}
"""By engine, the schemes that those parts may have."""


def _precisions(rows: str) -> dict[str, Ladders]:
    """Ladders per precision; `rows` is the scheme for 8-bit weights with 8-bit activations."""
    return {
        "fp32": dict.fromkeys(PARTS, ("fp32",)),
        "int8": {
            "audio_encoder": (rows, "int8-block32", "fp32"),
            "decoder": (rows, "int8-block32"),
            "head": ("int8-block32",),
        },
        "int4": {
            "audio_encoder": (rows, "int8-block32", "fp32"),
            "decoder": ("int4-block128", "int4-block64", "int4-block32"),
            "head": ("int4-block64", "int4-block32", "int8-block32"),
        },
    }


@dataclass(frozen=True)
class Target:
    """One device profile."""

    name: str
    """Name in commands and manifests."""
    description: str
    """What it stands for."""
    engine: str
    """Engine its packages run on unless another is asked for."""
    precisions: Mapping[str, Ladders]
    """Ladders per part, by precision."""
    int8_cache: bool
    """Whether a quantized Mellow keeps its keys and values in 8 bits on onnxruntime."""
    measured: tuple[Measurement, ...]
    """What the choice of engine and schemes rests on."""

    def ladders(self, precision: str, engine: str) -> Ladders:
        """What `precision` resolves to on `engine`; ExportError lists the known precisions."""
        if precision not in self.precisions:
            raise ExportError(f"unknown precision {precision!r}; {self.name} has {', '.join(self.precisions)}")
        return {**self.precisions[precision], **OWN_LADDERS.get(engine, {}).get(precision, {})}


X86 = (ENGINES_ON_X86,)
ARM = QUALITY, ANSWERS_ON_ARM, CACHES_ON_ARM, NOT_ON_ARM
TARGETS = {
    target.name: target
    for target in (
        Target("arm64", "any 64-bit Arm Linux machine", "onnxruntime", _precisions("int8"), False, ARM),
        Target("rpi5", "Raspberry Pi 5 (Cortex-A76)", "onnxruntime", _precisions("int8"), False, ARM),
        Target("rpi4", "Raspberry Pi 4 (Cortex-A72)", "onnxruntime", _precisions("int8"), False, ARM),
        Target("android", "64-bit Arm phones and tablets", "onnxruntime", _precisions("int8"), False, ARM),
        Target("x86_64", "any 64-bit x86 machine with AVX2", "onnxruntime", _precisions("uint8"), True, X86),
    )
}


def find_target(name: str) -> Target:
    """The target of that name; ExportError lists the known ones."""
    if name not in TARGETS:
        raise ExportError(f"unknown target {name!r}; this version has {', '.join(TARGETS)}")
    return TARGETS[name]


def find_engines(names: str) -> tuple[str, ...]:
    """The engines that --engine `names`, a comma list, means; ExportError lists the known ones."""
    found = []
    for name in names.split(","):
        if name not in ENGINES:
            raise ExportError(f"unknown engine {name!r}; this version has {', '.join(ENGINES)}")
        if ENGINES[name] in found:
            raise ExportError(f"--engine {names} names {ENGINES[name]} twice")
        found.append(ENGINES[name])
    return tuple(found)


def parse_schemes(text: str, parts: tuple[str, ...] = PARTS, engine: str = "onnxruntime") -> Ladders:
    """`part=scheme,...` or one scheme for all parts, as single-rung ladders. ExportError for unknown names."""
    pairs = [item.partition("=")[::2] for item in text.split(",")]
    chosen = dict(pairs) if "=" in text else dict.fromkeys(parts, text)
    known = {part: OWN_SCHEMES.get(engine, {}).get(part, tuple(SCHEMES)) for part in parts}
    unknown = [part for part in chosen if part not in known]
    unknown += sorted({scheme for part, scheme in chosen.items() if part in known and scheme not in known[part]})
    missing = [part for part in parts if part not in chosen]
    if unknown or missing:
        raise ExportError(
            f"--scheme {text}: {'unknown: ' + ', '.join(unknown) if unknown else 'missing: ' + ', '.join(missing)}. "
            f"Parts and schemes on {engine}: {_listed(known)}"
        )
    head = SCHEMES.get(chosen.get("head", "fp32"))
    if head and head.bits < 32 and not head.block:
        raise ExportError(
            f"--scheme {text}: the head is also the token embedding, whose rows {head.name} cannot look up; "
            "give it a block scheme or fp32"
        )
    return {part: (chosen[part],) for part in parts}


def _listed(known: Ladders) -> str:
    """Parts with their schemes; parts that have the same ones together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for part, schemes in known.items():
        together.setdefault(schemes, []).append(part)
    return "; ".join(f"{', '.join(parts)}: {', '.join(schemes)}" for schemes, parts in together.items())
