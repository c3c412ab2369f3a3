#!/usr/bin/env bash
# Installs the libraries that `tconv rank --peers` compares with, by package name, below .peers/ (or $TCONV_PEERS). Nothing outside
# of it is touched, and what is installed works offline.
#
#   scripts/setup-peers.sh              every peer of bench-harness/peers/peers.toml
#   scripts/setup-peers.sh NAME…        these
#
# Needs python3 with venv (pip), g++ for oneDNN, cargo for the Rust ones. A peer that cannot be had is told with its reason, and the
# others go on; `tconv list peers` shows the same. Exit status 1: one of them cannot be had.
set -uo pipefail
cd "$(dirname "$0")/.."
readonly peers="${TCONV_PEERS:-$PWD/.peers}" adapters="$PWD/bench-harness/peers"
mkdir -p "$peers/env" || exit 1

# ---- what each of them needs -----------------------------------------------------------------------------------------

# Peers of one environment share its packages. The first word of `onednn` and `in_python` is the environment.
install() { # NAME
    case $1 in
        onednn-3.2) onednn onednn-3.2 onednn-cpu-gomp==2023.2.0 onednn-devel-cpu-gomp==2023.2.0 ;;
        onednn-3.13) onednn onednn-3.13 onednn==2026.1.0 onednn-devel==2026.1.0 ;;
        pytorch) in_python torch torch numpy ;;
        onnxruntime) in_python shared numpy onnx onnxruntime ;;
        openvino) in_python shared numpy openvino ;;
        ncnn) in_python shared numpy ncnn ;;
        mnn) in_python shared numpy onnx MNN ;;
        litert) in_python shared numpy ai-edge-litert ;;
        jax) in_python shared numpy jax ;;
        tensorflow) in_python tensorflow tensorflow-cpu ;;
        rten | tract | candle | burn-flex) in_rust "$1" ;;
        *) echo "nobody knows how to install $1" >&2; return 1 ;;
    esac
}

# ---- how -------------------------------------------------------------------------------------------------------------

environment() { # ENVIRONMENT PACKAGE…
    local at=$peers/env/$1
    [[ -x $at/bin/python ]] || python3 -m venv "$at" || return
    "$at/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

# Writes how the peer is started. Words with = before the command are its environment.
starts() { # [VARIABLE=VALUE]… COMMAND…
    python3 - "$@" >"$own/start.json" <<'PYTHON'
import json, sys
words, env = sys.argv[1:], {}
while "=" in words[0]:
    name, _, value = words.pop(0).partition("=")
    env[name] = value
print(json.dumps({"command": words, "env": env}))
PYTHON
}

onednn() { # ENVIRONMENT PACKAGE…
    local at=$peers/env/$1 search=()
    environment "$@" || return
    # The release with a SYCL runtime looks for its processor driver and threads here.
    if [[ -e $at/lib/libintelocl.so ]]; then
        search=("OCL_ICD_FILENAMES=$at/lib/libintelocl.so" "LD_LIBRARY_PATH=$at/lib")
    fi
    g++ -std=c++17 -O2 "$adapters/onednn/peer.cpp" -o "$own/peer" -I"$at/include" -L"$at/lib" \
        -Wl,-rpath,"$at/lib" -Wl,--allow-shlib-undefined -ldnnl || return
    starts "${search[@]}" "$own/peer"
}

in_python() { # ENVIRONMENT PACKAGE…
    environment "$@" || return
    starts "$peers/env/$1/bin/python" "$adapters/python/serve.py" "${name//-/_}"
}

in_rust() { # NAME
    cargo build --release --locked --manifest-path "$adapters/rust/Cargo.toml" --target-dir "$peers/env/rust" -p "peer-$1" || return
    starts "$peers/env/rust/release/peer-$1"
}

# Starts the peer once and asks who it is: that is its version, and the proof that it works here.
introduce() {
    python3 - "$own" <<'PYTHON'
import json, os, pathlib, subprocess, sys
own = pathlib.Path(sys.argv[1])
start = json.loads((own / "start.json").read_text())
talk = '{"do":"hello","protocol":1,"threads":1}\n{"do":"bye"}\n'
asked = subprocess.run(start["command"], input=talk, env={**os.environ, "OMP_NUM_THREADS": "1", **start["env"]},
                       capture_output=True, text=True, timeout=300)
try:
    version = json.loads(asked.stdout.splitlines()[0])["version"]
except (IndexError, ValueError, KeyError):
    sys.exit(f"it does not start: {asked.stdout} {asked.stderr}")
(own / "peer.json").write_text(json.dumps({"version": version, **start}) + "\n")
PYTHON
}

# ---- one after another -----------------------------------------------------------------------------------------------

mapfile -t known < <(sed -n 's/^name = "\(.*\)"$/\1/p' "$adapters/peers.toml")
names=("$@")
(($#)) || names=("${known[@]}")
for name in "${names[@]}"; do
    if [[ " ${known[*]} " != *" $name "* ]]; then
        echo "there is no peer $name; there are: ${known[*]}" >&2
        exit 2
    fi
done

failures=0
for name in "${names[@]}"; do
    own=$peers/$name
    mkdir -p "$own"
    rm -f "$own"/{refused,peer.json}
    log=$own/setup.log
    if install "$name" >"$log" 2>&1 && introduce >>"$log" 2>&1; then
        version=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["version"])' "$own/peer.json")
        printf '%-14s %s\n' "$name" "$version"
    else
        failures=$((failures + 1))
        grep -v '^[[:space:]]*$' "$log" | tail -n 3 | tr '\n' ' ' | cut -c1-400 >"$own/refused"
        printf '%-14s cannot be had: %s(%s)\n' "$name" "$(<"$own/refused")" "${log/#$PWD\//}"
    fi
done
echo
echo "disk used:"
(cd "$peers" && du -sh env/* ./*/ 2>/dev/null | grep -v '\./env/')
((failures == 0))
