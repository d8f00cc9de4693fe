#!/bin/bash
# A merge of 20,000 messages that is killed at random moments, any number of times: it ends as one that was left alone.
# KILLS: how many.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"
kills=${KILLS:-6}
seed=${SEED:-$$}
RANDOM=$seed
echo "seed $seed"

# fill FILE FROM TO: an mbox of numbered messages.
fill() {
    awk -v from="$2" -v to="$3" 'BEGIN {
        for (n = from; n <= to; n++) printf "From x@y Thu Jan  1 00:00:00 2026\nSubject: %d\n\nThis is message %d.\n\n", n, n
    }' >"$1"
}

# What is there, whatever modseqs and times it got.
state() {
    on "$1" mailboxes
    cut -f 1-5,7 "$out"
    on "$1" list INBOX --expunged
    cut -f 1,3,4,6-8 "$out"
    on "$1" list Box
    cut -f 1,3,4,6-8 "$out"
}

# The bytes of both ends as they were before, in the same files: another file would be taken for a restored backup.
keep() {
    for node in A B; do cp "$work/$node/data.mdb" "$work/$node.kept"; done
}
back() {
    for node in A B; do
        cat "$work/$node.kept" >"$work/$node/data.mdb"
        rm -rf "$work/${node:?}/aside"
    done
}

# Whoever asks in the middle of a repair is told so.
say_repairing() {
    B digest
    grep -q repairing "$out" || return 0
    repairing=$((repairing + 1))
    fails 4 B promote
    fails 4 B list INBOX --at 3
    grep -q 'being repaired' "$err" || die "does not say why"
    fails 1 B check
    if grep -v 'waits for the other end' "$out"; then die "more is wrong than that it waits"; fi
}

repairing=0
A init
fill "$work/mbox" 1 12000
A import INBOX "$work/mbox"
A create Box
A copy-messages INBOX 1:100 Box
A copy "$work/B"
B promote
fill "$work/mbox" 12001 16000
A import INBOX "$work/mbox"
A flags INBOX 1:3000 +'\Seen' +Amber
A expunge INBOX 5000:5500 --immediate
A flags Box 1:10 +'\Seen'
fill "$work/mbox" 15001 20000
B import INBOX "$work/mbox"
B flags INBOX 2000:4000 +'\Flagged' +Blue
B expunge INBOX 6000:6500
B flags Box 5:15 +'\Flagged'
B demote
keep
start=${EPOCHREALTIME/./}
sync 0 A B
took=$((${EPOCHREALTIME/./} - start))
echo "the merge takes $((took / 1000)) ms: $renumbered renumbered, $copied_back copied back, $expunged expunged, $wire_bytes bytes"
[ "$copied_back" -ge 4000 ] || die "not that merge"
sound A B
state A >"$work/state"

# finish: another sync ends as the one that was left alone.
finish() {
    sync 0 A B
    sound A B
    state A >"$work/state.now"
    cmp -s "$work/state" "$work/state.now" || die "after kill $done it is another state: $(diff "$work/state" "$work/state.now" | head -n 20)"
}

start_sync() {
    "$bin/shiplog" sync "$work/A" "$work/B" >/dev/null 2>&1 &
    pid=$!
}
stop_sync() {
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    done=$((done + 1))
}

done=0
back
start_sync
while kill -0 $pid 2>/dev/null; do
    B digest
    if grep -q repairing "$out"; then break; fi
done
stop_sync
say_repairing
finish
while [ $done -lt "$kills" ]; do
    back
    for ((times = 1 + RANDOM % 3; times > 0; times--)); do
        start_sync
        sleep "$(awk -v r=$((RANDOM * 32768 + RANDOM)) -v t=$took 'BEGIN { printf "%.6f", t * r / 1073741824 / 1000000 }')"
        stop_sync
    done
    say_repairing
    finish
done
echo "$done kills, $repairing of them in the middle of the repair"
