"""Put `tests/` on the path, so that folders share fixtures such as `golden.synthetic`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
