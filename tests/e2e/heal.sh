#!/bin/bash
# Content that damage took at the master: it comes back from whoever has it, at the next contact and without a hand; where nobody has it, that is
# said, and nothing goes round in circles.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"
export TZ=UTC

head -c 700000 /dev/urandom | base64 >noise
# append NODE N: message N of INBOX, known by its number; the third is large.
append() {
    printf 'Subject: %d\r\n\r\n' "$2" >"message.$2"
    [ "$2" -ne 3 ] || cat noise >>"message.$2"
    on "$1" append INBOX "message.$2" >/dev/null || die "append to $1"
}

# two N: A with N messages, and B, its copy.
two() {
    rm -rf A B C ./*.log message.*
    on A init && on A create INBOX
    for ((n = 1; n <= $1; n++)); do append A "$n"; done
    on A copy B >/dev/null
}

garble() { "$bin/tests/damage" "$1" INBOX "$2" garble || die "damage $1 $2"; }

# mend NODE: check --repair finds what cannot be read, and gives it up.
mend() {
    local code=0
    on "$1" check --repair >"$1.check" 2>&1 || code=$?
    [ "$code" -eq 1 ] || die "check --repair on $1: exit code $code: $(cat "$1.check")"
}

reads() { on "$1" cat INBOX "$2" 2>/dev/null | cmp -s - "message.$2"; }

# until_reads NODE UID
until_reads() {
    for ((tries = 0; tries < 500; tries++)); do
        ! reads "$1" "$2" || return 0
        sleep 0.02
    done
    die "$1: message $2 does not come back"
}

# until_equal: both ends' digests, positions too, are equal.
until_equal() {
    for ((tries = 0; tries < 500; tries++)); do
        for node in A B; do on "$node" digest >"$node.digest" || true; done
        ! cmp -s A.digest B.digest || return 0
        sleep 0.02
    done
    die "A and B do not become equal"
}

sound() {
    local node
    for node in "$@"; do
        on "$node" check >"$node.check" 2>&1 || die "check of $node: $(cat "$node.check")"
        on "$node" journal verify >"$node.check" 2>&1 || die "journal verify of $node: $(cat "$node.check")"
    done
}

stop() {
    local name
    for name in "$@"; do
        kill -TERM "${agent[$name]}"
        wait "${agent[$name]}" || die "$name: it does not end well"
        unset "agent[$name]"
    done
}

address() { sed 's/^listening //' "$1.out"; }
# follow NAME: the agent of NAME, a follower of A's.
follow() { start "$1" --follow "$(address A)"; }

echo "- sync"
two 3
on A digest >before
garble A 2
garble A 3
mend A
on A check >/dev/null 2>&1 && die "nothing is wrong with what is lost"
reads A 2 && die "it is not lost"
"$bin/shiplog" sync A B >sync.out || die "sync"
reads A 2 || die "message 2 did not come back"
reads A 3 || die "message 3 did not come back"
on A digest | cmp - before || die "a change was made"
sound A B

echo "- sync, lost at both ends: said, and no obstacle"
two 3
for node in A B; do
    garble "$node" 2
    mend "$node"
done
append A 4
for ((n = 0; n < 2; n++)); do
    "$bin/shiplog" sync A B >sync.out || die "sync"
    for node in A B; do
        on "$node" check >"$node.check" 2>&1 && die "$node: nothing is wrong with what is lost"
        grep -q 'its content is not here' "$node.check" || die "$node: it is not said"
    done
done
[ "$(cut -f 2 sync.out)" = none ] || die "not idle: $(cat sync.out)"
reads B 4 || die "mail does not flow"

echo "- a third node has it"
two 2
on A copy C >/dev/null
for node in A B; do
    garble "$node" 2
    mend "$node"
done
"$bin/shiplog" sync A B >sync.out
"$bin/shiplog" sync A C >sync.out
"$bin/shiplog" sync A B >sync.out
for node in A B C; do reads "$node" 2 || die "$node has not got it back"; done
sound A B C

echo "- a replica made without it gets it when the master has it again"
two 2
garble A 2
mend A
on C init --replica
"$bin/shiplog" sync A C >sync.out
reads C 2 && die "it came from nowhere"
"$bin/shiplog" sync A B >sync.out
"$bin/shiplog" sync A C >sync.out
reads C 2 || die "it did not come"
sound A B C

echo "- agents: lost before the follower comes"
two 3
on A digest >before
garble A 2
garble A 3
mend A
start A --listen 127.0.0.1:0
follow B
until_reads A 2
until_reads A 3
on A digest | cmp - before || die "a change was made"
grep -q 'content-healed .* found=2 of=2' A.log || die "nothing was said"

echo "- and while it is there"
append A 4
until_equal
garble A 4
garble A 1
mend A
until_reads A 4
until_reads A 1
stop A B
sound A B

echo "- a record that is lost while a follower is there"
start A --listen 127.0.0.1:0
follow B
until_equal
"$bin/tests/damage" A INBOX 3 lose
mend A
until_reads A 3
until_equal
stop A B
sound A B

echo "- sync with an agent: it asks before it gives"
garble A 3
mend A
start A --listen 127.0.0.1:0
"$bin/shiplog" sync "tcp:$(address A)" B >sync.out || die "sync from an agent"
reads A 3 || die "message 3 did not come back"
stop A
sound A B

echo "- agents, lost at both ends: said once, and mail goes on"
two 3
for node in A B; do
    garble "$node" 2
    mend "$node"
done
start A --listen 127.0.0.1:0
follow B
append A 4
until_equal
reads B 4 || die "mail does not flow"
garble A 1
mend A
until_reads A 1
for ((n = 5; n < 25; n++)); do append A "$n"; done
until_equal
stop A B
[ "$(grep -c 'event=content-lacking ' A.log)" -eq 2 ] || die "not said at each contact, and then only"
[ "$(grep -c 'event=follower ' A.log)" -eq 2 ] || die "it comes again and again"
for node in A B; do
    on "$node" check >"$node.check" 2>&1 && die "$node: nothing is wrong with what is lost"
    [ "$(wc -l <"$node.check")" -eq 1 ] || die "$node: $(cat "$node.check")"
done
