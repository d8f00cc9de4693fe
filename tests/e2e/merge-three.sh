#!/bin/bash
# Three nodes; former masters that come back; stores restored from a backup; windows that no longer reach a replica.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

# begin_three N: A, and its copies B and C. B is promoted and followed by C, A goes on by itself.
begin_three() {
    begin "$1"
    A copy "$work/C"
    apart
}

echo "- C followed B, which is merged into A; then C follows A"
begin_three 4
append B INBOX b1
append B INBOX b2
B flags INBOX 1 +'\Flagged'
B expunge INBOX 2
sync 0 B C
[ "$tier" = tail ] || die "not the tail: $tier"
append A INBOX a1
A expunge INBOX 3
A flags INBOX 1 +'\Seen'
merge
meet A C
has C INBOX "$(mail A INBOX)"
A list INBOX
[ "$(wc -l <"$out")" -eq 5 ] || die "not 5 messages"

echo "- what A's user expunged meanwhile does not come back from C, nor does a flag that was cleared"
begin_three 2
append B INBOX b1 --flags '\Flagged'
append B INBOX b2 --flags '\Flagged'
sync 0 B C
merge
A expunge INBOX 3 --immediate
A flags INBOX 4 -'\Flagged'
meet A C
has C INBOX '1:m1:- 2:m2:- 4:b2:-'

echo "- C changed a message that the merge of A and B gave another UID, and one that is as it was"
begin_three 2
append A INBOX a1
append B INBOX b1
append B INBOX b2
sync 0 B C
merge
C promote
C flags INBOX 3 +'\Flagged'
C flags INBOX 3 +'\Seen' --as anna
C flags INBOX 1 +'\Seen'
C expunge INBOX 4
append C INBOX c1
C demote
: >"$work/past.before"
meet A C
has C INBOX "$(mail A INBOX)"
mail A INBOX | sed -E 's/(^| )[0-9]+:/\n/g' | sort | paste -s -d ' ' >"$work/found"
same ' a1:- b1:\Flagged c1:- m1:\Seen m2:-' "$(cat "$work/found")" "A after C"
moved=$(mail A INBOX | tr ' ' '\n' | awk -F : '$2 == "b1" { print $1 }')
A list INBOX --as anna
same "$moved" "$(awk -F '\t' '$4 == "yes" { print $1 }' "$out" | paste -s -d ' ')" "seen by another user"
sync 0 A B
sound A B

echo "- a former master that comes back is fenced, and says so"
begin 2
apart
append A INBOX a1
append B INBOX b1
sync 4 A B
grep -q 'fenced' "$err" || die "does not say fenced"
fails 4 A flags INBOX 1 +'\Seen'
A status
awk -F "\t" "{ exit \$7 == \"no\" || \$7 == \"-\" }" "$out" || die "status does not say fenced"
A demote
meet B A
has A INBOX "$(mail B INBOX)"
B list INBOX
[ "$(wc -l <"$out")" -eq 4 ] || die "not 4 messages"

echo "- or it is promoted again"
begin 2
apart
append A INBOX a1
append B INBOX b1
sync 4 A B
A promote
append A INBOX a2
merge
A list INBOX
[ "$(wc -l <"$out")" -eq 5 ] || die "not 5 messages"

# put_back: A's bytes are what they were at the backup, in the same file, which cannot be noticed.
put_back() {
    cat "$work/backup/data.mdb" >"$work/A/data.mdb"
}

# texts NODE: what lives in INBOX there, by text.
texts() {
    mail "$1" INBOX | sed -E 's/(^| )[0-9]+:/\n/g' | sort | paste -s -d ' '
}

echo "- restored from an old backup: a copy of the folder opens an epoch, and gets its lost mail back"
begin 2
rm -rf "$work/backup"
cp -a "$work/A" "$work/backup"
append A INBOX lost1
append A INBOX lost2
A flags INBOX 1 +'\Flagged'
catch_up
see B before
mv "$work/A" "$work/lost" # for as long as it is there, the copy's file has another inode
cp -a "$work/backup" "$work/A"
append A INBOX a1
rm -rf "$work/lost"
A status
awk -F '\t' '{ exit $4 ~ /^1:/ }' "$out" || die "no epoch was opened"
see A before
: >"$work/past.before"
seen=yes meet A B
same ' a1:- lost1:- lost2:- m1:\Flagged m2:-' "$(texts A)" "A after its restoration"

echo "- the bytes of an old backup in place: it stops writing until it is promoted"
begin 2
rm -rf "$work/backup"
cp -a "$work/A" "$work/backup"
append A INBOX lost1
append A INBOX lost2
catch_up
put_back
append A INBOX a1
sync 4 A B
grep -q 'lost commits' "$err" || die "does not say why: $(cat "$err")"
fails 4 A flags INBOX 1 +'\Seen'
A promote
append A INBOX a2
: >"$work/past.before"
see B before
see A before
seen=yes meet A B
same ' a1:- a2:- lost1:- lost2:- m1:- m2:-' "$(texts A)" "A after its restoration in place"

echo "- the bytes of a backup from before a merge, in place: the merge's mark tells nothing of what was made since under the same numbers"
begin 1
rm -rf "$work/backup"
cp -a "$work/A" "$work/backup"
append A INBOX lost1
catch_up
B promote
append B INBOX b1
B demote
sync 0 A B
put_back
append A INBOX a1
B promote
A promote
A expunge INBOX 2
A demote
sync 0 B A
sound B A
both_have INBOX "$(mail B INBOX)"
same ' b1:- lost1:- m1:-' "$(texts A)" "a1 had lost1's UID, and was expunged"

echo "- the same where the master was put back, and its replica had merged it"
begin 1
B promote
append A INBOX a1
rm -rf "$work/backup"
cp -a "$work/A" "$work/backup"
append A INBOX a2
append B INBOX b1
A demote
sync 0 B A
put_back
A flags INBOX 2 +'\Flagged'
B demote
sync 0 A B
sound A B
both_have INBOX "$(mail A INBOX)"
same ' a1:\Flagged a2:- b1:- m1:-' "$(texts A)" "what was done to A since"

for side in below above; do
    echo "- a window trimmed past a stopped replica, DELETEDMODSEQ $side its position"
    begin 5
    [ $side = above ] || A expunge INBOX 5 --immediate
    [ $side = above ] || catch_up
    stopped_at=$(last B)
    A flags INBOX 1 +'\Seen'
    A expunge INBOX 2
    append A INBOX a1
    A create New
    append A New n1
    [ $side = below ] || A expunge INBOX 3 --immediate
    A journal trim --keep 1
    : >"$work/past.before"
    meet A B
    case "$tier $reason" in
    'merge gap: '*"$stopped_at"*) ;;
    *) die "not a gap: $tier $reason" ;;
    esac
    has B INBOX "$(mail A INBOX)"
    has B New '1:n1:-'
    A mailboxes
    deleted=$(awk -F '\t' '$1 == "INBOX" { print $9 }' "$out")
    if [ $side = below ]; then
        [ "$deleted" -le "$stopped_at" ] || die "DELETEDMODSEQ of A"
    fi
    B mailboxes
    same "$deleted" "$(awk -F '\t' '$1 == "INBOX" { print $9 }' "$out")" "DELETEDMODSEQ of B"
done

echo "- each end expunges and expires as it likes: no false alarm"
begin 4
A expunge INBOX 1
catch_up
B expire --older-than 0s
A flags INBOX 2 +'\Seen'
catch_up
sound A B
A expire --older-than 0s
A expunge INBOX 3 --immediate
catch_up
sound A B
