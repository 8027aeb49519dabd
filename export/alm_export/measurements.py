"""What the target presets rest on: each measurement with its machine and the command that makes it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One thing that was measured."""

    machine: str
    """Where, and whether it was emulated."""
    command: str
    """What anyone can run."""
    figures: str
    """What came out."""


EPYC = "x86-64, AMD EPYC with VNNI, 2 cores"
EMULATED = "Cortex-A76 and Cortex-A72, emulated by QEMU 10 on x86-64"

ENGINES_ON_X86 = Measurement(
    EPYC,
    "python -m alm_bench.studies.engines onnxruntime.alm gguf.alm executorch.alm --rounds 11",
    "full size, random weights, int4, 2 threads (1 thread): onnxruntime decodes 183 (161) tokens/s and runs a prefix "
    "of 389 positions in 247 (379) ms, llama.cpp 147 (148) and 340 (511), executorch 177 (152) and 256 (447)",
)
QUALITY = Measurement(
    EPYC,
    "alm-export mellow --target arm64 --int4",
    "reference weights, int8 encoder, int4-block128 decoder, int4-block64 head: 304 of 304 next-token decisions as "
    "float32 (95 %: 98.8 to 100 %)",
)
ANSWERS_ON_ARM = Measurement(
    EMULATED,
    "make test-arm64",
    "the package of the line above passes its self-test and gives the 25 answers of this x86 machine on both",
)
CACHES_ON_ARM = Measurement(
    "Cortex-A76, emulated by QEMU 7.2 on x86-64",
    "alm-bench run PACKAGE --device qemu:cortex-a76 --rounds 1",
    "full size, random weights, int4: a step takes 90 million instructions over float32 keys and values, 120 million "
    "over 8-bit ones, so they stay float32",
)
NOT_ON_ARM = Measurement(
    "Arm hardware",
    "alm-bench run PACKAGE",
    "nothing was measured on such a device yet: the engine is the one that is fastest on x86-64, and emulation says "
    "nothing about time",
)
