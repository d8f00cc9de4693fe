#!/bin/bash
# Two nodes that went apart through promote, and what becomes of whole mailboxes: names, UIDVALIDITY, values, stores made independently.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

# mailboxes NODE: their names.
mailboxes() {
    on "$1" mailboxes
    cut -f 1 "$out" | sort | paste -s -d ' '
}

both_named() {
    same "$1" "$(mailboxes A)" "mailboxes of A"
    same "$1" "$(mailboxes B)" "mailboxes of B"
}

# with_box: INBOX, and Box with two messages, at both ends.
with_box() {
    begin 1
    A create Box
    append A Box x1
    append A Box x2
    catch_up
}

for end in A B; do
    other=$([ $end = A ] && echo B || echo A)
    echo "- renamed at $end, changed at $other"
    with_box
    apart
    on "$end" rename Box New
    append "$other" Box y
    on "$other" flags Box 1 +'\Seen'
    on "$end" flags New 2 +'\Flagged'
    merge
    both_named 'INBOX New'
    both_have New '1:x1:\Seen 2:x2:\Flagged 3:y:-'

    echo "- deleted at $end, changed at $other"
    with_box
    apart
    on "$end" delete Box
    append "$other" Box y
    merge
    both_named 'Box INBOX'
    both_have Box '1:x1:- 2:x2:- 3:y:-'

    echo "- deleted at $end, its name taken there, changed at $other"
    with_box
    apart
    A mailboxes
    id=$(awk -F '\t' '$1 == "Box" { print $2 }' "$out")
    on "$end" delete Box
    on "$end" create Box
    append "$end" Box z
    append "$other" Box y
    merge
    if [ $end = A ]; then
        both_named "Box Box~$id INBOX"
        both_have Box '1:z:-'
        both_have "Box~$id" '1:x1:- 2:x2:- 3:y:-'
    else
        both_named 'Box INBOX'
        both_have Box '1:x1:- 2:x2:- 3:y:- 4:z:-'
    fi

    echo "- deleted at $end, only renamed at $other"
    with_box
    apart
    on "$end" delete Box
    on "$other" rename Box New
    merge
    both_named 'INBOX'

    echo "- deleted at $end and nothing else"
    with_box
    apart
    on "$end" delete Box
    on "$other" flags INBOX 1 +'\Seen'
    merge
    both_named 'INBOX'

    echo "- created at $end"
    begin 1
    apart
    on "$end" create New
    append "$end" New n1
    merge
    both_named 'INBOX New'
    both_have New '1:n1:-'
done

echo "- renamed at both ends; deleted at both ends"
with_box
apart
A rename Box Amber
B rename Box Blue
merge
both_named 'Amber INBOX'
with_box
apart
A delete Box
B delete Box
merge
both_named 'INBOX'

echo "- created at both ends, with common and different messages"
begin 1
apart
A create New
B create New
append A New a1
append A New both --flags '\Seen'
append B New both --flags '\Flagged'
append B New b1
append B New b2
merge
both_named 'INBOX New'
has A New '*:a1:- *:both:\Flagged,\Seen *:b1:- *:b2:-'
has B New "$(mail A New)"

echo "- renamed at one end to a name that the other gave to a new mailbox, both ways"
for end in A B; do
    other=$([ $end = A ] && echo B || echo A)
    with_box
    apart
    on "$end" rename Box New
    on "$other" create New
    append "$other" New n1
    merge
    A mailboxes
    [ "$(wc -l <"$out")" -eq 3 ] || [ "$(wc -l <"$out")" -eq 2 ] || die "lost or doubled"
    A mailboxes
    [ "$(awk -F '\t' '{ n += $3 } END { print n }' "$out")" -eq 4 ] || die "not 4 messages in all"
done

echo "- two renamed to one name"
begin 1
A create X
A create Z
append A X x1
append A Z z1
catch_up
apart
A rename X Y
B rename Z Y
merge
both_named 'INBOX Y Z'

echo "- names swapped at one end"
begin 1
A create X
A create Z
append A X x1
append A Z z1
catch_up
apart
B rename X T
B rename Z X
B rename T Z
append A X x2
merge
A mailboxes
[ "$(awk -F '\t' '{ n += $3 } END { print n }' "$out")" -eq 4 ] || die "not 4 messages in all"

