#!/bin/bash
# Histories that broke earlier versions of the merge rules (docs/MERGE.md), as far as they can be told by commands. Those that end in the
# middle of a merge are in merge-kill.sh, those of damage in merge-damage.sh, of names in merge-names.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

# texts NODE: what is there, by text, whatever the UIDs.
texts() {
    mail "$1" INBOX | sed -E 's/(^| )[0-9]+:/\n/g' | sed 1d | sort | paste -s -d ' '
}

# dead NODE UID…: tombstones are there for them.
dead() {
    local uid
    on "$1" list INBOX --expunged
    for uid in "${@:2}"; do
        awk -F '\t' -v uid="$uid" '$1 == uid && $8 == "yes" { found = 1 } END { exit !found }' "$out" || die "UID $uid is not dead at $1"
    done
}

begin_three() {
    begin "$1"
    A copy "$work/C"
    apart
}

echo "- the replica's append expunged and purged at the master after the merge; then one who followed the replica comes"
begin_three 1
append B INBOX g --flags '\Flagged'
sync 0 B C
merge
A flags INBOX 2 -'\Flagged'
meet A C
has C INBOX '1:m1:- 2:g:-'
begin_three 1
append B INBOX g
sync 0 B C
merge
A expunge INBOX 2
A expire --older-than 0s
meet A C
has C INBOX '1:m1:-'

echo "- a UID that died in a split brain is named to clients that had seen it"
begin 1
apart
append A INBOX g
append B INBOX h
merge
dead A 2
dead B 2
same 'g:- h:- m1:-' "$(texts A)" "A"

echo "- appended, expunged and purged at the replica: who asks is not told that nothing happened"
begin 1
apart
append B INBOX g
B expunge INBOX 2 --immediate
merge
both_have INBOX '1:m1:-'

echo "- a UID that both had was moved by a later split brain; the third node flags the old UID"
begin_three 1
append B INBOX g
sync 0 B C
append A INBOX h
merge
C promote
C flags INBOX 2 +'\Flagged'
C demote
: >"$work/past.before"
meet A C
same 'g:\Flagged h:- m1:-' "$(texts A)" "A"

echo "- it expunges the old UID"
begin_three 1
append B INBOX g
sync 0 B C
append A INBOX h
merge
C promote
C expunge INBOX 2
C demote
: >"$work/past.before"
meet A C
same 'h:- m1:-' "$(texts A)" "A"

echo "- one message at the master; the replica appends it, expunges it, appends it again"
begin 0
apart
append A INBOX g
append B INBOX g
B expunge INBOX 1
append B INBOX g
merge
same 'g:-' "$(texts A)" "A"

echo "- one delivery at both ends with a flag of the delivery, cleared by a user"
begin 1
apart
append A INBOX g --flags '\Seen'
append B INBOX other
append B INBOX g --flags '\Seen'
B flags INBOX 3 -'\Seen'
merge
same 'g:- m1:- other:-' "$(texts A)" "A"

echo "- made independently: the replica's UIDVALIDITY never shows the master's mail"
for first in A B; do
    rm -rf "$work"/[AB]
    : >"$names"
    : >"$work/past.before"
    for node in $first $([ $first = A ] && echo B || echo A); do
        on "$node" init
        on "$node" create INBOX
    done
    append A INBOX g
    append B INBOX h
    see A before
    see B before
    B demote
    sync 0 A B --adopt
    same 'g:- h:-' "$(texts A)" "A"
    sound A B
    for node in A B; do
        validity=$(awk -F '\t' '{ print $6 }' "$work/view.$node.before/mailboxes")
        A mailboxes
        [ "$(awk -F '\t' '{ print $6 }' "$out")" -gt "$validity" ] || die "UIDVALIDITY is not above that of $node"
    done
done

