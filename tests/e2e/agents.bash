# shellcheck shell=bash
# For scripts about stores with agents that run: sourced, not run. Stores lie in a scratch directory, which the script works in, and are called by
# their names there; so are their agents. Whatever still runs at the end is killed.
set -euo pipefail
bin=$SHIPLOG_BIN
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
declare -A agent=()
finish() {
    touch "$work/stop"
    for name in "${!agent[@]}"; do kill -9 "${agent[$name]}" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
unset SHIPLOG_STORE

die() {
    printf '%s\n' "$*" >&2
    tail -n 20 ./*.log >&2
    exit 1
}

# on NAME WORD…: a command on that store.
on() { timeout 20 "$bin/shiplog" -s "$@"; }

# begin NAME OPTION…: an agent, until it has printed a whole line. Not 0: it has ended.
begin() {
    local name=$1
    shift
    : >"$name.out"
    "$bin/shiplogd" --store "$name" "$@" >"$name.out" 2>>"$name.log" &
    agent[$name]=$!
    for ((tries = 0; tries < 500; tries++)); do
        [ "$(wc -l <"$name.out")" -eq 0 ] || return 0
        kill -0 "${agent[$name]}" 2>/dev/null || return 1
        sleep 0.02
    done
    die "$name: the agent says nothing"
}

# start NAME OPTION…: the same, and it must go on.
start() { begin "$@" || die "$1: the agent does not start"; }
