#!/usr/bin/env bash
# llama-cpp-python for arm64, compiled on x86-64 for one architecture. Debian 12, as root.
#
#     tests/arm64/llama_cpp.sh FOLDER ARCHITECTURE     # FOLDER is the one that setup.sh made
#     EXTRA_SITE=FOLDER/root/opt/llama-ARCHITECTURE FOLDER/python script.py
#
# armv8-a runs on every 64-bit Arm, armv8.2-a+dotprod does not on a Cortex-A72. The first architecture compiles for some
# 11 minutes on an idle core, the next ones only their products; what was compiled stays in FOLDER.
set -euo pipefail
folder=$(cd "$1" && pwd -P)
architecture=$2
python=${PYTHON:-python3}
constraints=$(dirname "$0")/../../constraints.txt
version=$(sed -n 's/^llama_cpp_python==//p' "$constraints")
site=$folder/root/opt/llama-$architecture
mkdir -p "$folder/llama.cpp"
work=$(cd "$folder/llama.cpp" && pwd -P)
source=$work/llama_cpp_python-$version
wheels=$work/$version-$architecture

if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu >/dev/null
fi
if [ ! -d "$source" ]; then
    "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" "llama-cpp-python==$version"
    tar xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
fi
if [ ! -d "$wheels" ]; then
    CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DLLAVA_BUILD=OFF
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
        -DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=$architecture" CMAKE_BUILD_PARALLEL_LEVEL=1 \
        "$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels.part" \
        --config-settings=build-dir="$work/build" "$source"
    mv "$wheels.part" "$wheels"
fi

rm -rf "$site"
# The libraries in it are arm64's, but pip named the wheel after the machine that compiled them.
"$python" -m zipfile -e "$wheels"/*.whl "$site"
"$python" -m pip install --quiet --no-compile --target "$site" --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --abi none --platform any --platform manylinux_2_17_aarch64 --no-deps \
    --constraint "$constraints" diskcache jinja2 markupsafe typing_extensions
