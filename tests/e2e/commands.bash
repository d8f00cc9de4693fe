# shellcheck shell=bash
# For scripts about commands of one store: sourced, not run. They work in a scratch directory; what a command prints goes to $out and $err.
set -euo pipefail
bin=$SHIPLOG_BIN
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset SHIPLOG_STORE
export TZ=UTC
S=("$bin/shiplog" -s "$work/store")
out=$work/out err=$work/err
: >"$out" 2>"$err"

die() {
    printf '%s\n' "$*" >&2
    printf -- '--- stdout\n%s\n--- stderr\n%s\n' "$(cat "$out")" "$(cat "$err")" >&2
    exit 1
}
