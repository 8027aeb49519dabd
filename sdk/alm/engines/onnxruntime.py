"""onnxruntime: graphs from the package, weights mapped from the package file in place.

Importing this module imports onnxruntime, so only `load_engine` does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from alm.engines.external_data import relocate
from alm.engines.onnx_decoder import OnnxDecoder
from alm.engines.onnx_graph import OnnxEmbedding, OnnxGraph, ort
from alm.engines.onnx_signature import check_audio_encoder, check_decoder, check_embedding, check_mapper
from alm.errors import EngineError
from alm.package import Package, section

PROVIDERS = ["CPUExecutionProvider"]


@dataclass(frozen=True)
class Options:
    """What `alm.load(engine_options=...)` sets on this engine."""

    spinning: bool = True
    """The decoder's threads spin while they wait for each other: 1.27 times the tokens per second of sleeping ones on
    two idle cores, 1.07 times beside a process that takes 0.6 of a core."""


DEFAULTS = Options()


def engine(threads: int, options: Options = DEFAULTS) -> OnnxRuntime:
    """The engine with `threads` compute threads."""
    return OnnxRuntime(threads, options)


class OnnxRuntime:
    """Loads ONNX components on the CPU."""

    name = "onnxruntime"

    def __init__(self, threads: int, options: Options = DEFAULTS) -> None:
        self.threads = threads
        """Compute threads of each component."""
        self.options = options
        """As asked for."""

    def load_graph(self, package: Package, component: str) -> OnnxGraph:
        """Load one component; EngineError when onnxruntime refuses it."""
        session = self._session(package, component, self.threads)
        if component == "audio_encoder":
            check_audio_encoder(session, package.manifest.components[component].graph, package.manifest)
        if component == "mapper":
            check_mapper(session, package.manifest.components[component].graph, package.manifest)
        # Nothing else wants the memory where there is no decoder, and keeping it makes full-size PAM 1.3 times as fast.
        return OnnxGraph(session, gives_back="decoder" in package.manifest.components)

    def load_embedding(self, package: Package) -> OnnxEmbedding:
        """Load `token_embedding`."""
        # One thread looks up a row: threads of its own would spin between two tokens on the decoder's cores.
        session, shape = self._session(package, "token_embedding", 1), section(package.manifest.decoder, "decoder")
        check_embedding(session, package.manifest.components["token_embedding"].graph, shape)
        return OnnxEmbedding(OnnxGraph(session), shape.vocabulary)

    def load_decoder(self, package: Package) -> OnnxDecoder:
        """Load `token_embedding` and `decoder`."""
        session, shape = self._session(package, "decoder", self.threads), section(package.manifest.decoder, "decoder")
        check_decoder(session, package.manifest.components["decoder"].graph, shape)
        return OnnxDecoder(self.load_embedding(package), session, shape)

    def _session(self, package: Package, component: str, threads: int) -> ort.InferenceSession:
        entry = package.manifest.components[component]

        def locate(name: str) -> int:
            if name not in entry.weights:
                raise EngineError(f"it asks for weights in {name!r}, which is none of its entries")
            return package.offset(name)

        # onnxruntime refuses weights behind a symbolic link, so the file's real path is given.
        path = package.path.resolve()
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise EngineError(f"onnxruntime cannot open {str(path)!a}: the name is not text; rename it") from error
        try:
            graph = relocate(package.read(entry.graph), path.name, locate)
        except EngineError as error:
            raise EngineError(f"{entry.graph!r} cannot be used: {error}; export the package again") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A planned block of memory comes on top of the arena's own: 42 MB more for the full-size encoder.
        options.enable_mem_pattern = False
        # Buffers that wait to be used again stay allocated: 26 MB more for the full-size encoder, and no faster.
        options.enable_mem_reuse = False
        # An encoder's threads would spin on into the prefix behind it, which then takes 1.13 times as long.
        spinning = self.options.spinning and component == "decoder"
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        try:
            session = ort.InferenceSession(graph, options, providers=PROVIDERS)
        except Exception as error:  # onnxruntime raises plain RuntimeError subclasses of many names
            raise EngineError(f"onnxruntime {ort.__version__} cannot load {entry.graph!r}: {error}") from error
        # The weights were opened by name: they are those that were checked only if the name still means that file.
        if not package.in_place():
            raise EngineError(f"{package.path} was replaced or moved while it was being loaded; load it again")
        return session
