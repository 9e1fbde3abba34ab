#!/usr/bin/env bash
# Fuzzes the admin listener with schemathesis, against the OpenAPI document that it serves: no answer
# may be a fault of ours, and all must be as they are described.
#
#   tests/peers/schemathesis.sh [OPTION...]     options go to `schemathesis run`
#
# BESTGUESS_BIN     the binary to test; without it the release build is made and tested
# SCHEMATHESIS      an installed schemathesis; without it the version below is installed by pip into a
#                   folder that is removed again
#
# The gate (.ci/run) does not call this: schemathesis is no Debian package, and the gate has to pass
# where nothing but Debian's packages can be had. What it holds is held there by test_contract.py, with
# a smaller generator of our own; this one is for whoever changes the API.
set -euo pipefail

VERSION=4.32.5
CASES_LEAST=100

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=$(mktemp -d)
pid=

fail() {
    echo "tests/peers/schemathesis: $*" >&2
    exit 1
}

clean() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT

if [ -z "${SCHEMATHESIS:-}" ]; then
    command -v python3 >/dev/null || fail "python3 is missing (Debian: python3)"
    python3 -m venv "$folder/venv" >"$folder/pip" 2>&1 ||
        { cat "$folder/pip" >&2; fail "python3 cannot make a virtual environment (Debian: python3-venv)"; }
    "$folder/venv/bin/pip" install --quiet "schemathesis==$VERSION" >"$folder/pip" 2>&1 ||
        { tail -5 "$folder/pip" >&2; fail "pip could not install schemathesis $VERSION: it needs a package index (PIP_INDEX_URL), or name an installed one: SCHEMATHESIS=/path/to/schemathesis"; }
    SCHEMATHESIS=$folder/venv/bin/schemathesis
fi
"$SCHEMATHESIS" --version >&2 || fail "not a schemathesis: $SCHEMATHESIS"

if [ -z "${BESTGUESS_BIN:-}" ]; then
    (cd "$root" && cargo build --locked --release >&2) || fail "the release build failed"
    BESTGUESS_BIN=${CARGO_TARGET_DIR:-$root/target}/release/bestguess
fi

# Servers that nobody asks: nothing is checked, and no request comes.
"$BESTGUESS_BIN" 127.0.0.1:0 127.0.0.1:9001 127.0.0.1:9002 --check off --admin 127.0.0.1:0 2>"$folder/log" &
pid=$!
for _ in $(seq 100); do
    admin=$(sed -n 's/.*admin at \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$folder/log")
    [ -z "$admin" ] || break
    kill -0 "$pid" 2>/dev/null || { cat "$folder/log" >&2; fail "bestguess has ended"; }
    sleep 0.1
done
[ -n "$admin" ] || { cat "$folder/log" >&2; fail "the log names no admin listener"; }

# Events have no end, so that nobody could wait for it. Methods that are not described are left to the
# tests: a TRACE with content is a 400 by RFC 9110, where schemathesis expects a 405.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
cd "$folder"
"$SCHEMATHESIS" run "http://$admin/openapi.json" --url "http://$admin" --exclude-path /events --checks "$checks" \
    --continue-on-failure "$@" 2>&1 | tee "$folder/said"

cases=$(sed -n 's/[^0-9]*\([0-9]*\) generated.*/\1/p' "$folder/said" | tail -1)
[ "${cases:-0}" -gt "$CASES_LEAST" ] || fail "only ${cases:-no} cases were made"
kill -0 "$pid" 2>/dev/null || { cat "$folder/log" >&2; fail "bestguess has not outlived it"; }
echo "$cases cases, none of them answered by a fault of ours"
