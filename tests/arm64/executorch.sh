#!/usr/bin/env bash
# The runner of ExecuTorch programs for arm64, compiled on x86-64 against ExecuTorch's arm64 wheel. Debian 12, as root.
#
#     tests/arm64/executorch.sh FOLDER          # FOLDER is the one that setup.sh made
#     QCPU=cortex-a76 FOLDER/run_pte MODEL.pte AUDIO IDS SEPARATOR COUNT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$1" && pwd)
python=${PYTHON:-python3}
version=$(sed -n 's/^executorch==//p' "$here/../../constraints.txt")
wheel=$folder/executorch-$version
root=$folder/root

if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu >/dev/null
fi
if [ ! -d "$wheel" ]; then
    "$python" -m pip install --quiet --no-deps --no-compile --target "$wheel.part" --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_aarch64 "executorch==$version"
    mv "$wheel.part" "$wheel"
fi
library=$wheel/executorch
# The libraries of a kind register themselves when they are loaded, so they are linked although nothing calls them.
aarch64-linux-gnu-g++ -std=c++20 -O2 -DC10_USING_CUSTOM_GENERATED_MACROS -isystem "$library/include" \
    -isystem "$library/include/executorch/runtime/core/portable_type/c10" "$here/run_pte.cc" -o "$root/opt/run_pte" \
    -L"$library/lib" -Wl,--no-as-needed -lexecutorch -lexecutorch_kernels_optimized \
    -lexecutorch_backend_xnnpack -lexecutorch_threadpool -Wl,--allow-shlib-undefined
cat >"$folder/run_pte" <<END
#!/usr/bin/env bash
exec "$folder/usr/bin/qemu-aarch64" -cpu "\${QCPU:-cortex-a76}" -L "$root" \\
    -E LD_LIBRARY_PATH="$library/lib:/usr/lib/aarch64-linux-gnu" "$root/opt/run_pte" "\$@"
END
chmod +x "$folder/run_pte"
