#!/bin/bash
# The names of what --json prints, command by command, and text with bytes in it that would break a line.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.bash
. "$SHIPLOG_SOURCE/tests/e2e/commands.bash"
S+=(--json)
TAB=$'\t'

# names WANT WORD…: the names in the first object that is printed, in their order, those of objects within it too, each with what it is:
# n a number, s a string, b a boolean, a an array, o an object, - null.
names() { named 0 "$@"; }

# named CODE WANT WORD…: with this exit code.
named() {
    local code=0 exit=$1 want=$2 got
    shift 2
    "${S[@]}" "$@" >out || code=$?
    [ "$code" -eq "$exit" ] || die "exit code $code: $*"
    got=$(head -n 1 out | grep -o -E '"[a-z_]+":["0-9tf[{n]' |
        sed -E 's/^"(.*)":(.)$/\1 \2/; s/"$/s/; s/[0-9]$/N/; s/ [tf]$/ b/; s/\[$/a/; s/\{$/o/; s/ n$/ -/; s/N$/n/; s/ /:/' | paste -sd ' ')
    [ "$got" = "$want" ] || die "$*: names are: $got, not: $want"
}

"${S[@]}" init
for box in INBOX Copies 'Odd'; do "${S[@]}" create "$box" >/dev/null; done
printf 'Subject: a\r\n\r\na\r\n' >m1
printf 'Subject: b\r\n\r\nb\r\n' >m2
record='uid:n modseq:n flags:a seen:b internaldate:s size:n guid:s expunged:b'
position='position:o modseq:n chain:s'
names 'uid:n' append INBOX m1 --flags 'kw,\Seen'
"${S[@]}" append INBOX m2 >/dev/null
mailboxes='name:s id:s messages:n unseen:n bytes:n uidvalidity:n uidnext:n highestmodseq:n deletedmodseq:n digest:s'
names "$mailboxes" mailboxes
names "$mailboxes" mailboxes --at 3
names "$record" list INBOX
names "$record" list INBOX --at 6
names "$record" list INBOX --expunged
names 'from:n to:n' copy-messages INBOX 1 Copies
names 'from:n to:n' move INBOX 2 Copies
names 'expunged:n' expunge INBOX 1
named 1 'change:s uid:n before:a after:-' diff INBOX 5
named 1 'change:s uids:s before:- after:a newuid:-' restore INBOX --at 5 --dry-run
names 'change:s uids:s before:- after:a newuid:n' restore INBOX --at 5
names 'imported:n skipped:n failed:n' import Copies m1 m2
names 'purged:n' expire --older-than 0s
"${S[@]}" meta set INBOX key value >/dev/null
names 'key:s value:s' meta list INBOX
names 'key:s value:s' meta get INBOX key
names 'modseq:n epoch:n time:s actor:s kind:s mailbox:s uids:s before:- after:a bytes:n' log --kind append
names 'modseq:n epoch:n time:s actor:s kind:s mailbox:s uids:- before:- after:a bytes:n' log --kind create
names "mailbox:s id:s $position digest:s" digest
names 'first:n last:n entries:n bytes:n oldest:s' journal status
names 'entries:- bytes:- seconds:- slot_bound:- archive:b' journal retain
names 'entries:n bytes:n seconds:n slot_bound:n archive:b' journal retain --entries 50 --bytes 1M --age 2d --slot-bound 1G
names 'trimmed:n' journal trim --before 3
names 'archived:n trimmed:n' journal archive --before 4
names "role:s node:s store:s epoch:s $position master:- fenced:b repairing:b agent:s" status
names "node:s $position" copy "$work/copy"
names "name:s $position entries:n bytes:n seconds:n state:s" slots
line='mailbox:s tier:s reason:- sent:n renumbered:n copied_back:n expunged:n wire_bytes:n'
names "$line $position aside:-" sync "$work/store" "$work/copy"
"$SHIPLOG_BIN/tests/damage" "$work/copy" Copies 1 lose
named 1 'where:s what:s' -s "$work/copy" check --repair
named 1 "${line/reason:-/reason:s} $position aside:- action:- uid:n other:n" sync --dry-run "$work/store" "$work/copy"
names "${line/reason:-/reason:s} position:- aside:-" sync "$work/store" "$work/copy"
names 'before:n after:n' compact

# Every line is one JSON object, also where nothing is there to be said.
for words in mailboxes log digest status 'journal status' 'list INBOX' 'list Copies --expunged'; do
    # shellcheck disable=SC2086
    "${S[@]}" $words | grep -v -E '^\{.*\}$' && die "not an object a line: $words"
done

# Control bytes are escaped in text, so that a line is a line and a TAB is a TAB; in JSON they come back.
T=("$SHIPLOG_BIN/shiplog" -s "$work/store")
value=$'a\tb\nc\x01\x7f\\ \xc3\xbc'
"${T[@]}" meta set odd "$value"
[ "$("${T[@]}" meta get odd)" = "odd${TAB}a\\x09b\\x0ac\\x01\\x7f\\ ü" ] || die "control bytes"
[ "$("${T[@]}" meta list | wc -l)" -eq 1 ] || die "a value with a line feed is one line"
[ "$("${T[@]}" log --kind meta | wc -l)" -eq 2 ] || die "and in the log"
"${S[@]}" meta get odd | grep -q -F 'a\tb\nc\u0001' || die "in JSON: $("${S[@]}" meta get odd)"
code=0
"${T[@]}" list $'No\nbox\x1b[31m' 2>err || code=$?
[ "$code" -eq 2 ] || [ "$code" -eq 3 ] || die "a name of control bytes: $code"
[ "$(wc -l <err)" -eq 1 ] || die "an error is one line whatever was typed"
! grep -q $'\x1b' err || die "an escape sequence came back"
echo "all as it should be"
