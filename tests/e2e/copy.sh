#!/bin/bash
# A base copy of a store that is written to meanwhile, with part of its journal archived: it looks back as far as the original, follows by the
# tail alone, and can be promoted where the original is gone.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"

# refused CODE TEXT NODE WORD…: fails, and says TEXT.
refused() {
    local want=$1 text=$2 code=0
    shift 2
    on "$@" >refused.out 2>refused.log || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want: $*"
    grep -q -- "$text" refused.log || die "does not say $text: $*"
}

equal() {
    for ((tries = 0; tries < 400; tries++)); do
        [ "$(on "$1" digest)" != "$(on "$2" digest)" ] || return 0
        sleep 0.05
    done
    die "$1 and $2 are not equal"
}

now() { on "$1" journal status | cut -f 2; }

# sound NODE: nothing is wrong, and the past is as it was.
sound() {
    on "$1" check || die "$1: check"
    on "$1" journal verify || die "$1: journal verify"
    on "$1" list INBOX --at "$archived" | diff - archived.list || die "$1: not what was there before the window"
    on "$1" list INBOX --at "$held" | diff - held.list || die "$1: not what was there"
    refused 3 trimmed "$1" list INBOX --at 2
}

# A writer that leaves a line for each message that was reported done.
write() {
    for ((n = 0; n < 5000; n++)); do
        [ ! -e stop ] || break
        printf 'Subject: %d\r\n\r\n%d\r\n' "$n" "$n" >message
        on a append INBOX message >>appended
        [ $((n % 5)) -ne 0 ] || on a flags INBOX '1:*' "$((n % 2))Flag"
    done
}

on a init
on a create INBOX
for n in 1 2 3 4; do printf 'Subject: old %d\r\n\r\n' "$n" | on a append INBOX >/dev/null; done
on a journal trim --keep 2 >/dev/null
for n in 1 2 3 4; do on a flags INBOX "1:$n" +"k$n"; done
archived=$(now a)
on a list INBOX >archived.list
on a expunge INBOX 2 >/dev/null
on a journal archive --keep 1 >/dev/null
[ "$(on a journal status | cut -f 1)" -gt "$archived" ] || die "nothing left the window"
held=$(now a)
on a list INBOX >held.list
: >a.log
start a --listen 127.0.0.1:0
address=$(sed -n 's/^listening //p' a.out)
: >appended
write &
writer=$!
for ((tries = 0; tries < 500; tries++)); do
    [ "$(wc -l <appended)" -lt 10 ] || break
    sleep 0.02
done
on a copy b >copied
on a copy c >/dev/null

echo "- it follows by the tail"
copied=$(cut -f 2 copied | cut -d : -f 1)
before=$(wc -l <appended)
for ((tries = 0; tries < 500; tries++)); do
    [ "$(wc -l <appended)" -lt $((before + 10)) ] || break
    sleep 0.02
done
[ "$(now a)" -gt "$copied" ] || die "nothing happened behind the copy"
[ "$(now b)" -eq "$copied" ] || die "the copy is not where it is said to be"
start b --follow "$address"
on a wait --replicas 1 --timeout 10 || die "the copy does not follow"
touch stop
wait "$writer"
equal a b
if grep -E 'event=(repair|inefficient-replication)' ./*.log; then die "it was not the tail"; fi
sound a
sound b

echo "- it is the master where the original is gone"
kill -9 "${agent[a]}"
refused 4 replica c append INBOX message
on c promote
on c append INBOX message >/dev/null
on c flags INBOX '*' +after
sound c
on c journal archive --keep 1 >/dev/null
sound c
