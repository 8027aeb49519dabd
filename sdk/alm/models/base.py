"""What every loaded package offers, whatever its family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from alm.closing import Closing
from alm.engines import Engine, load_engines
from alm.errors import PackageError
from alm.package import Manifest, Package
from alm.self_test import SelfTest


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded, as `alm.load` explains it."""

    threads: int | None
    """Most threads of the engine; None leaves it to the engine."""
    engine_options: Mapping[str, object] | None
    """What else its engines offer, by name."""
    cache_bytes: int
    """Most bytes of sound heard before."""
    waiting: int
    """Questions that may wait while another is answered."""


class Model(Closing):
    """A loaded package. Made by `alm.load`; a family adds what can be asked of it."""

    def __init__(self, package: Package, options: LoadOptions) -> None:
        """Take an open package, which is closed with the model. A family loads its components as `options` say."""
        self._package = package

    @property
    def package(self) -> Package:
        """The package this model was loaded from."""
        return self._package

    @property
    def info(self) -> Manifest:
        """The package's manifest: model, weights and licence, target, scheme, quality."""
        return self._package.manifest

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What this package can be asked to do, such as ("ask", "compare", "choose")."""
        return self.info.capabilities

    @property
    @abstractmethod
    def self_test(self) -> SelfTest:
        """How `alm verify` tests this model."""


def engines_of(manifest: Manifest, components: tuple[str, ...], options: LoadOptions) -> dict[str, Engine]:
    """The engine of each of `components`, one object per engine.

    PackageError when the package lacks one, or leaves token_embedding and decoder to different engines: an engine loads
    both with the decoder. That is told before any engine is imported, which may not be installed.
    """
    missing = [name for name in components if name not in manifest.components]
    if missing:
        raise PackageError(
            f"a {manifest.model.family} package needs the components {', '.join(components)}; "
            f"missing: {', '.join(missing)}. Export the package again"
        )
    wanted = {name: manifest.components[name].engine for name in components}
    if "decoder" in wanted and wanted["token_embedding"] != wanted["decoder"]:
        raise PackageError(
            f"the manifest gives the token_embedding to the engine {wanted['token_embedding']!r} and the decoder to "
            f"{wanted['decoder']!r}, which loads both; export the package again"
        )
    loaded = load_engines(wanted.values(), options.threads, options.engine_options)
    return {name: loaded[engine] for name, engine in wanted.items()}
