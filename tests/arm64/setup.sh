#!/usr/bin/env bash
# An arm64 Python under emulation, for checking packages without an Arm machine. Debian 12 on x86-64, as root.
#
#     tests/arm64/setup.sh FOLDER WHEEL     # WHEEL is this project's own
#     QCPU=cortex-a76 FOLDER/python script.py
#
# The processor is named on purpose: with `-cpu max`, and with the QEMU 7.2 of Debian 12, int8 products come out wrong.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
wheel=$(realpath "$2")
root=$folder/root
site=$root/opt/site

if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi

# QEMU 10 from backports, unpacked beside the system and not installed into it.
if [ ! -x "$folder/usr/bin/qemu-aarch64" ]; then
    apt=$folder/apt
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,sources}
    : >"$apt/status"
    security=$(grep -ls bookworm-updates /etc/apt/sources.list.d/*.sources)
    sed 's/^Suites:.*/Suites: bookworm-backports/' "$security" | awk 'BEGIN{RS=""} NR==1' >"$apt/sources/backports.sources"
    options=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources" -o Dir::State="$apt/state"
        -o Dir::Cache="$apt/cache" -o Dir::State::status="$apt/status")
    apt-get "${options[@]}" update -qq
    (cd "$folder" && apt-get "${options[@]}" download -qq qemu-user)
    dpkg --fsys-tarfile "$folder"/qemu-user_*.deb | tar x -C "$folder" ./usr/bin/qemu-aarch64
    rm "$folder"/qemu-user_*.deb
fi

# An arm64 userland: packages are unpacked, nothing of them runs while it is made.
if [ ! -x "$root/usr/bin/python3.11" ]; then
    mmdebstrap --arch=arm64 --variant=extract --quiet \
        --include=python3-minimal,python3.11,python3-distutils,libpython3.11-stdlib,libstdc++6,libgomp1 bookworm "$root"
fi

# The device install for arm64, resolved by this machine's pip from the project's own requirements.
platforms=(--platform any)
for tag in manylinux_2_34 manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
done
rm -rf "$site"
"${PYTHON:-python3}" -m pip install --quiet --no-compile --target "$site" --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --abi abi3 --abi none "${platforms[@]}" \
    --constraint "$(dirname "$0")/../../constraints.txt" "$wheel"

cat >"$folder/python" <<END
#!/usr/bin/env bash
# Named after this script, the interpreter can start itself again: the system runs no arm64 program.
exec "$folder/usr/bin/qemu-aarch64" -cpu "\${QCPU:-cortex-a76}" -0 "$folder/python" -L "$root" \\
    -E LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu -E PYTHONHOME="$root/usr" \\
    -E PYTHONPATH="$site\${EXTRA_SITE:+:\$EXTRA_SITE}" \\
    -E PYTHONDONTWRITEBYTECODE=1 -E OPENBLAS_NUM_THREADS=1 "$root/usr/bin/python3.11" "\$@"
END
chmod +x "$folder/python"
