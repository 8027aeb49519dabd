"""`alm-export` from the command line: what it makes, what it says, and that a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_mellow import DECODER, RATE, TINY, noise, request, tiny_model, write_tiny

import alm
from alm.package import Package
from alm.verify import verify
from alm_export import mellow
from alm_export.commands import main
from alm_export.graphs import audio_encoder
from alm_export.pipeline import STAGES, export
from alm_export.targets import TARGETS
from alm_quantize.probes import bundled_probes

pytestmark = pytest.mark.usefixtures("one_thread")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit status, stdout and stderr with line breaks and frames taken out."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alm-export", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, " ".join(re.sub("[│╭╮╰╯─]", " ", captured.err).split())

    return run


@pytest.fixture
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about something else than quality."""
    monkeypatch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where packages go, with an older one in place."""
    made = tmp_path / "out"
    made.mkdir()
    (made / "p.alm").write_bytes(b"an older package")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


UNTOUCHED = {"p.alm": b"an older package"}


def test_targets_are_listed_with_what_they_rest_on(run: Run) -> None:
    status, out, _ = run("--targets")
    assert status == 0
    for target in TARGETS.values():
        assert f"{target.name}: {target.description}; engine {target.engine}" in out
        assert all(f"{m.machine}, {m.command}" in out and m.figures in out for m in target.measured)
    # Nothing is claimed of a processor that nothing was measured on.
    for name in ("arm64", "rpi4", "rpi5", "android"):
        claims = [m for m in TARGETS[name].measured if "emulated" not in m.machine and "x86" not in m.machine]
        assert [m.figures.partition(":")[0] for m in claims] == ["nothing was measured on such a device yet"]
    assert "--int4  audio_encoder int8, decoder int4-block128, head int4-block64" in out


def test_json_describes_the_package_that_was_written(run: Run, tiny_weights: Path, folder: Path) -> None:
    output = folder / "p.alm"
    status, out, _ = run(
        "mellow", "--target", "arm64", "--int8", "--budget", 1, "--weights", tiny_weights, "-o", output, "--json"
    )
    assert status == 0
    result = json.loads(out)
    assert result["path"] == str(output)
    assert result["bytes"] == output.stat().st_size
    engine = result["engines"]["onnxruntime"]
    assert engine["schemes"] == {"audio_encoder": "int8", "token_embedding": "int8-block32", "decoder": "int8"}
    assert set(engine["parity"]) == {"log_mel", "latent", "audio_tokens", "logits", "tokens"}
    assert result["weights"] == {"source": "path", "licence": "CC0-1.0"}
    assert list(contents(folder)) == ["p.alm"]
    verify(output).check()
    with Package.open(output) as package:
        manifest = package.manifest
        card = package.read("README.md").decode()
    assert (manifest.target, manifest.scheme, manifest.model.name) == ("arm64", "int8", "weights")
    assert manifest.quality == result["quality"]
    assert manifest.quality["clips"] == 24
    assert manifest.quality["questions"] == 72
    assert manifest.weights.attribution == "random numbers"
    file = tiny_weights / "model.safetensors"
    assert manifest.weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "licence of the weights: cc0-1.0" in card.lower()
    share = manifest.quality["whole"]["agreement"]["share"]
    assert f"next-token decisions equal to float32 | {share:.1%}" in card


def test_people_are_told_what_it_does_and_what_to_run_next(
    run: Run, few_probes: None, tiny_weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    status, out, _ = run("mellow", "--target", "x86_64", "--budget", 1, "--weights", tiny_weights)
    assert status == 0
    assert "any 64-bit x86 machine" in out
    assert re.search(r"decoder +int4-block128 \(then int4-block64, int4-block32", out)
    assert all(stage in out for stage in ("log_mel", "latent", "audio_tokens", "logits", "tokens"))
    assert "next-token decisions equal to float32" in out
    assert "CC0-1.0" in out
    assert "alm ask mellow-x86_64-int4.alm" in out
    assert "%" in out
    assert sorted(contents(folder)) == ["mellow-x86_64-int4.alm", "p.alm"]


def test_the_command_to_run_next_can_be_copied(run: Run, few_probes: None, tiny_weights: Path, tmp_path: Path) -> None:
    """Neither wrapped nor taken for the display's own markup."""
    output = tmp_path / f"{'long' * 30}[red]" / "p.alm"
    output.parent.mkdir()
    _, out, _ = run("mellow", "--fp32", "--weights", tiny_weights, "-o", output)
    assert f'Next: alm ask {output} RECORDING.wav "what is the sound?"' in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("melow",), "mellow"),
        (("mellow", "--int4", "--int8"), "choose one of --int4, --int8, --fp32 and --scheme"),
        (("mellow", "--fp32", "--scheme", "int8-block32"), "choose one of"),
        (("mellow", "--budget", "1.5"), "'--budget'"),
        (("mellow", "--calibrate", "/nowhere"), "does not exist"),
        (("mellow", "--engine", "gguf,onnxruntime", "--scheme", "int8"), "name one engine"),
        (("mellow", "--engine", "gguf", "--genai"), "add that to --engine"),
        (("clap", "--genai"), "clap has no option --genai"),
        (("mellow", "--int2",), "No such option"),
        (("mellow", "--engine", ""), "'--engine': it is empty"),
        (("mellow", "--scheme", ""), "'--scheme': it is empty"),
        (("mellow", "--weights", ""), "'--weights': it is empty"),
        (("pam", "--prompts", ""), "'--prompts': it is empty"),
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "rpi9"), "unknown target 'rpi9'; this version has arm64, rpi5, rpi4, android, x86_64"),
        (("--engine", "tflite"), "unknown engine 'tflite'; this version has onnxruntime, gguf, llama.cpp"),
        (("--scheme", "int5"), "unknown: int5. Parts and schemes on onnxruntime: audio_encoder, decoder, head: fp32"),
        (("--scheme", "decoder=int8"), "missing: audio_encoder, head"),
        (("--scheme", "decoder=int8,head=fp32,ears=fp32,audio_encoder=fp32"), "unknown: ears"),
        (("--scheme", "int8"), "the head is also the token embedding, whose rows int8 cannot look up"),
        (
            ("--weights", "v9"),
            "--weights v9: no such file or folder, and no name of mellow weights (reference, v0, v0_s",
        ),
        (("--weights", "v[red]9"), "--weights v[red]9: no such file"),
        (("--output", "."), "is a folder, expected a file to write; choose another --output"),
        (("--output", "/nowhere/p.alm"), "the folder /nowhere does not exist; create it or choose another --output"),
    ],
)
def test_wrong_names_are_status_1_and_list_the_right_ones(
    run: Run, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.chdir(folder)
    status, out, err = run("mellow", *arguments)
    assert status == 1
    assert message in err
    assert "Traceback" not in out + err
    assert contents(folder) == UNTOUCHED


def test_official_weights_that_may_not_be_downloaded(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALM_CACHE", str(tmp_path / "cache"))
    status, _, err = run("mellow", "--weights", "v0", "--offline", "-o", folder / "p.alm")
    assert status == 1
    assert "v0.ckpt" in err
    assert contents(folder) == UNTOUCHED


def test_past_the_budget_an_export_is_refused(run: Run, few_probes: None, tiny_weights: Path, folder: Path) -> None:
    status, _, err = run("mellow", "--int4", "--budget", 0, "--weights", tiny_weights, "-o", folder / "p.alm")
    assert status == 1
    assert "more than the budget of 0.0% allows" in err
    tried = re.findall(r"audio_encoder (\S+), decoder (\S+), head (\S+): ([\d.]+)%", err)
    assert tried[0][:3] == ("int8", "int4-block128", "int4-block64")
    assert tried[-1][:3] == ("fp32", "int4-block32", "int8-block32")
    assert len(tried) == 7
    assert all(float(row[3]) > 0 for row in tried)
    assert contents(folder) == UNTOUCHED


def test_the_gate_stops_at_the_first_assignment_inside_the_budget(
    few_probes: None, tiny_weights: Path, folder: Path
) -> None:
    everything = export(request(tiny_weights, folder / "all.alm", "int4", budget=1))
    [trial] = everything.made["onnxruntime"].trials
    assert trial.schemes["decoder"] == "int4-block128"
    budget = trial.loss - 1e-6
    exported = export(request(tiny_weights, folder / "some.alm", "int4", budget))
    trials = exported.made["onnxruntime"].trials
    assert len(trials) > 1
    assert trials[-1].loss <= budget < trials[-2].loss
    components = exported.manifest.components
    last = trials[-1].schemes
    assert (components["decoder"].scheme, components["token_embedding"].scheme) == (last["decoder"], last["head"])
    assert [row["schemes"] for row in exported.manifest.quality["tried"]] == [t.schemes for t in trials]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_any_stage_leaves_nothing(few_probes: None, tiny_weights: Path, folder: Path, stage: str) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        # Of the last stage only the start: once it is reported done the package has its name.
        if name == stage and done == (0 if name == "verify" else total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(request(tiny_weights, folder / "p.alm"), interrupt)
    assert contents(folder) == UNTOUCHED


def test_a_real_signal_leaves_nothing_and_is_status_130(tiny_weights: Path, folder: Path) -> None:
    program = "import sys; from alm_export.commands import main; sys.exit(main())"
    arguments = ["mellow", "--weights", str(tiny_weights), "--fp32", "-o", str(folder / "p.alm")]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not any(path.is_dir() and any(path.iterdir()) for path in folder.iterdir()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert contents(folder) == UNTOUCHED


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full after `size` bytes of any file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [20_000, 300_000])
def test_a_full_disk_leaves_nothing(run: Run, few_probes: None, tiny_weights: Path, folder: Path, size: int) -> None:
    """20 kB end inside a weights file, 300 kB inside the package."""
    with files_of_at_most(size):
        status, _, err = run("mellow", "--fp32", "--weights", tiny_weights, "-o", folder / "p.alm")
    assert status == 1
    assert "File too large" in err
    assert str(folder) in err
    assert "defect" not in err
    assert contents(folder) == UNTOUCHED


def test_an_output_that_is_a_folder(run: Run, few_probes: None, tiny_weights: Path, folder: Path) -> None:
    (folder / "taken.alm").mkdir()
    status, _, err = run("mellow", "--fp32", "--weights", tiny_weights, "-o", folder / "taken.alm")
    assert status == 1
    assert "choose another --output" in err
    assert sorted(contents(folder)) == ["p.alm", "taken.alm"]


def test_a_graph_that_computes_something_else_is_refused(
    few_probes: None, tiny_weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_encoder, "_cubic", lambda distance: np.maximum(0.0, 1 - distance))
    with pytest.raises(alm.ParityError, match="stage latent is the first that differs"):
        export(request(tiny_weights, folder / "p.alm"))
    assert contents(folder) == UNTOUCHED


def test_a_decoder_without_room_for_an_answer(few_probes: None, tmp_path: Path, folder: Path) -> None:
    short = replace(TINY, decoder=replace(DECODER, max_positions=TINY.prefix_tokens))
    weights = write_tiny(tmp_path / "short", tiny_model(short))
    with pytest.raises(alm.ExportError, match=f"the prefix takes {TINY.prefix_tokens}: no room for an answer"):
        export(request(weights, folder / "p.alm"))
    assert contents(folder) == UNTOUCHED


def test_recordings_of_the_user_count_too(few_probes: None, tiny_weights: Path, folder: Path, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    (recordings / "deep").mkdir(parents=True)
    (recordings / "list.csv").write_text("file,label\n")
    wanted = request(tiny_weights, folder / "p.alm")
    with pytest.raises(alm.AudioError, match="holds no readable recording"):
        export(replace(wanted, recordings=recordings))
    assert contents(folder) == UNTOUCHED
    soundfile.write(recordings / "deep" / "tone.wav", noise(RATE)[0], RATE)
    exported = export(replace(wanted, recordings=recordings))
    assert exported.manifest.quality["clips"] == 2
    assert exported.manifest.quality["questions"] == 5


def test_the_manifest_gives_the_decoder_s_room(tiny_package: Path) -> None:
    with Package.open(tiny_package) as package:
        manifest = package.manifest
    assert manifest.generation.max_positions == DECODER.max_positions
    assert manifest.generation.max_tokens == DECODER.max_positions - manifest.prompt.prefix_tokens
    assert os.fspath(tiny_package).endswith("fp32.alm")
