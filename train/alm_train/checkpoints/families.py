"""The model families whose weights can be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import nn

from alm.errors import CheckpointError
from alm_train.checkpoints.download import BERT_VOCABULARY, RemoteFile
from alm_train.models.adiff import Adiff, AdiffConfig
from alm_train.models.clap import Clap, ClapConfig
from alm_train.models.clap2022 import Clap2022, Clap2022Config
from alm_train.models.clapcap import ClapCap, ClapCapConfig
from alm_train.models.mellow import Mellow, MellowConfig


class Config(Protocol):
    """What is asked of a family's frozen config. Its defaults are the official checkpoint's shape."""

    @property
    def pad_id(self) -> int:
        """Token that fills a text's places."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data."""
        ...

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`, also after a trip through JSON."""
        ...


@dataclass(frozen=True)
class Family:
    """How the weights of one family are read."""

    name: str
    """Name in the metadata of weights, and of the folder of the bundled ones."""
    config: type[Config]
    """Shape of the model."""
    module: Callable[[Any], nn.Module]
    """The model of a config."""
    tokenizer: str | RemoteFile
    """Tokenizer of the official checkpoints: a file below `alm_train/tokenizers`, or one to download."""
    official: Mapping[str, str]
    """Official checkpoints by the name given to `--weights`, as `OFFICIAL` lists them, and what a card says of each."""
    licence: str
    """Licence of the official checkpoints."""
    attribution: str
    """Who made the official checkpoints."""
    special: tuple[str, ...] = ("!",)
    """Tokens that stand for themselves wherever they are in a text, the one that pads first. `!` is an ordinary token
    of the vocabulary that the authors registered as special."""
    mark: str = ""
    """Part of a key that tells its files from those of the family whose other version it is."""


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="mellow",
            config=MellowConfig,
            module=Mellow,
            tokenizer="smollm2.json",
            official={
                "v0": "The official checkpoint.",
                "v0_s": "The official checkpoint that was trained on more audio.",
            },
            licence="MIT",
            attribution="Mellow by Deshmukh, Dixit, Singh and Raj (arXiv 2503.08540), github.com/soham97/mellow",
        ),
        Family(
            name="clap",
            config=ClapConfig,
            module=Clap,
            tokenizer="gpt2.json",
            official={"2023": "The official checkpoint of 2023."},
            licence="not stated by the authors: read the model card of microsoft/msclap before passing them on",
            attribution="CLAP by Elizalde, Deshmukh and Wang (arXiv 2309.05767), github.com/microsoft/CLAP",
        ),
        Family(
            name="clap-2022",
            config=Clap2022Config,
            module=Clap2022,
            tokenizer=BERT_VOCABULARY,
            official={"2022": "The official checkpoint of 2022."},
            licence="not stated by the authors: read the model card of microsoft/msclap before passing them on",
            attribution="CLAP by Elizalde, Deshmukh, Al Ismail and Wang (arXiv 2206.04769), github.com/microsoft/CLAP; "
            "vocabulary of BERT by Google (Apache-2.0)",
            special=("[PAD]", "[CLS]", "[SEP]"),
            mark="conv_block",
        ),
        Family(
            name="clapcap",
            config=ClapCapConfig,
            module=ClapCap,
            tokenizer="gpt2.json",
            official={"clapcap": "The official checkpoint of 2023."},
            licence="not stated by the authors: read the model card of microsoft/msclap before passing them on",
            attribution="ClapCap by Elizalde, Deshmukh and Wang (arXiv 2309.05767), github.com/microsoft/CLAP",
        ),
        Family(
            name="adiff",
            config=AdiffConfig,
            module=Adiff,
            tokenizer="gpt2.json",
            official={
                "adiff_base": "The official checkpoint.",
                "adiff_base_wavcaps": "The official checkpoint that was also trained on WavCaps.",
            },
            licence="not stated by the authors: read record 14706090 on zenodo.org before passing them on",
            attribution="ADIFF by Deshmukh, Han, Singh and Raj (arXiv 2502.04476), github.com/soham97/ADIFF",
        ),
    )
}


def find_family(name: str) -> Family:
    """The family of that name; CheckpointError lists the known ones."""
    if name not in FAMILIES:
        raise CheckpointError(f"unknown model family {name!r}; this version has {', '.join(FAMILIES)}")
    return FAMILIES[name]
