#!/usr/bin/env bash
# End-to-end tests of the real binary with real peers: clients (curl, Python's http.client and
# requests, node, ab, h2load, wrk, websockets, Chromium, Prometheus), servers (the built-in origin, nginx, Python's
# http.server, node, uvicorn, gunicorn, websockets), small misbehaving servers of our own, and what
# reads completions and the manual page (bash, zsh, fish, groff).
#
#   tests/peers/run.sh [WORD...]     only tests whose name contains one of the words, if any
#
# BESTGUESS_BIN            the binary to test; without it the release build is made and tested
# BESTGUESS_TESTS_QUICK    set: leave out the tests that move gigabytes
#
# What is missing of these is installed from Debian's packages (as root, or by sudo without a
# password). The last line is "N passed, N failed"; the exit code is 0 when none failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
guard=/usr/sbin/policy-rc.d
guarded=no

fail() {
    echo "tests/peers: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

remove_guard() {
    if [ "$guarded" = yes ]; then
        as_root rm -f "$guard"
        guarded=no
    fi
}
trap remove_guard EXIT

# A package must not start a service of its own on this machine: policy-rc.d forbids it meanwhile.
install_packages() {
    command -v apt-get >/dev/null || fail "missing: $*. There is no apt-get here to install them with."
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        fail "missing: $*. Install them (apt-get install $*), or run this as root."
    fi
    if [ ! -e "$guard" ]; then
        guarded=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
        as_root chmod 755 "$guard"
    fi
    as_root apt-get update -qq >&2 || echo "tests/peers: apt-get update failed; trying with the lists at hand" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
        fail "apt-get could not install: $*"
    remove_guard
}

# Debian's python3-* packages belong to Debian's own Python. Another one, found first on PATH, would
# not see them: so this one runs the suite, and the suite runs its Python programs with its own.
python=/usr/bin/python3

missing=()
need_tool() { # command, package
    command -v "$1" >/dev/null || missing+=("$2")
}
need_module() { # module, package
    [ -x "$python" ] && "$python" -c "import $1" 2>/dev/null || missing+=("$2")
}
need_tool "$python" python3
need_tool curl curl
need_tool nginx nginx-light
need_tool node nodejs
need_tool ab apache2-utils
need_tool h2load nghttp2-client
need_tool wrk wrk
need_tool chromium chromium
need_tool chromedriver chromium-driver
need_tool prometheus prometheus
need_tool promtool prometheus
need_tool zsh zsh
need_tool fish fish
need_tool groff groff-base
need_module requests python3-requests
need_module websockets python3-websockets
need_module uvicorn python3-uvicorn
need_module gunicorn python3-gunicorn
if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
fi
for tool in "$python" curl nginx node ab h2load wrk chromium chromedriver prometheus promtool; do
    command -v "$tool" >/dev/null || fail "$tool is still missing after the installation"
done
for module in requests websockets uvicorn gunicorn; do
    "$python" -c "import $module" || fail "$python has no module $module after the installation"
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
    fail "$python is $("$python" --version 2>&1): 3.9 or later is needed"

if [ -z "${BESTGUESS_BIN:-}" ]; then
    command -v cargo >/dev/null || fail "cargo is missing: install Rust, or set BESTGUESS_BIN to a built binary"
    (cd "$root" && cargo build --release >&2) || fail "the release build failed"
    BESTGUESS_BIN=${CARGO_TARGET_DIR:-$root/target}/release/bestguess
fi
[ -x "$BESTGUESS_BIN" ] || fail "not an executable: $BESTGUESS_BIN"
BESTGUESS_BIN=$(cd "$(dirname "$BESTGUESS_BIN")" && pwd)/$(basename "$BESTGUESS_BIN")
export BESTGUESS_BIN

export PYTHONDONTWRITEBYTECODE=1
# Both limits of open files, as far as they go: one test wants ten thousand clients.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
"$python" "$here/run.py" "$@"
