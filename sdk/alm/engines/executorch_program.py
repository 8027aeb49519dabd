"""One ExecuTorch program in memory: checked, its methods checked against what the manifest describes, then run.

The runtime takes a program as bytes or by the name of a file that holds nothing else, so the entry is read into memory:
its size is resident beside what XNNPACK packs of it. Importing this module imports that runtime, and with it torch,
against which it is linked.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alm.engines.base import Array
from alm.engines.trials import fault_of, run_apart, verdict
from alm.engines.versions import LIBRARIES
from alm.errors import EngineError

IDENTIFIER, EXTENDED = b"ET12", b"eh00"
"""What a program begins with behind its first four bytes."""
HEADER = struct.Struct("<4s4s4sIQQQ")
"""Root of the flatbuffer, identifier; magic, length, size of the program, offset and size of what follows it."""
FLOAT, LONG = 6, 4
"""Types of tensors as ExecuTorch counts them."""
Signature = tuple[int, tuple[int | None, ...]]
"""Type and sizes of an input; None for any size."""
SLACK = 64
"""Numbers behind an input that may be read: XNNPACK's kernels load whole vectors."""


@contextmanager
def _silent() -> Iterator[None]:
    """The runtime tells stderr what it reads about the processor, from C++ and without a switch."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """What is imported here starts no threads of OpenMP, unless the environment says how many."""
    given = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        if not given:
            del os.environ["OMP_NUM_THREADS"]


# Attention runs on ExecuTorch's threads and has its products from torch. Where each of them started torch's threads as
# well, a prefix on two threads took 1.6 times as long; set_num_threads, which comes later, made that worse.
with _one_openmp_thread():
    import torch as torch

with _silent():
    # executorch.runtime is a thin layer over this, and imports the exporter: four seconds of it.
    from executorch.extension.pybindings import _C as runtime

    # Attention and the update of the caches. Their Python module would import torch's compiler as well.
    _custom = Path(next(iter(__import__("executorch").__path__)), "extension/llm/custom_ops")
    for _library in sorted(_custom.glob("libcustom_ops_aot_lib.*")):
        torch.ops.load_library(_library)


CHECK = runtime.Verification.InternalConsistency
"""How much the runtime checks of a program before it takes it."""
METHODS = ("audio_encoder", "token_embedding", "append")
"""Methods that the SDK runs."""
TRIAL = "import sys; from alm.engines.executorch_program import run_all; run_all(sys.stdin.buffer.read())"
"""Runs a program from the standard input."""


def set_threads(threads: int) -> None:
    """Compute with `threads` threads, in all programs of this process."""
    with _silent():
        runtime._unsafe_reset_threadpool(threads)


class LoadedProgram:
    """A program whose methods run one at a time: they share one block of memory for what they compute."""

    def __init__(self, entry: str, data: bytes) -> None:
        _check_header(entry, data)
        _check_apart(entry, data)
        self.entry = entry
        """Name in the package, for messages."""
        self._data = data  # which the runtime reads from, and does not keep
        self.lock = threading.Lock()
        """Held while one of its methods runs."""
        try:
            with _silent():
                self._program = runtime._load_program_from_buffer(data, program_verification=CHECK)
        except RuntimeError as error:
            raise EngineError(f"executorch cannot load {entry!r}: {error}; export the package again") from error

    def method(
        self, name: str, component: str, inputs: Sequence[Signature], outputs: int, first: Sequence[int | None]
    ) -> LoadedMethod:
        """A method of a component, checked before it is loaded: its `inputs`, the number of its outputs, and the sizes
        of the first of them."""
        names = [self._program.get_method_name(place) for place in range(self._program.num_methods())]
        if name not in names:
            known = ", ".join(sorted(names))
            raise EngineError(f"{self.entry!r} has no method {name!r}, only {known}; export the package again")
        try:
            meta = self._program.method_meta(name)
            found = [meta.input_tensor_meta(place) for place in range(meta.num_inputs())]
            fits = len(found) == len(inputs) and meta.num_outputs() == outputs
            fits = fits and _fits(meta.output_tensor_meta(0), FLOAT, tuple(first))
            if not fits or not all(_fits(tensor, *expected) for tensor, expected in zip(found, inputs, strict=True)):
                raise EngineError(self._foreign(name))
            with _silent():
                method = self._program.load_method(name)
        except (RuntimeError, IndexError) as error:
            message = f"executorch cannot load {name!r} of {self.entry!r}: {error}; export the package again"
            raise EngineError(message) from error
        return LoadedMethod(self, component, method)

    def _foreign(self, name: str) -> str:
        return (
            f"{name!r} of {self.entry!r} does not take or give what the manifest describes: it is another model's; "
            "export the package again"
        )


class LoadedMethod:
    """A method that can run."""

    def __init__(self, program: LoadedProgram, component: str, method: runtime.ExecuTorchMethod) -> None:
        self._program = program  # the runtime reads from its bytes, which only this keeps
        self._component = component
        self.method = method
        """The runtime's own."""
        self._given: Callable[[], Inputs | None] = _nothing

    def run(self, inputs: Inputs) -> list[Array]:
        """Copies of the outputs; EngineError when the runtime fails."""
        try:
            with self._program.lock:
                # A step has 63 inputs, and giving them to the runtime again takes 1.5 % of its time.
                if self._given() is not inputs:
                    self._given = _nothing
                    self.method.set_inputs(inputs.tensors)
                    self._given = weakref.ref(inputs)
                self.method.execute()
                # The runtime's own copies take memory anew each time, which costs a step 2 % of its time.
                return [output.numpy().copy() for output in self.method.get_outputs(clone_outputs=False)]
        except RuntimeError as error:
            where = self._component.replace("_", " ")
            raise EngineError(f"executorch failed in the {where}: {error}") from error


