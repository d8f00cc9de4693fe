#!/bin/bash
# Two nodes that went apart through promote, and what becomes of single messages: every pair of changes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

echo "- nothing changed at either end"
begin 3
apart
merge
both_have INBOX '1:m1:- 2:m2:- 3:m3:-'

echo "- records that only the master has in the middle of a mailbox"
begin 3
apart
append A INBOX a1
append A INBOX a2
A expunge INBOX 2
A flags INBOX 1 +'\Answered'
merge
both_have INBOX '1:m1:\Answered 3:m3:- 4:a1:- 5:a2:-'

echo "- the same UID with different messages"
begin 3
apart
append A INBOX a1 --flags 'Amber,\Seen'
append B INBOX b1 --flags 'Blue,\Flagged'
merge
both_have INBOX "$(mail A INBOX)"
case "$(mail A INBOX)" in
*'6:a1:Amber,\Seen 7:b1:Blue,\Flagged' | *'6:b1:Blue,\Flagged 7:a1:Amber,\Seen') ;;
*) die "neither order: $(mail A INBOX)" ;;
esac

echo "- 500 of them"
begin 2
apart
mkdir "$work/eml.a" "$work/eml.b"
for ((n = 0; n < 500; n++)); do
    printf 'Subject: a %s\r\n\r\n' "$n" >"$work/eml.a/$n.eml"
    printf 'Subject: b %s\r\n\r\n' "$n" >"$work/eml.b/$n.eml"
done
A import INBOX "$work/eml.a"
B import INBOX "$work/eml.b"
merge
A list INBOX
[ "$(wc -l <"$out")" -eq 1002 ] || die "not 1002 messages"
[ "$(cut -f 7 "$out" | sort -u | wc -l)" -eq 1002 ] || die "one is there twice"

echo "- expunged at the replica's end only"
begin 3
apart
B expunge INBOX 2
merge
both_have INBOX '1:m1:- 3:m3:-'

echo "- expunged and purged at the replica's end only"
begin 3
apart
B expunge INBOX 2 --immediate
merge
both_have INBOX '1:m1:- 3:m3:-'

echo "- expunged at one end, flags changed at the other"
begin 4
apart
A expunge INBOX 2
B flags INBOX 2 +'\Flagged'
B expunge INBOX 3
A flags INBOX 3 +'\Flagged'
merge
both_have INBOX '1:m1:- 4:m4:-'

echo "- different flags at both ends"
begin 3
A flags INBOX 1 '\Seen' '\Draft' Old
catch_up
apart
A flags INBOX 1 -'\Seen' +'\Answered' +Amber
B flags INBOX 1 -'\Draft' +'\Flagged' +Blue
B flags INBOX 2 +'\Seen'
A flags INBOX 3 +'\Seen'
merge
both_have INBOX '1:m1:Amber,Blue,Old,\Answered,\Flagged 2:m2:\Seen 3:m3:\Seen'

echo "- appended at both ends, more at B than at A"
begin 2
apart
append A INBOX a1
append B INBOX b1
append B INBOX b2
append B INBOX b3
merge
A list INBOX
[ "$(wc -l <"$out")" -eq 6 ] || die "not 6 messages"
has B INBOX "$(mail A INBOX)"

echo "- one delivery at both ends"
begin 2
apart
append A INBOX same
append B INBOX other
append B INBOX same --flags '\Seen'
merge
A list INBOX
[ "$(wc -l <"$out")" -eq 4 ] || die "not 4 messages"
