#!/bin/bash
# A data file that is cut while it is mapped: the agent and a command that reads end with exit code 5 and one line, without a core dump and
# without hanging; afterwards the store is refused with a line, too.
set -euo pipefail
bin=$SHIPLOG_BIN
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
ulimit -c 0

make_store() {
    "$bin/shiplog" -s "$work/$1" init
    "$bin/shiplog" -s "$work/$1" create INBOX
    for _ in 1 2 3 4; do
        head -c 200000 /dev/urandom | base64 >"$work/message"
        "$bin/shiplog" -s "$work/$1" append INBOX "$work/message" >/dev/null
    done
}

# Waits for a process that must end by itself, up to 20 s.
ends_with_line() {
    local pid=$1 what=$2 file=$3 code=0
    for ((tries = 0; tries < 400; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    ! kill -0 "$pid" 2>/dev/null || { echo "$what: it hangs"; exit 1; }
    wait "$pid" || code=$?
    [ "$code" -eq 5 ] || { echo "$what: exit code $code instead of 5"; cat "$file"; exit 1; }
    grep -q "fault while reading the store\|damaged\|cut short" "$file" || { echo "$what: no line says why"; cat "$file"; exit 1; }
    [ ! -e core ] || { echo "$what: a core dump"; exit 1; }
}

# The agent looks at its store by itself; a commit's datagram makes it look at once. What it sees behind the cut is a fault.
make_store agent
"$bin/shiplogd" --store "$work/agent" --listen 127.0.0.1:0 >"$work/agent.out" 2>"$work/agent.err" &
agent=$!
pids+=("$agent")
for ((tries = 0; tries < 400; tries++)); do
    ! grep -q ^listening "$work/agent.out" || break
    sleep 0.05
done
port=$(sed 's/.*://' "$work/agent.out")
truncate -s 8192 "$work/agent/data.mdb"
"$bin/shiplog" -s "$work/follower" init --replica
"$bin/shiplogd" --store "$work/follower" --follow "127.0.0.1:$port" >/dev/null 2>&1 &
pids+=($!)
ends_with_line "$agent" shiplogd "$work/agent.err"

# A command that goes on reading: the journal is followed live.
make_store reader
"$bin/shiplog" -s "$work/reader" log --follow >"$work/log.out" 2>"$work/log.err" &
reader=$!
pids+=("$reader")
for ((tries = 0; tries < 400; tries++)); do
    [ "$(wc -l <"$work/log.out")" -lt 5 ] || break
    sleep 0.05
done
truncate -s 8192 "$work/reader/data.mdb"
ends_with_line "$reader" "shiplog log --follow" "$work/log.err"

code=0
"$bin/shiplog" -s "$work/reader" list INBOX >/dev/null 2>"$work/list.err" || code=$?
[ "$code" -eq 5 ] || { echo "list: exit code $code instead of 5"; exit 1; }
[ "$(wc -l <"$work/list.err")" -eq 1 ] || { echo "list: not one line"; exit 1; }