def _nothing() -> None:
    """As a weak reference to nothing."""


def _fits(tensor: Any, kind: int, sizes: tuple[int | None, ...]) -> bool:
    """Whether an input or output has this type and these sizes; ones before them make no difference."""
    found = tensor.sizes()
    before = len(found) - len(sizes)
    same = tensor.dtype() == kind and before >= 0 and all(one == 1 for one in found[:before])
    return same and all(size in (None, one) for size, one in zip(sizes, found[before:], strict=True))


def _check_header(entry: str, data: bytes) -> None:
    """EngineError unless `data` is a whole program: what the runtime finds missing later may end the process."""
    if len(data) < HEADER.size or data[4:8] != IDENTIFIER or data[8:12] != EXTENDED:
        raise EngineError(
            f"{entry!r} is no ExecuTorch program with the identifier {IDENTIFIER.decode()}; export it again"
        )
    size, segments, segment_bytes = HEADER.unpack_from(data)[4:]
    end = max(size, segments + segment_bytes)
    if end > len(data) or (segments and segments < size):
        raise EngineError(f"{entry!r} is cut: its header speaks of {end} bytes, found {len(data)}; export it again")


def _check_apart(entry: str, data: bytes) -> None:
    """EngineError when a program ends the process that runs it, tried in another one the first time it is seen.

    What lies inside a delegate only XNNPACK can read. The runtime tells about a weight that is not there through
    Python, with the name it was asked for, and ends the process when that name is no text. An instruction with the
    wrong arguments ends it only when it is reached.
    """
    key = hashlib.sha256(f"{LIBRARIES['executorch'][0].installed} {TRIAL} ".encode() + hashlib.sha256(data).digest())
    if ended := verdict(key.hexdigest(), lambda: fault_of(run_apart(TRIAL, data))):
        raise EngineError(
            f"{entry!r} ends the process that runs it ({ended}): it is damaged, or no exporter of this project "
            "made it; export the package again"
        )


def run_all(data: bytes) -> None:
    """Load a program and run its methods on zeros to see whether that ends the process; errors are told elsewhere."""
    kinds: dict[int, type[np.float32 | np.int64]] = {FLOAT: np.float32, LONG: np.int64}
    with suppress(RuntimeError), _silent():
        program = runtime._load_program_from_buffer(data, program_verification=CHECK)
        for name in METHODS:
            with suppress(RuntimeError, KeyError, ValueError, MemoryError):
                method, meta = program.load_method(name), program.method_meta(name)
                wanted = [meta.input_tensor_meta(place) for place in range(meta.num_inputs())]
                # The runtime keeps no hold of them.
                zeros = tuple(Input(*one.sizes(), kind=kinds[one.dtype()]).tensor for one in wanted)
                method.set_inputs(zeros)
                method.execute()


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a method reads in one run, or in several where their memory is written in between."""

    tensors: tuple[torch.Tensor, ...]
    """In the method's order."""


class Input:
    """Memory of an input that a method reads, with room behind it."""

    def __init__(self, *sizes: int, kind: type[np.float32 | np.int64] = np.float32) -> None:
        count = math.prod(sizes)
        self.values: Array = np.zeros(count + SLACK, kind)[:count].reshape(sizes)
        """What is read; to be written before a run."""
        self.tensor = torch.from_numpy(self.values)
        """The same memory as the runtime takes it."""


def padded_tensor(array: Array) -> torch.Tensor:
    """A float32 copy with room behind it."""
    padded = Input(*array.shape)
    padded.values[:] = array
    return padded.tensor