echo "- meta values of mailbox and store"
begin 1
A meta set INBOX /comment one
A meta set /motd hello
catch_up
apart
A meta set INBOX /a 1
B meta set INBOX /b 2
B meta set INBOX /comment two
B meta unset /motd
B meta set /from b --as eve
A meta set /from a
merge
A meta list INBOX
same '/a 1 /b 2 /comment two' "$(tr '\t\n' '  ' <"$out" | sed 's/ $//')" "values of INBOX"
B meta list
same '/from a' "$(tr '\t\n' '  ' <"$out" | sed 's/ $//')" "values of the store"
B meta list --as eve
same '/from b' "$(tr '\t\n' '  ' <"$out" | sed 's/ $//')" "eve's values"

echo "- demote --discard"
begin 2
apart
append A INBOX a1
append B INBOX b1
B flags INBOX 1 +'\Flagged'
B create Gone
A mailboxes
before=$(awk -F '\t' '$1 == "INBOX" { print $6 }' "$out")
B demote --discard
sync 0 A B
set_aside=$aside
sound A B
both_named 'INBOX'
both_have INBOX '1:m1:- 2:m2:- 3:a1:-'
A mailboxes
[ "$(awk -F '\t' '$1 == "INBOX" { print $6 }' "$out")" -gt "$before" ] || die "UIDVALIDITY is the same"
B log --file "$set_aside"
[ "$(cut -f 4,5 "$out" | awk '{ print $2 }' | sort | paste -s -d ' ')" = 'append create epoch flags' ] || die "not what was set aside"

echo "- the tail set aside is readable"
begin 2
apart
append A INBOX a1
append B INBOX b1
B expunge INBOX 1
merge
[ -s "$aside" ] || die "nothing set aside"
B log --file "$aside"
same 'epoch append expunge' "$(cut -f 5 "$out" | paste -s -d ' ')" "the tail set aside"

echo "- UIDVALIDITY raised at one end"
for end in A B; do
    begin 2
    B promote
    append A INBOX a1
    append B INBOX b1
    B demote --discard
    sync 0 A B
    if [ $end = A ]; then
        apart
        append B INBOX b2
    else
        sync 0 A B
        apart
        append A INBOX a2
        append B INBOX b2
    fi
    merge
done

echo "- a dry run changes nothing"
begin 2
apart
append A INBOX a1
append B INBOX b1
B demote
A digest
cp "$out" "$work/a"
B digest
cp "$out" "$work/b"
sync 1 A B --dry-run
grep -q 'add\|renumber' "$out" || die "says nothing"
A digest
cmp -s "$out" "$work/a" || die "A changed"
B digest
cmp -s "$out" "$work/b" || die "B changed"
sync 0 A B
sync 0 A B --dry-run

echo "- both ends filled independently from one Maildir"
rm -rf "$work/A" "$work/B" "$work/maildir"
mkdir -p "$work/maildir/cur" "$work/maildir/new" "$work/maildir/tmp"
: >"$names"
for n in 1 2 3 4 5; do
    printf 'Subject: %s\r\n\r\n%s\r\n' "$n" "$n" >"$work/maildir/cur/$n:2,S"
    printf '%s\t%s\n' "$(sha256sum <"$work/maildir/cur/$n:2,S" | cut -c 1-64)" "m$n" >>"$names"
done
: >"$work/past.before"
for node in A B; do
    on "$node" init
    on "$node" import INBOX "$work/maildir"
done
A flags INBOX 1 +'\Answered'
B flags INBOX 1:2 +'\Flagged'
append B INBOX b1
A expunge INBOX 5
B demote
fails_sync=0
"$bin/shiplog" sync "$work/A" "$work/B" >"$out" 2>"$err" || fails_sync=$?
[ "$fails_sync" -eq 4 ] || die "another store is not refused"
sync 0 A B --adopt
sound A B
has A INBOX '*:m1:\Answered,\Flagged,\Seen *:m2:\Flagged,\Seen *:m3:\Seen *:m4:\Seen *:m5:\Seen *:b1:-'
has B INBOX "$(mail A INBOX)"
