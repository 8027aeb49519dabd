"""Keys and values of one llama.cpp sequence, to the bytes that llama.cpp takes and back.

llama.cpp's reader trusts the sizes that it finds in a state, so it never sees bytes from outside: a state is always
packed here from checked numbers. The layout is internal to llama.cpp; `unpack` therefore packs what it found again,
and another layout of a later version ends in an EngineError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llama_cpp as llama
import numpy as np

from alm.engines.base import Array
from alm.errors import EngineError
from alm.package.sections import DecoderShape

MAGIC = 0xAF143CD8
GGML_TYPES: dict[np.dtype[Any], int] = {np.dtype("<f2"): llama.GGML_TYPE_F16, np.dtype("<f4"): llama.GGML_TYPE_F32}


@dataclass(frozen=True)
class StateLayout:
    """How a context stores keys and values."""

    shape: DecoderShape
    """Layers and heads."""
    number: np.dtype[Any]
    """Type of one number: float16 or float32."""
    turned: bool
    """Whether each layer's values are stored by channel and not by position, as they are without flash attention."""

    @property
    def width(self) -> int:
        """Numbers in the key of one position and layer, and in its value."""
        return self.shape.kv_heads * self.shape.head_dim

    @property
    def position_bytes(self) -> int:
        """Bytes of the keys and values of one position, all layers together."""
        return 2 * self.shape.layers * self.width * self.number.itemsize

    @property
    def ggml_type(self) -> int:
        """ggml's number of the type of one number."""
        return GGML_TYPES[self.number]

    def pack(self, state: Array) -> bytes:
        """The bytes of a sequence with these keys and values (2, layers, positions, width)."""
        positions = state.shape[2]
        frame = np.zeros((), self._frame(positions))
        frame["magic"], frame["streams"], frame["positions"] = MAGIC, 1, positions
        frame["cells"]["position"], frame["cells"]["sequences"] = np.arange(positions), 1
        frame["turned"], frame["layers"] = self.turned, self.shape.layers
        keys, values = frame["keys"], frame["values"]
        keys["type"] = values["type"] = self.ggml_type
        keys["row_bytes"], keys["numbers"] = self.width * self.number.itemsize, state[0]
        if self.turned:
            values["number_bytes"], values["width"] = self.number.itemsize, self.width
            values["numbers"] = state[1].swapaxes(1, 2)
        else:
            values["row_bytes"], values["numbers"] = self.width * self.number.itemsize, state[1]
        return frame.tobytes()

    def unpack(self, data: bytes, positions: int) -> Array:
        """Keys and values (2, layers, positions, width) of a sequence that llama.cpp gave out."""
        kind = self._frame(positions)
        if len(data) == kind.itemsize:
            frame = np.frombuffer(data, kind)[0]
            values = frame["values"]["numbers"]
            state = np.stack([frame["keys"]["numbers"], values.swapaxes(1, 2) if self.turned else values])
            if self.pack(state) == data:
                return state
        raise EngineError(
            f"llama.cpp {llama.__version__} lays out keys and values in a way this version of alm-edge does not know; "
            "save the session with prefixes=False"
        )

    def _frame(self, positions: int) -> np.dtype[Any]:
        cell = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
        rows = [("type", "<i4"), ("row_bytes", "<u8"), ("numbers", self.number, (positions, self.width))]
        channels = [
            ("type", "<i4"),
            ("number_bytes", "<u4"),
            ("width", "<u4"),
            ("numbers", self.number, (self.width, positions)),
        ]
        layers = self.shape.layers
        return np.dtype(
            [
                ("magic", "<u4"),
                ("sequence", "<i4"),
                ("streams", "<u4"),
                ("positions", "<u4"),
                ("cells", cell, (positions,)),
                ("turned", "<u4"),
                ("layers", "<u4"),
                ("keys", rows, (layers,)),
                ("values", channels if self.turned else rows, (layers,)),
            ]
        )
