#!/bin/bash
# A node whose changes are being taken in stops answering in the midst of that: the master's writers and its other replicas go on as if
# nothing had happened, so no lock is held while the network is waited for. When it answers again it becomes equal.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"

# fill FROM TO: an mbox of numbered messages.
fill() {
    awk -v from="$1" -v to="$2" 'BEGIN {
        for (n = from; n <= to; n++) printf "From x@y Thu Jan  1 00:00:00 2026\nSubject: %d\n\nThis is message %d.\n\n", n, n
    }'
}

# The master has begun to take in what a follower changed, and has not come to the end.
is_taking_in() {
    grep -q 'event=repair ' a.log && ! grep -q -E 'event=(inefficient-replication|follower-gone)' a.log
}

on a init
on a create INBOX
fill 1 500 >mbox
on a import INBOX mbox >/dev/null
on a copy b
on a copy c
on b promote
fill 1000 9000 >mbox
on b import Theirs mbox >/dev/null
on b import INBOX mbox >/dev/null

: >a.log
start a --listen 127.0.0.1:0
address=$(sed -n 's/^listening //p' a.out)
start c --follow "$address"
on a wait --replicas 1 --timeout 10
on b demote --follow "$address"
start b --follow "$address"
for ((tries = 0; tries < 2000; tries++)); do
    ! is_taking_in || break
    sleep 0.002
done
kill -STOP "${agent[b]}"
is_taking_in || die "the repair was not caught under way"

for ((n = 0; n < 20; n++)); do
    printf 'Subject: meanwhile %d\r\n\r\n' "$n" >message
    on a append INBOX message >/dev/null || die "a writer waits for a follower that does not answer"
    on a wait --replicas 1 --timeout 5 || die "a follower waits for another that does not answer"
done
same=$(on c list INBOX | tail -n 20)
[ "$(on a list INBOX | tail -n 20)" = "$same" ] || die "the other replica has other mail"
is_taking_in || die "the repair did not last"

kill -CONT "${agent[b]}"
for ((tries = 0; tries < 1200; tries++)); do
    [ "$(on a digest)" != "$(on b digest)" ] || break
    sleep 0.05
done
diff <(on a digest) <(on b digest) || die "the ends are not equal"
[ "$(on a mailboxes | awk '$1 == "Theirs" { print $3 }')" = 8001 ] || die "not all was taken in"
