"""The onnxruntime engine: weights found in the package file wherever it lies, hostile graphs, limits, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_mellow import FRONTEND, QUESTION, RATE, entries_of, noise, write_altered

import alm
from alm.engines import load_engine
from alm.engines.external_data import relocate
from alm.errors import EngineError
from alm.package import Package, write_package
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
SOUND = (noise(FRONTEND.samples)[0], RATE)


def graph_with(tensors: list[TensorProto]) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}_out"], name="node") for tensor in tensors]
    outputs = [helper.make_tensor_value_info(f"{tensor.name}_out", 1, tensor.dims) for tensor in tensors]
    return helper.make_model(helper.make_graph(nodes, "graph", [], outputs, tensors), producer_name="someone")


def external(name: str, **entries: str) -> TensorProto:
    tensor = TensorProto(name=name, dims=[2, 3], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


inline = st.builds(
    lambda name, values: helper.make_tensor(name, 1, [len(values)], values),
    st.text(min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
)
outside = st.builds(
    lambda name, offset, length, more: external(
        name, location="a.bin", length=str(length), **({} if offset is None else {"offset": str(offset)}), **more
    ),
    st.text(min_size=1, max_size=5),
    st.none() | st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.dictionaries(st.sampled_from(["checksum", "prepacked"]), st.text(max_size=9)),
)


@given(tensors=st.lists(inline | outside, max_size=4), place=st.integers(0, 2**40), name=st.text(max_size=200))
def test_relocating_changes_location_and_offset_and_nothing_else(
    tensors: list[TensorProto], place: int, name: str
) -> None:
    model = graph_with(tensors)
    found = onnx.ModelProto.FromString(relocate(model.SerializeToString(), name, {"a.bin": place}.__getitem__))
    for before, after in zip(model.graph.initializer, found.graph.initializer, strict=True):
        if before.external_data:
            expected = entries(before)
            expected |= {"location": name, "offset": str(int(expected.get("offset", "0")) + place)}
            assert entries(after) == expected
        for tensor in (before, after):
            tensor.ClearField("external_data")
    assert found == model


@pytest.mark.parametrize(
    "place",
    [
        {"offset": "0"},
        *({"location": "a.bin", "offset": offset} for offset in ("-8", "x", "", "9" * 19, "9" * 5000)),
    ],
)
def test_external_data_without_a_place_is_an_error(place: dict[str, str]) -> None:
    with pytest.raises(EngineError, match="no location or no offset"):
        relocate(graph_with([external("w", **place)]).SerializeToString(), "p.alm", lambda name: 0)


def test_a_graph_cut_anywhere_is_refused_or_ends_between_fields() -> None:
    model = graph_with([external("w", location="a.bin", offset="64", length="24")]).SerializeToString()
    whole = onnx.ModelProto.FromString(model)
    for end in range(1, len(model)):
        try:
            relocate(model[:end], "p.alm", lambda name: 0)
        except EngineError:
            continue
        # What is left is a shorter model, as the onnx library reads it too.
        assert len(onnx.ModelProto.FromString(model[:end]).ListFields()) < len(whole.ListFields())


@given(data=st.binary(max_size=200))
def test_any_bytes_are_relocated_or_refused(data: bytes) -> None:
    with suppress(EngineError):
        relocate(data, "p.alm", lambda name: 0)


@given(data=st.data())
def test_damaged_graphs_are_relocated_or_refused(data: st.DataObject) -> None:
    model = bytearray(graph_with([external("w", location="a.bin", offset="64", length="24")]).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(model)))
    with suppress(EngineError):
        relocate(bytes(model[:cut]), "p.alm", lambda name: 0)


def test_a_graph_asks_for_weights_that_are_not_its_own(tmp_path: Path, tiny_package: Path) -> None:
    manifest, parts = entries_of(tiny_package)
    name = manifest.components["audio_encoder"].graph
    foreign = parts[name].replace(b"audio_encoder.safetensors", b"../../../etc/passwd000000")
    assert foreign != parts[name]
    with pytest.raises(EngineError, match=r"asks for weights in '.*/passwd000000', which is none of its"):
        alm.load(write_altered(tiny_package, tmp_path / "p.alm", {name: foreign}))


@pytest.mark.parametrize("garbage", [b"", b"not a graph", b"\x08\x0a"])
def test_graphs_that_are_none(tmp_path: Path, tiny_package: Path, garbage: bytes) -> None:
    with pytest.raises(EngineError):
        alm.load(write_altered(tiny_package, tmp_path / "p.alm", {"decoder.onnx": garbage}))


def test_weights_shorter_than_the_graph_says(tmp_path: Path, tiny_package: Path) -> None:
    """The graph's offsets then reach into the next entries, or past the end of the file."""
    _, parts = entries_of(tiny_package)
    short = {"decoder.safetensors": parts["token_embedding.safetensors"][:4096]}
    manifest, _ = entries_of(tiny_package)
    order = {name: data for name, data in parts.items() if name != "decoder.safetensors"}
    write_package(tmp_path / "p.alm", manifest, {**order, **short})
    with pytest.raises(EngineError, match=r"cannot load 'decoder\.onnx'"):
        alm.load(tmp_path / "p.alm")


