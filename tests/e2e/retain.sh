#!/bin/bash
# The window at a master with a limit to it: it is kept for a replica that does not answer for a while, which goes on by the tail; beyond the
# bound for slots it goes, the slot is called lost, and the replica that comes back is made equal by a merge, without a hand.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"
entries=10
bound=65536
filler=$(head -c 1000 /dev/zero | tr '\0' x)

die() {
    printf '%s\n' "$*" >&2
    on a journal status >&2 || true
    on a slots >&2 || true
    tail -n 20 ./*.log >&2
    exit 1
}

# until_true WHAT WORD…: within 25 seconds this command succeeds.
until_true() {
    local what=$1
    shift
    for ((tries = 0; tries < 250; tries++)); do
        ! "$@" || return 0
        sleep 0.1
    done
    die "$what"
}

first() { on a journal status | cut -f 1; }
held() { on a journal status | cut -f 3; }
bytes() { on a journal status | cut -f 4; }
slot() { on a slots | cut -f "$1"; }
equal() { [ "$(on a digest)" = "$(on b digest)" ]; }
begins_behind_slot() { [ "$(first)" -eq $((at + 1)) ]; }
well() { [ "$(slot 6)" = connected ] && [ "$(slot 2)" = "$(on a status | head -n 1 | cut -f 5)" ]; }

# write N: so many entries, each of more than a kilobyte.
write() {
    for ((n = 0; n < $1; n++)); do on a meta set INBOX /comment "$n $filler"; done
}

on a init
on a create INBOX
awk 'BEGIN { for (n = 0; n < 300; n++) printf "From x@y Thu Jan  1 00:00:00 2026\nSubject: %d\n\n%d\n\n", n, n }' >mbox
on a import INBOX mbox >/dev/null
on a copy b >/dev/null
for ((n = 0; n < 2 * entries; n++)); do on a meta set INBOX /comment "$n"; done
on a journal retain --entries "$entries" --slot-bound "$bound" >/dev/null
: >a.log
start a --listen 127.0.0.1:0
address=$(sed -n 's/^listening //p' a.out)
start b --follow "$address"
on a wait --replicas 1 --timeout 10 || die "the replica does not follow"
until_true "the ends are not equal" equal

echo "- held for a replica that does not answer"
kill -STOP "${agent[b]}"
at=$(slot 2 | cut -d : -f 1)
write 20
until_true "not all that the replica has was cut off, or more" begins_behind_slot
[ "$(held)" -gt "$entries" ] || die "the window is not kept"
[ "$(slot 6)" != lost ] || die "lost within the bound"
kill -CONT "${agent[b]}"
on a wait --replicas 1 --timeout 10 || die "the replica does not go on"
well || die "the slot does not show where the replica is"
equal || die "the ends are not equal"
if grep -E 'event=(repair|inefficient-replication|slot-lost)' ./*.log; then die "it was not the tail"; fi

echo "- beyond the bound"
kill -TERM "${agent[b]}"
wait "${agent[b]}" || die "the replica ends badly"
unset "agent[b]"
write $((bound / 1000))
until_true "nobody is told that a slot is lost" grep -q event=slot-lost a.log
[ "$(bytes)" -le "$bound" ] || die "the window has more than the bound"
[ "$(slot 6)" = lost ] || die "the slot is not called lost"

echo "- made equal when it is back"
start b --follow "$address"
until_true "the ends are not equal" equal
grep -q 'event=inefficient-replication.*reason="gap' b.log || die "a merge that nobody is told of"
printf 'Subject: after\r\n\r\n' | on a append INBOX >/dev/null
on a wait --replicas 1 --timeout 10 || die "it does not go on by the tail"
well || die "the slot is not well again"
diff <(on a digest) <(on b digest)
for end in a b; do
    on "$end" check
    on "$end" journal verify
done
[ "$(grep -c event=repair b.log)" -eq 1 ] || die "one merge was enough"
