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
grep -q 'must be a path' err
sync 2 '' ssh:host b

# A command's pipe; the agent at the master's end goes on beside it.
printf '#!/bin/sh\nshift\nexec "$@"\n' >ssh
chmod +x ssh
export SHIPLOG_SSH=$work/ssh
append a six
sync 0 tail "ssh:host:$work/a" b && equal
sync 5 '' "ssh:host:$work/none" b
one_line() {
    if [ "$(wc -l <err)" -eq 1 ] && grep -q "$1" err; then return; fi
    echo "not one line that says why: $(cat err)"
    exit 1
}
one_line none
printf '#!/bin/sh\necho a banner >&2\necho "ssh: no such host" >&2\necho >&2\nexit 255\n' >no-ssh
chmod +x no-ssh
SHIPLOG_SSH=$work/no-ssh sync 5 '' "ssh:host:$work/a" b
one_line '^shiplog: ssh:host:.*: ssh: no such host$'
SHIPLOG_SSH=$work/not-there sync 5 '' "ssh:host:$work/a" b
one_line 'not-there: No such file'
printf '#!/bin/sh\nshift\necho a banner >&2\nexec "$@"\n' >loud-ssh
chmod +x loud-ssh
SHIPLOG_SSH=$work/loud-ssh sync 0 none "ssh:host:$work/a" b
one_line '^a banner$'

# What a merge would do: told alike over a connection and between two paths, and nothing is done by it.
plan() {
    code=0
    timeout 60 shiplog sync --dry-run "$@" "$dst" 2>err | cut -f 1-7,9- || code=$?
    echo "exit $code"
}
dst=b
append a seven
same_plan() {
    "${A[@]}" digest >a.before
    "${A[@]}" slots | cut -f 1-2 >a.slots
    shiplog -s "$dst" digest >b.before
    plan a >local
    plan "$from" >remote
    diff local remote
    diff local <(plan "ssh:host:$work/a")
    diff a.before <("${A[@]}" digest)
    diff a.slots <("${A[@]}" slots | cut -f 1-2)
    diff b.before <(shiplog -s "$dst" digest)
}
same_plan
grep -q '^-	tail' remote
grep -q 'exit 1' remote
sync 0 tail "$from" b && equal
same_plan
grep -q '^-	none' remote
grep -q 'exit 0' remote
"${B[@]}" promote
append b eight
"${B[@]}" expunge INBOX 1 >/dev/null
append a nine
"${A[@]}" promote
"${B[@]}" demote
same_plan
grep -q 'renumber' remote
grep -q '^-	merge' remote
grep -q 'exit 1' remote
timeout 60 shiplog --json sync --dry-run "$from" b >json || true
shape='^{"mailbox":.*,"tier":.*,"reason":.*,"sent":.*,"renumbered":.*,"copied_back":.*,"expunged":.*,"wire_bytes":.*,"position":.*,"aside":.*,"action":.*,"uid":.*,"other":[0-9]*}$'
if grep -v "$shape" json; then echo "a line of another shape"; exit 1; fi
sync 0 merge "$from" b && equal

# What only the master had lost is told, too.
damage=$bin/tests/damage
"$damage" a INBOX 2 lose
"${A[@]}" check --repair >/dev/null || true
sync 0 merge "$from" b
[ "$(wc -l <out)" -ge 2 ] || { echo "no line for what was healed at the master: $(cat out)"; exit 1; }
"${A[@]}" check --repair >/dev/null || true # reference counts that are too high
equal

# A store with a history of its own.
dst=c
shiplog -s c init
shiplog -s c create INBOX >/dev/null
append c ten
shiplog -s c demote
sync 4 '' "$from" c
plan "$from" --adopt >remote
grep -q 'exit 1' remote
grep -q '^INBOX.*add' remote
plan a --adopt | diff - remote
sync 0 merge --adopt "$from" c
B=(shiplog -s "$work/c")
equal
[ "$("${A[@]}" list INBOX | wc -l)" -eq 9 ]