def answer(path: Path) -> tuple[int, ...]:
    with alm.load(path, threads=1) as model:
        return model.listen(SOUND).ask(QUESTION, max_tokens=6).tokens


def test_a_package_loads_under_any_name_and_through_links(
    tmp_path: Path, tiny_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(tiny_package)
    folder = tmp_path / "Ordner mit Leerzeichen ü"
    folder.mkdir()
    renamed = folder / "another name 音.alm"
    shutil.copy(tiny_package, renamed)
    links = tmp_path / "links"
    links.mkdir()
    (links / "link.alm").symlink_to(renamed)
    (links / "twice.alm").symlink_to("link.alm")
    (links / "folder").symlink_to(folder, target_is_directory=True)
    for path in (renamed, links / "link.alm", links / "twice.alm", links / "folder" / renamed.name):
        assert answer(path) == expected
    monkeypatch.chdir(folder)
    assert answer(Path(renamed.name)) == expected


def test_a_package_replaced_while_it_is_loaded(tmp_path: Path, tiny_package: Path) -> None:
    """Its weights are opened by name after the hashes were checked, so another file must not slip in between."""
    engine = load_engine("onnxruntime", 1)
    for replace in (
        lambda path: shutil.copy(tiny_package, tmp_path / "other").replace(path),
        lambda path: path.rename(tmp_path / "moved"),
        lambda path: os.utime(path, ns=(0, 0)),
    ):
        path = Path(shutil.copy(tiny_package, tmp_path / "p.alm"))
        with Package.open(path) as package:
            engine.load_graph(package, "audio_encoder")
            replace(path)
            with pytest.raises(EngineError, match=r"was replaced or moved while it was being loaded|cannot load"):
                engine.load_graph(package, "audio_encoder")


def test_a_name_that_is_no_text(tmp_path: Path, tiny_package: Path) -> None:
    """Linux allows any bytes as a name; onnxruntime takes text only."""
    path = tmp_path / os.fsdecode(b"p\xff.alm")
    shutil.copy(tiny_package, path)
    with pytest.raises(EngineError, match="rename"):
        alm.load(path)


def test_threads_ask_at_once(tiny_export: Callable[[str], Exported]) -> None:
    """Ten sessions of one model, asked from four threads, answer as they do one after the other."""
    with alm.load(tiny_export("int4").path, threads=1) as model:
        sounds = [(noise(FRONTEND.samples, seed)[0], RATE) for seed in range(10)]

        def listen_and_ask(sound: tuple[np.ndarray, int]) -> tuple[int, ...]:
            return model.listen(sound).ask(QUESTION, max_tokens=8).tokens

        alone = [listen_and_ask(sound) for sound in sounds]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(listen_and_ask, sounds)) == alone
        assert len(set(alone)) > 1


