"""Model families by the name that a manifest gives them."""

from __future__ import annotations

from alm.models.base import Model
from alm.models.mellow import Mellow

FAMILIES: dict[str, type[Model]] = {"mellow": Mellow}

__all__ = ["FAMILIES", "Mellow", "Model"]
