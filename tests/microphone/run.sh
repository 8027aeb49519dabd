#!/usr/bin/env bash
# Run a command on a machine with a microphone that is not there. Debian 12, as root if packages are missing.
#
#     tests/microphone/run.sh COMMAND [ARGUMENT...]
#
# A PulseAudio of its own holds null sinks; what is played into one comes out of its monitor, in real time and
# bit for bit. An ALSA configuration gives each monitor a name, so that PortAudio lists it like a sound card's.
set -euo pipefail

packages=(pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins)
if ! dpkg-query --show "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

folder=$(mktemp -d)
export HOME=$folder XDG_RUNTIME_DIR=$folder ALSA_CONFIG_PATH=/usr/share/alsa/alsa.conf:$folder/asound.conf
unset PULSE_SERVER
for name in desk window; do
    echo "pcm.${name}_microphone { type pulse device \"$name.monitor\" }"
done >"$folder/asound.conf"

# No module that puts a sink in the place of one that is unloaded: a device must be able to vanish.
pulseaudio -n --daemonize=no --exit-idle-time=-1 --disable-shm=1 --log-target="file:$folder/log" \
    --load=module-native-protocol-unix &
trap 'kill $!; wait $! || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    pactl info >/dev/null 2>&1 && break
    sleep 0.1
done
pactl info >/dev/null || { cat "$folder/log" >&2; exit 1; }

"$@"
