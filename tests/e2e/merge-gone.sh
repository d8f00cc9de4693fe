#!/bin/bash
# Two nodes that went apart through promote: what is gone at one end, purged, empty; keywords and other users' seen states.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

echo "- the last message expunged and a new one appended at each end"
begin 3
apart
A expunge INBOX 3
append A INBOX a1
B expunge INBOX 3
append B INBOX b1
merge
A list INBOX
[ "$(wc -l <"$out")" -eq 4 ] || die "not 4 messages"

echo "- the same, purged before the merge"
for purger in A B; do
    begin 3
    apart
    A expunge INBOX 3
    append A INBOX a1
    B expunge INBOX 3
    append B INBOX b1
    on "$purger" expunge INBOX 4 --immediate
    A flags INBOX 1 +'\Seen'
    B flags INBOX 2 +'\Seen'
    on "$purger" expire --older-than 0s
    merge
    if [ $purger = A ]; then
        both_have INBOX '1:m1:\Seen 2:m2:\Seen 6:b1:-'
    else
        both_have INBOX '1:m1:\Seen 2:m2:\Seen 6:a1:-'
    fi
done

echo "- a UID gone at one end and live at the other"
for end in A B; do
    other=$([ $end = A ] && echo B || echo A)
    begin 2
    apart
    append "$end" INBOX x
    on "$end" expunge INBOX 3
    append "$other" INBOX y
    merge
    both_have INBOX '1:m1:- 2:m2:- 5:y:-'
    begin 2
    apart
    append "$end" INBOX x
    append "$end" INBOX z
    on "$end" expunge INBOX 3 --immediate
    append "$other" INBOX y
    merge
    A list INBOX
    [ "$(wc -l <"$out")" -eq 4 ] || die "not 4 messages"
done

echo "- an empty mailbox at one end, at both"
begin 0
apart
append B INBOX b1
merge
both_have INBOX '1:b1:-'
begin 2
apart
A expunge INBOX '1:*'
B flags INBOX 1 +'\Seen'
merge
both_have INBOX ''
begin 0
apart
merge
both_have INBOX ''

echo "- more keywords than the other end knows"
begin 2
apart
B flags INBOX 1 +B{1..40}
A flags INBOX 1:2 +A{1..40}
merge
A list INBOX
[ "$(head -n 1 "$out" | cut -f 3 | tr , '\n' | wc -l)" -eq 80 ] || die "not 80 keywords"
[ "$(tail -n 1 "$out" | cut -f 3 | tr , '\n' | wc -l)" -eq 40 ] || die "not 40 keywords"

echo "- another user's seen state changed at both ends"
begin 6
A flags INBOX 1:4 +'\Seen' --as eve
catch_up
apart
A flags INBOX 1 -'\Seen' --as eve
A flags INBOX 5 +'\Seen' --as eve
B flags INBOX 2 -'\Seen' --as eve
B flags INBOX 6 +'\Seen' --as eve
append A INBOX a1
append B INBOX b1
A flags INBOX 7 +'\Seen' --as eve
B flags INBOX 7 +'\Seen' --as joe
merge
A list INBOX --as eve
same '3 4 5 6 a1' "$(awk -F '\t' '$4 == "yes" { print $7 }' "$out" | while read -r guid; do awk -F '\t' -v g="$guid" '$1 == g { print $2 }' "$names"; done |
    sed 's/^m//' | paste -s -d ' ')" "what eve has seen"
A list INBOX --as joe
[ "$(awk -F '\t' '$4 == "yes"' "$out" | wc -l)" -eq 1 ] || die "joe has seen one"
