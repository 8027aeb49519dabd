# `make demo` and `make test` set up everything they need in .venv; nothing else on the machine is changed.
#
#   make demo    export Mellow for arm64 at int4 and ask it about a bundled recording
#   make test    style, types and the whole test suite
#   make lint    style and types only
#   make test-arm64   the device install and the demo's package on emulated Arm processors (Debian 12 on x86-64, root)
#   make test-arm64-engines   llama.cpp and ExecuTorch on the same processors; cross-compiles for 20 minutes the first time
#   make test-engines   the engines that are extras: llama.cpp, which compiles for up to 20 minutes, and ExecuTorch
#   make test-full-size   CLAP, PAM, ClapCap and ADIFF in their official shapes: parity, sizes, times
#   make test-mic     the microphone through PortAudio, against a paced fake device (Debian 12, root)
#   make test-ssh     a measurement through a real sshd on loopback (Debian, root)
#   make test-ray     questions about clips on a Ray cluster of two nodes on this machine
#   make bench        full-size Mellow against other ways to run it, into the README; wants an idle machine
#   make bench-smoke  every measuring command once, on the small weights: two minutes
#   make bench-arm64  instructions of the demo's package on an emulated Arm processor, held against the committed count
#   make clean   remove .venv, caches and the demo's package
#
# PYTHON=/path/to/python3 names another interpreter, TORCH_INDEX=URL another place for PyTorch.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
PIP := $(BIN)/python -m pip
PACKAGE := mellow-arm64-int4.alm
ROOSTER := quantize/alm_quantize/clips/rooster.ogg

.PHONY: demo test test-engines test-arm64 test-arm64-engines arm64-python test-full-size test-mic test-ssh test-ray bench bench-smoke bench-arm64 lint clean

demo: .venv/.export
	$(BIN)/alm-export mellow --target arm64 --int4
	$(BIN)/alm inspect $(PACKAGE)
	$(BIN)/alm verify $(PACKAGE)
	$(BIN)/alm ask $(PACKAGE) $(ROOSTER) "what is happening?"

test: lint
	$(BIN)/pytest

# Without the extras these tests are skipped, so that `make test` needs no compiler.
test-engines: .venv/.dev .venv/.gguf .venv/.executorch
	$(BIN)/pytest tests/engines tests/export/test_llama_gguf.py tests/export/test_executorch_program.py

# Emulation shows that the answers are the same on Arm, and says nothing about time.
test-arm64: $(PACKAGE) arm64-python
	$(BIN)/python tests/arm64/check.py $(PACKAGE) .arm64/python

test-arm64-engines: .venv/.gguf .venv/.executorch arm64-python
	$(BIN)/alm-export mellow --target arm64 --int4 --engine gguf -o .arm64/gguf.alm
	PYTHON=$(BIN)/python tests/arm64/llama_cpp.sh .arm64 armv8-a
	EXTRA_SITE=$(CURDIR)/.arm64/root/opt/llama-armv8-a $(BIN)/python tests/arm64/check.py .arm64/gguf.alm .arm64/python
	PYTHON=$(BIN)/python tests/arm64/llama_cpp.sh .arm64 armv8.2-a+dotprod
	EXTRA_SITE=$(CURDIR)/.arm64/root/opt/llama-armv8.2-a+dotprod \
		$(BIN)/python tests/arm64/check_refused.py .arm64/gguf.alm .arm64/python
	$(BIN)/alm-export mellow --target arm64 --int4 --engine executorch -o .arm64/executorch.alm
	PYTHON=$(BIN)/python tests/arm64/executorch.sh .arm64
	$(BIN)/python tests/arm64/check_pte.py .arm64/executorch.alm .arm64/run_pte

arm64-python: .venv/.export
	rm -rf build .arm64/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir .arm64/wheel .
	PYTHON=$(BIN)/python tests/arm64/setup.sh .arm64 .arm64/wheel/*.whl

# Made weights in the layout of the official files, which cannot be part of a repository.
test-full-size: .venv/.dev
	$(BIN)/python tests/full_size/check.py

test-mic: .venv/.dev
	$(PIP) install --quiet -c constraints.txt -e ".[mic]"
	tests/microphone/run.sh timeout 300 $(BIN)/pytest tests/microphone/check.py

test-ssh: .venv/.dev
	test -x /usr/sbin/sshd || apt-get install -y -qq --no-install-recommends openssh-server openssh-client >/dev/null
	timeout 600 $(BIN)/pytest tests/ssh/check.py

test-ray: .venv/.dev .venv/.ray
	timeout 600 $(BIN)/pytest tests/benchmarks/test_quality_ray.py

# What rivals read is kept in .bench, so that a second run measures at once; ExecuTorch's export takes ten minutes.
bench: .venv/.dev .venv/.rivals
	$(BIN)/alm-bench rivals --threads 2 --folder .bench -o benchmarks/results/rivals.json
	$(BIN)/python -m alm_bench.reports.readme README.md benchmarks/results/rivals.json

# Whether the commands work, not how fast anything is: nothing in it looks at the time.
bench-smoke: .venv/.dev
	timeout 600 $(BIN)/pytest tests/smoke/check.py

# QEMU 7.2, which Debian 12 builds with plugins; the userland is that of test-arm64.
bench-arm64: $(PACKAGE) | .venv/.dev
	test -x .arm64/root/usr/bin/python3.11 || $(MAKE) test-arm64
	command -v qemu-aarch64 >/dev/null || apt-get install -y -qq --no-install-recommends qemu-user gcc libc6-dev >/dev/null
	$(BIN)/alm-bench run $(PACKAGE) --device qemu:cortex-a76 --rounds 2 -o .arm64/instructions.json
	$(BIN)/alm-bench compare benchmarks/results/instructions-cortex-a76.json .arm64/instructions.json --within 2

$(PACKAGE): | .venv/.export
	$(BIN)/alm-export mellow --target arm64 --int4

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .arm64 .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info $(PACKAGE)

# The plain index has PyTorch for Linux only with several GB of CUDA libraries, so constraints.txt asks for the
# CPU build by name. Where pip is set up to find that build (a mirror, a folder of wheels), the first line takes
# it from there; elsewhere it fails at once and the second line takes it from PyTorch's own index.
.venv/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.11 to 3.13; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(PIP) install --quiet -c constraints.txt torch 2>/dev/null \
	|| $(PIP) install -c constraints.txt --extra-index-url $(TORCH_INDEX) torch
	@touch $@

.venv/.export .venv/.dev .venv/.gguf .venv/.executorch .venv/.rivals .venv/.ray: .venv/.%: .venv/.torch pyproject.toml
	CMAKE_ARGS="-DLLAVA_BUILD=OFF" $(PIP) install --quiet -c constraints.txt -e ".[$*]"
	@touch $@
