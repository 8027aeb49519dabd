"""Model families by the name that a manifest gives them."""

from __future__ import annotations

from alm.models.adiff import Adiff
from alm.models.base import Model
from alm.models.clap import Clap
from alm.models.clapcap import ClapCap
from alm.models.mellow import Mellow
from alm.models.pam import Pam

__all__ = ["FAMILIES", "Adiff", "Clap", "ClapCap", "Mellow", "Model", "Pam"]

FAMILIES: dict[str, type[Model]] = {"mellow": Mellow, "clap": Clap, "pam": Pam, "clapcap": ClapCap, "adiff": Adiff}