echo "- a live record at one end, a tombstone of another message under its UID at the other"
for end in A B; do
    other=$([ $end = A ] && echo B || echo A)
    begin 1
    apart
    append "$end" INBOX g
    append "$other" INBOX h
    on "$other" expunge INBOX 2
    merge
    dead A 2
    same 'g:- m1:-' "$(texts A)" "A"
done

echo "- promoted, changed, demoted and merged twice, with changes at the master in between"
begin 2
apart
append B INBOX b1
append A INBOX a1
merge
both=$(texts A)
same 'a1:- b1:- m1:- m2:-' "$both" "A"
append A INBOX a2
catch_up
fork_at=
: >"$work/past.before"
B promote
A flags INBOX 1 +'\Seen'
B flags INBOX 1 +'\Flagged'
append B INBOX b2
A expunge INBOX 2
append A INBOX a3
merge
same 'a1:- a2:- a3:- b1:- b2:- m1:\Flagged,\Seen' "$(texts A)" "A"

echo "- the other becomes the master, and back again"
append A INBOX a4
catch_up
A demote
B promote
append B INBOX b3
sync 0 B A
[ "$tier" = tail ] || die "not the tail: $tier"
A promote
append A INBOX a5
B append INBOX "$work/message"
B demote
meet A B
same 1 "$(texts A | grep -o 'a5' | wc -l)" "one delivery at both"

for trimmed in A B 'A B'; do
    echo "- journals trimmed past the fork at $trimmed"
    begin 4
    A flags INBOX 1:2 '\Seen' Old
    A flags INBOX 1:2 +'\Seen' --as anna
    catch_up
    apart
    : >"$work/past.before"
    A flags INBOX 1 -'\Seen' --as anna
    B flags INBOX 2 -'\Seen' --as anna
    A flags INBOX 3 +'\Seen' --as anna
    B flags INBOX 4 +'\Seen' --as anna
    A flags INBOX 1 -'\Seen'
    B flags INBOX 2 -Old
    A flags INBOX 3 +'\Flagged'
    B flags INBOX 4 +'\Flagged'
    append A INBOX a1
    append B INBOX b1
    B flags INBOX 5 +'\Seen' --as anna
    A flags INBOX 5 +'\Seen' --as anna
    for node in $trimmed; do on "$node" journal trim --keep 1; done
    merge
    same 'a1:- b1:- m1:Old m2:\Seen m3:\Flagged m4:\Flagged' "$(texts A)" "A"
    A list INBOX --as anna
    same '3 4 7 8' "$(awk -F '\t' '$4 == "yes" { print $1 }' "$out" | paste -s -d ' ')" "seen by another user"
done

echo "- behind the fork the replica tells the master's history, keywords too that were gone when it was made equal"
begin 2
apart
append B INBOX b1
A flags INBOX 1 +Once
A flags INBOX 1 -Once
append A INBOX a1 --flags Twice
A flags INBOX 3 Thrice
A expunge INBOX 3
behind=$(last A)
merge
for ((at = fork_at; at <= behind; at++)); do
    same "$(mail A INBOX --at "$at")" "$(mail B INBOX --at "$at")" "B at $at"
done

echo "- no common position is known: a master from an old copy went on under modseqs it had given out, both windows cut behind the fork"
begin 3
cp "$work/A/data.mdb" "$work/A.kept"
A flags INBOX 1 +'\Seen'
append A INBOX x1
append A INBOX x2
catch_up
cat "$work/A.kept" >"$work/A/data.mdb"
append A INBOX y1
for node in A B; do
    on "$node" slots
    cut -f 1 "$out" >"$work/slots"
    while read -r slot; do on "$node" slots drop "$slot"; done <"$work/slots"
    on "$node" journal trim --keep 1
done
sync 4 A B
A promote
: >"$work/past.before"
meet A B
[ "${reason#fork at an unknown position}" != "$reason" ] || die "not unknown: $reason"
same 'm1:\Seen m2:- m3:- x1:- x2:- y1:-' "$(texts A)" "A"
