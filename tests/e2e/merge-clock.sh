#!/bin/bash
# Two nodes that went apart, and one of them has a clock that is behind: what one end alone did counts, whatever the clocks say.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"
shiplog=$bin/tests/shifted

# From here on commands see a clock that is so many seconds ahead; - behind.
clock() {
    export SHIPLOG_TEST_CLOCK=$1
}

# begin_late N: as begin, and apart; long enough ago that a clock may be behind without running into it.
begin_late() {
    clock -1000
    begin "$1"
    apart
    clock 0
}

# changed_at NODE UID: time of the last change of flags.
changed_at() {
    on "$1" --json log INBOX --uid "$2" --kind flags
    sed -nE 's/.*"time":"([^"]*)".*/\1/p' "$out" | tail -n 1
}

# ascending NODE: times of its journal never go back.
ascending() {
    on "$1" --json log
    sed -nE 's/.*"time":"([^"]*)".*/\1/p' "$out" >"$work/times"
    [ "$(wc -l <"$work/times")" -gt 5 ] || die "no times"
    sort -c "$work/times" || die "times of $1 go back"
}

for trimmed in '' A B 'A B'; do
    echo "- one end alone sets a flag, or clears one, and its clock is behind; journals trimmed: ${trimmed:-none}"
    begin_late 4
    append A INBOX a1
    A flags INBOX 3 +'\Seen'
    A flags INBOX 4 +'\Seen'
    clock -50
    B flags INBOX 1 +'\Flagged'
    B flags INBOX 2 +Work
    [[ "$(changed_at B 1)" < "$(changed_at A 3)" ]] || die "B's clock is not behind"
    clock 0
    [ -z "$trimmed" ] || : >"$work/past.before"
    for node in $trimmed; do on "$node" journal trim --keep 1; done
    merge
    both_have INBOX '1:m1:\Flagged 2:m2:Work 3:m3:\Seen 4:m4:\Seen 5:a1:-'
    [ -n "$trimmed" ] || ascending A
    [ -n "$trimmed" ] || ascending B
done

echo "- the same when the master's clock is the one behind"
begin_late 3
B flags INBOX 1 +'\Flagged'
clock -50
A flags INBOX 2 +'\Flagged'
merge
both_have INBOX '1:m1:\Flagged 2:m2:\Flagged 3:m3:-'
ascending A
ascending B

echo "- both ends change one message: flag by flag, no clock decides"
begin_late 1
A flags INBOX 1 +'\Seen' +Amber
clock -50
B flags INBOX 1 +'\Flagged' +Blue
clock 0
merge
both_have INBOX '1:m1:Amber,Blue,\Flagged,\Seen'

echo "- how it was before is known to neither: the later change that is not older in time wins, else the master's"
for behind in A B; do
    begin_late 2
    clock "$([ $behind = A ] && echo -50 || echo 0)"
    A flags INBOX 1 +'\Seen'
    A flags INBOX 2 +'\Seen'
    clock "$([ $behind = B ] && echo -50 || echo 0)"
    append B INBOX b1
    B flags INBOX 1 +'\Flagged'
    append B INBOX b2
    clock 0
    : >"$work/past.before"
    for node in A B; do on "$node" journal trim --keep 1; done
    merge
    both_have INBOX "1:m1:$([ $behind = A ] && echo '\Flagged' || echo '\Seen') 2:m2:\Seen 3:b1:- 4:b2:-"
done

echo "- expunged by an end whose clock is behind, and a delivery there"
begin_late 2
A flags INBOX 1 +'\Seen'
append A INBOX a1
clock -50
B expunge INBOX 1
append B INBOX b1
append B INBOX b2
clock 0
merge
both_have INBOX '2:m2:- 4:b2:- 6:a1:- 7:b1:-'