@pytest.mark.parametrize("threads", [0, -3, 100_000])
def test_threads_are_as_many_as_a_machine_may_have(tiny_package: Path, threads: int) -> None:
    with pytest.raises(EngineError, match=f"threads is {threads}, expected 1 to 1024"):
        alm.load(tiny_package, threads=threads)


def test_graphs_refuse_what_does_not_fit(tiny_package: Path) -> None:
    with Package.open(tiny_package) as package:
        graph = load_engine("onnxruntime", 1).load_graph(package, "audio_encoder")
        sound = noise(FRONTEND.samples)
        assert list(graph.run(["latent"], waveform=sound)) == ["latent"]
        for outputs, inputs in (
            (["latents"], {"waveform": sound}),
            (["latent"], {"wave": sound}),
            (["latent"], {}),
            (["latent"], {"waveform": sound[:, :-1]}),
            (["latent"], {"waveform": sound.astype(np.float64)}),
        ):
            with pytest.raises(EngineError, match="onnxruntime failed"):
                graph.run(outputs, **inputs)


PROGRAM = """
import json, os, socket, sys

def refuse(*arguments, **options):
    raise OSError("this process must not use the network")

for name in ("__init__", "connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.create_connection = socket.getaddrinfo = refuse

import numpy as np
import alm
from alm.verify import verify

path, rate = sys.argv[1], int(sys.argv[2])
sounds = [(np.sin(np.arange(rate) * step).astype(np.float32), rate) for step in (0.1, 0.3)]
with alm.load(path, threads=1) as model:
    clip = model.listen(sounds[0])
    tokens = [
        clip.ask("what is the sound?", max_tokens=4).tokens,
        model.compare(*sounds, "what differs?", max_tokens=4).tokens,
        clip.choose("is it raining?", ["yes", "no"]).index,
    ]
verify(path, threads=1).check()
print(json.dumps([tokens, os.environ["ORT_DISABLE_TELEMETRY"]]))
files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
targets = [os.readlink(file) for file in files if os.path.islink(file)]
assert not [target for target in targets if target.startswith("socket:")], targets
"""


def offline_process() -> list[str]:
    """What to put before a command so that it runs in a network namespace without any network."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode == 0:
        return [unshare, "-rn"]
    return []


@pytest.mark.parametrize("confined", [False, True])
def test_nothing_opens_a_socket(tiny_package: Path, confined: bool) -> None:
    prefix = offline_process() if confined else []
    if confined and not prefix:
        pytest.skip("this system lets nobody make a network namespace")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM, str(tiny_package), str(RATE)],
        capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tokens, telemetry = json.loads(done.stdout)
    assert len(tokens) == 3
    assert telemetry == "1"


@pytest.mark.parametrize("spinning", [True, False])
def test_only_threads_of_the_decoder_spin_and_only_unless_told_otherwise(tiny_package: Path, spinning: bool) -> None:
    setting = "session.intra_op.allow_spinning"
    with alm.load(tiny_package, engine_options={"spinning": spinning}) as model:
        decoder = model.reader.decoder.session.get_session_options()
        assert decoder.get_session_config_entry(setting) == str(int(spinning))
        encoder = model._parts.encoder._session.get_session_options()
        assert encoder.get_session_config_entry(setting) == "0"


def test_encoder_and_decoder_compute_with_the_threads_asked_for_and_a_row_is_looked_up_by_one(
    tiny_package: Path,
) -> None:
    with alm.load(tiny_package, threads=3) as model:
        decoder = model.reader.decoder
        sessions = decoder.session, model._parts.encoder._session, decoder._embedding._graph._session
        assert [session.get_session_options().intra_op_num_threads for session in sessions] == [3, 3, 1]
