#!/bin/bash
# make-mail: the same seed gives the same mail, in either format; what exists is left alone.
set -euo pipefail
make_mail=$SHIPLOG_BIN/make-mail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "make-mail: $*" >&2
    exit 1
}

# expect CODE ARGUMENT…: the exit code, and a line on stderr.
expect() {
    local code=0
    "$make_mail" "${@:2}" 2>said || code=$?
    [ "$code" -eq "$1" ] || fail "${*:2}: exit code $code, not $1"
    [ "$code" -eq 0 ] || [ -s said ] || fail "${*:2}: said nothing"
}

expect 0 --seed 7 --uids 300 one
expect 0 --seed 7 --uids 300 two
diff -r one two >/dev/null || fail "the same seed gave other mail"
[ "$(find one/cur -type f | wc -l)" -eq 300 ] || fail "not 300 messages"
[ "$(wc -l <one/dovecot-uidlist)" -eq 301 ] || fail "not 300 UIDs"
[ "$(stat -c %Y one/cur/* | sort -n | uniq | wc -l)" -gt 290 ] || fail "the dates are not spread"

expect 0 --seed 8 300 other
[ "$(cat one/cur/* | sha256sum)" != "$(cat other/cur/* | sha256sum)" ] || fail "another seed gave the same mail"

expect 0 --seed 7 --format mbox 300 mbox
# The same from every compiler; whoever changes what is made up, changes this too.
known=254db6f83dba5f42ebda045e1bc13eb8879929ae4ea4c4492b8d39fe63aa7a42
[ "$(sha256sum <mbox)" = "$known  -" ] || fail "not the bytes that are known: $(sha256sum <mbox)"
"$SHIPLOG_BIN/shiplog" -s store init >/dev/null
"$SHIPLOG_BIN/shiplog" -s store import INBOX one >/dev/null
"$SHIPLOG_BIN/shiplog" -s store import INBOX mbox >again
[ "$(cat again)" = "$(printf '0\t300\t0')" ] || fail "Maildir and mbox differ: $(cat again)"

expect 4 1 one
expect 3 1 no/such/place
expect 2 one
expect 2 x one
expect 2 -- -1 one
expect 2 --format elm 1 new
expect 2 --seed x 1 new
[ ! -e new ] || fail "wrong usage wrote something"
expect 0 0 none
[ -z "$(ls none/cur)" ] || fail "no messages were asked for"
