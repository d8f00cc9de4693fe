#!/bin/bash
# sync from a master in another process, over TCP and over a command's pipe: the same tiers, lines and exit codes as between two paths.
set -euo pipefail
bin=$SHIPLOG_BIN
export PATH=$bin:$PATH
work=$(mktemp -d)
agent=
finish() {
    [ -z "$agent" ] || kill -9 "$agent" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
A=(shiplog -s "$work/a")
B=(shiplog -s "$work/b")
append() { printf 'Subject: %s\r\n\r\n%s\r\n' "$2" "$2" | shiplog -s "$1" append INBOX >/dev/null; }
# sync EXIT-CODE TIER WORD…
sync() {
    local code=0 want=$1 tier=$2
    shift 2
    timeout 60 shiplog sync "$@" >out 2>err || code=$?
    [ "$code" -eq "$want" ] || { echo "sync $*: exit $code, not $want: $(cat out err)"; exit 1; }
    [ -z "$tier" ] || [ "$(tail -n 1 out | cut -f 2)" = "$tier" ] || { echo "sync $*: not $tier: $(cat out)"; exit 1; }
}
equal() { diff <("${A[@]}" digest) <("${B[@]}" digest); }

"${A[@]}" init
"${B[@]}" init --replica
"${A[@]}" create INBOX
append a one
shiplogd --store a --listen 127.0.0.1:0 >a.out 2>a.log &
agent=$!
for ((tries = 0; tries < 600; tries++)); do
    grep -q '^listening .*:[0-9]*$' a.out && break
    sleep 0.05
done
from=tcp:$(sed -n 's/^listening //p' a.out)

sync 0 tail "$from" b && equal
sync 0 none "$from" b
append a two
append a three
"${A[@]}" journal trim --keep 1 >/dev/null
sync 0 merge "$from" b && equal
"${B[@]}" promote
append b four
append a five
sync 4 '' "$from" b # b is a master, and of a later epoch: a is fenced
"${A[@]}" promote
"${B[@]}" demote
sync 0 merge "$from" b && equal
[ "$("${A[@]}" list INBOX | wc -l)" -eq 5 ]
"${A[@]}" check && "${B[@]}" check && "${B[@]}" journal verify
id=$("${A[@]}" --json status | head -n 1 | sed 's/.*"store":"\([0-9a-f]*\)".*/\1/')
sync 0 none "$from/$id" b
sync 2 '' "$from/xyz" b
sync 2 '' tcp:nowhere b
sync 5 '' tcp:127.0.0.1:1 b
sync 4 '' a "$from"
sync 2 '' ssh:host b

# A command's pipe; the agent at the master's end goes on beside it.
printf '#!/bin/sh\nshift\nexec "$@"\n' >ssh
chmod +x ssh
export SHIPLOG_SSH=$work/ssh
append a six
sync 0 tail "ssh:host:$work/a" b && equal
sync 5 '' "ssh:host:$work/none" b
