"""Put `tests/` on the path, so that folders share `golden.synthetic` and `tiny_mellow`; tiny packages for all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from alm_export.pipeline import Exported

# Tests run beside other work on small machines, where a slow example says nothing about the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch and engines use one thread each while a module's tests run."""
    from tiny_mellow import single_thread

    with single_thread():
        yield


@pytest.fixture(scope="session")
def reference_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` exports: the weights that ship, for arm64 at int4."""
    folder = tmp_path_factory.mktemp("reference")
    program = "from alm_export.commands import main; main()"
    words = [sys.executable, "-c", program, "mellow", "--target", "arm64", "--int4"]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "mellow-arm64-int4.alm"


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights folder of `tiny_mellow`."""
    from tiny_mellow import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(scope="session")
def tiny_export(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports the tiny model by precision or scheme, once per session."""
    from tiny_mellow import export_tiny, single_thread

    folder, made = tmp_path_factory.mktemp("packages"), {}

    def exported(scheme: str = "fp32") -> Exported:
        if scheme not in made:
            with single_thread():
                made[scheme] = export_tiny(tiny_weights, folder / f"{scheme.replace('=', '-')}.alm", scheme)
        return made[scheme]

    return exported


@pytest.fixture(scope="session")
def tiny_package(tiny_export: Callable[[str], Exported]) -> Path:
    """The tiny model as a float32 package."""
    return tiny_export("fp32").path


@pytest.fixture(scope="session")
def tiny_clap_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights folder of `tiny_clap`."""
    from tiny_clap import write_tiny_clap

    return write_tiny_clap(tmp_path_factory.mktemp("tiny-clap") / "weights")


@pytest.fixture(scope="session")
def tiny_space(tiny_clap_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Exports tiny `clap` or `pam` by precision and options, once per session."""
    from tiny_clap import export_space
    from tiny_mellow import single_thread

    folder, made = tmp_path_factory.mktemp("spaces"), {}

    def exported(family: str = "clap", precision: str = "fp32", **options: object) -> Exported:
        key = (family, precision, *sorted((name, str(value)) for name, value in options.items()))
        if key not in made:
            with single_thread():
                path = folder / f"{len(made)}.alm"
                made[key] = export_space(family, tiny_clap_weights, path, precision, **options)
        return made[key]

    return exported


@pytest.fixture(scope="session")
def tiny_captioner_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Exports the captioners of `tiny_captioners` by family and precision (fp32 if left out), once per session."""
    from tiny_captioners import export_captioner
    from tiny_mellow import single_thread

    folder, made = tmp_path_factory.mktemp("captioners"), {}

    def exported(family: str, precision: str = "fp32") -> Exported:
        if (family, precision) not in made:
            with single_thread():
                made[family, precision] = export_captioner(family, folder, precision)
        return made[family, precision]

    return exported
