"""The model families that can be exported. Nothing here imports one before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from alm.errors import ExportError

if TYPE_CHECKING:
    from alm_export.pipeline import Exporter

FAMILIES = {
    "mellow": "alm_export.mellow:MellowExporter",
    "clap": "alm_export.clap:ClapExporter",
    "pam": "alm_export.pam:PamExporter",
    "clapcap": "alm_export.clapcap:ClapCapExporter",
    "adiff": "alm_export.adiff:AdiffExporter",
}
"""Name in the command to the module and class that export it."""


def find_exporter(name: str) -> type[Exporter]:
    """The exporter of that family; ExportError lists the known ones."""
    if name not in FAMILIES:
        raise ExportError(f"unknown model family {name!r}; this version has {', '.join(FAMILIES)}")
    module, _, kind = FAMILIES[name].partition(":")
    found: type[Exporter] = getattr(import_module(module), kind)
    return found
