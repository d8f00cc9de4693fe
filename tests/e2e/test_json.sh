#!/bin/bash
# The names of what --json prints, command by command, and text with bytes in it that would break a line.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export TZ=UTC
S=("$SHIPLOG_BIN/shiplog" -s "$work/store" --json)
TAB=$'\t'

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# names WANT WORD…: the names in the first object that is printed, in their order, those of objects within it too.
names() {
    local want=$1 got
    shift
    "${S[@]}" "$@" >out || die "exit code $?: $*"
    got=$(head -n 1 out | grep -o -E '"[a-z_]+":' | tr -d '":' | paste -sd ' ')
    [ "$got" = "$want" ] || die "$*: names are: $got, not: $want"
}

"${S[@]}" init
for box in INBOX Copies 'Odd'; do "${S[@]}" create "$box" >/dev/null; done
printf 'Subject: a\r\n\r\na\r\n' >m1
printf 'Subject: b\r\n\r\nb\r\n' >m2
names 'uid' append INBOX m1 --flags 'kw,\Seen'
"${S[@]}" append INBOX m2 >/dev/null
names 'name id messages unseen bytes uidvalidity uidnext highestmodseq deletedmodseq digest' mailboxes
names 'uid modseq flags seen internaldate size guid expunged' list INBOX
names 'uid modseq flags seen internaldate size guid expunged' list INBOX --at 6
names 'from to' copy-messages INBOX 1 Copies
names 'from to' move INBOX 2 Copies
names 'expunged' expunge INBOX 1
names 'imported skipped failed' import Copies m1 m2
names 'purged' expire --older-than 0s
"${S[@]}" meta set INBOX key value >/dev/null
names 'key value' meta list INBOX
names 'key value' meta get INBOX key
names 'modseq epoch time actor kind mailbox uids before after bytes' log
names 'mailbox id position modseq chain digest' digest
names 'first last entries bytes oldest' journal status
names 'role node store epoch position modseq chain master fenced repairing agent' status

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
