#!/bin/bash
# Every command of shiplog: what it prints, its exit codes, and that what is refused says why in one line and changes nothing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.bash
. "$SHIPLOG_SOURCE/tests/e2e/commands.bash"
TAB=$'\t'

# run CODE COMMAND…: runs it with its output in $out and $err.
run() {
    local want=$1 code=0
    shift
    "$@" >"$out" 2>"$err" || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want: $*"
}

# ok WORD…: a command of the store that is done without a word on stderr.
ok() {
    run 0 "${S[@]}" "$@"
    [ ! -s "$err" ] || die "done, but not silently: $*"
}

# prints TEXT WORD…: and prints just that.
prints() {
    local want=$1
    shift
    ok "$@"
    [ "$(cat "$out")" = "$want" ] || die "expected: $want, from: $*"
}

# refused CODE WORD…: one line on stderr, nothing on stdout, and nothing has changed.
refused() {
    local want=$1 before after
    shift
    before=$("${S[@]}" digest)
    run "$want" "${S[@]}" "$@"
    [ "$(wc -l <"$err")" -eq 1 ] || die "not one line on stderr: $*"
    grep -q '^shiplog: ' "$err" || die "an error without its prefix: $*"
    [ ! -s "$out" ] || die "refused, but with output: $*"
    after=$("${S[@]}" digest)
    [ "$before" = "$after" ] || die "refused, but changed something: $*"
}

# has PATTERN: a line of the last output matches.
has() {
    grep -q -E -- "$1" "$out" || die "no line matches $1"
}

# column N: of the last output.
column() {
    cut -f "$1" "$out"
}

position() {
    "${S[@]}" journal status | cut -f 2
}

message() {
    printf 'From: a@example.org\r\nSubject: %s\r\n\r\n%s\r\n' "$1" "$1"
}

echo "- words"
run 0 "$bin/shiplog" --help
has 'append MAILBOX'
run 0 env -u SHIPLOG_STORE "$bin/shiplog" append --help
has 'append MAILBOX'
for words in '' 'frobnicate' '-s' '--frobnicate' '-x list'; do
    # shellcheck disable=SC2086
    run 2 "$bin/shiplog" $words
    [ "$(wc -l <"$err")" -eq 1 ] || die "not one line: $words"
done
run 2 "$bin/shiplog" list INBOX
run 3 "$bin/shiplog" -s "$work/nowhere" list INBOX
echo junk >"$work/file"
run 3 "$bin/shiplog" -s "$work/file" list INBOX

echo "- init"
ok init
run 4 "${S[@]}" init
run 2 "${S[@]}" init more
run 2 "$bin/shiplog" -s "$work/other" init --replica --owner ann
run 2 "$bin/shiplog" -s "$work/other" init --owner 'a/b'
[ ! -e "$work/other" ] || die "a refused init left something behind"
run 0 env SHIPLOG_STORE="$work/store" "$bin/shiplog" status

echo "- mailboxes"
ok create INBOX
ok create 'Work/Über 50% *.*'
ok create '~ann@example.org/Shared'
ok create '~owner/Own'
refused 4 create inbox
refused 4 create 'Work/Über 50% *.*'
refused 2 create ''
refused 2 create 'a//b'
refused 2 create $'a\tb'
refused 2 create $'a\xff'
refused 2 create "$(printf 'x%.0s' {1..481})"
refused 2 create
refused 2 create one two
refused 2 create --frobnicate
ok mailboxes
[ "$(column 1)" = "INBOX
Own
Work/Über 50% *.*
~ann@example.org/Shared" ] || die "names, in their order"
[ "$(head -n 1 "$out" | tr '\t' '\n' | wc -l)" -eq 10 ] || die "fields of mailboxes"
prints '' rename Own Mine
refused 3 rename Own Mine
refused 4 rename Mine INBOX
refused 4 rename Mine '~bob/Mine'
id=id:$("${S[@]}" mailboxes | grep ^Mine | cut -f 2)
prints '' rename "$id" Own
prints '' rename "$id" Mine
refused 2 rename Mine "$id"
refused 2 create id:0123456789abcdef
refused 3 rename id:0123456789abcdef Other
refused 3 import id:0123456789abcdef "$work/file"
refused 3 delete id:0123456789abcdef
prints '' delete Mine
refused 3 delete Mine
refused 3 rename "$id" Mine
refused 3 import "$id" "$work/file"
ok mailboxes --at 4
refused 3 mailboxes --at 4000
refused 2 mailboxes --at yesterday-ish
refused 2 mailboxes --at

echo "- every command's words"
# wrong WORD…: as refused 2, with a look at the end at whether anything has changed.
wrong() {
    run 2 "${S[@]}" "$@"
    [ "$(wc -l <"$err")" -eq 1 ] || die "not one line on stderr: $*"
    grep -q '^shiplog: ' "$err" || die "an error without its prefix: $*"
    [ ! -s "$out" ] || die "refused, but with output: $*"
}
ok digest
cp "$out" unchanged
# Its name, and how few and how many words it takes.
while read -r command least most; do
    words=()
    for ((n = 0; n < least; n++)); do words+=(1); done
    wrong "$command" "${words[@]}" --frobnicate
    wrong "$command" --frobnicate "${words[@]}"
    [ "$least" -eq 0 ] || wrong "$command" "${words[@]:1}"
    [ "$most" != - ] || continue
    for ((n = least; n <= most; n++)); do words+=(1); done
    wrong "$command" "${words[@]}"
done <<END
$(tr ';' '\n' <<<'init 0 0;create 1 1;rename 2 2;delete 1 1;mailboxes 0 0;append 1 2;import 2 -;export 2 2;flags 3 -;expunge 2 2
copy-messages 3 3;move 3 3;meta 1 4;expire 0 1;list 1 2;cat 2 2;log 0 1;diff 2 3;restore 1 1;journal 1 1;slots 0 2;digest 0 0;check 0 0
sync 2 2;serve 0 0;status 0 0;wait 0 1;promote 0 0;demote 0 0;copy 1 1;compact 0 0')
END
for option in 'mailboxes --at' 'append INBOX --flags' 'append INBOX --date' 'export INBOX d --at' 'export INBOX d --format' \
    'flags INBOX 1 +x --as' 'meta list --as' 'expire --older-than' 'list INBOX --at' 'list INBOX --as' 'cat INBOX 1 --at' 'log --since' \
    'log --until' 'log --uid' 'log --kind' 'log --file' 'diff INBOX 1 --as' 'restore INBOX --at' 'restore INBOX --at 1 --into' \
    'journal trim --keep' 'journal trim --before' 'journal archive --keep' 'journal retain --age' 'wait --replicas' 'wait --timeout' \
    'demote --follow'; do
    # shellcheck disable=SC2086
    wrong $option
done
wrong restore INBOX
wrong serve
wrong log -x
wrong log --since=1
ok digest
cmp -s "$out" unchanged || die "refused, but changed something"
for words in mailboxes digest 'log --kind create' 'list INBOX'; do
    # shellcheck disable=SC2086
    ok --json $words
    cp "$out" before
    # shellcheck disable=SC2086
    ok $words --json
    cmp -s "$out" before || die "--json before and behind: $words"
    # shellcheck disable=SC2086
    run 0 "$bin/shiplog" --json -s "$work/store" $words
    cmp -s "$out" before || die "--json before -s: $words"
done

echo "- append, cat"
message one >m1
message two >m2
: >m3
prints 1 append INBOX m1
prints 2 append INBOX m2 --flags '\Seen,Zed,\flagged,alpha' --date 'Fri, 02 Jan 2026 03:04:05 +0100'
prints 3 append INBOX m3 --date 2026-01-02T03:04:05.5Z
[ "$("${S[@]}" append INBOX <m1)" = 4 ] || die "append from a pipe"
[ "$("${S[@]}" append INBOX - <m1)" = 5 ] || die "append from -"
[ "$("${S[@]}" append --json INBOX m1)" = '{"uid":6}' ] || die "append --json"
refused 2 append INBOX m1 --flags '\Recent'
refused 2 append INBOX m1 --flags 'a b'
refused 2 append INBOX m1 --date noon
refused 2 append INBOX m1 m2
refused 2 append
refused 3 append Nowhere m1
refused 3 append INBOX nofile
for n in 1 2 3; do
    ok cat INBOX "$n"
    cmp "$out" "m$n" || die "cat $n"
done
refused 3 cat INBOX 99
refused 3 cat Nowhere 1
refused 2 cat INBOX x
refused 2 cat INBOX 0
refused 2 cat INBOX 1:2
head -c 3000000 /dev/urandom >big
prints 7 append INBOX big
"${S[@]}" cat INBOX 7 | cmp - big

echo "- append --mda"
run 0 "${S[@]}" append INBOX --mda m1
run 67 "${S[@]}" append Nowhere --mda m1
run 64 "${S[@]}" append --mda
run 64 "${S[@]}" append INBOX --mda --flags '\Recent' m1
run 64 "${S[@]}" append INBOX --frobnicate --mda m1
run 75 "$bin/shiplog" -s "$work/nowhere" append INBOX --mda m1
run 64 "$bin/shiplog" append INBOX --mda m1
before=$(position)
run 0 bash -c '"$@" >/dev/full' - "${S[@]}" append INBOX --mda m1
[ "$(position)" -eq $((before + 1)) ] || die "a delivery whose UID nobody read"
"${S[@]}" expunge INBOX 8:9 >/dev/null

echo "- list"
ok list INBOX
[ "$(column 1 | paste -sd ' ')" = '1 2 3 4 5 6 7' ] || die "uids"
prints "2${TAB}$(column 2 | sed -n 2p)${TAB}Zed,\\Flagged,\\Seen,alpha${TAB}yes${TAB}2026-01-02T02:04:05.000000Z${TAB}$(wc -c <m2)${TAB}$(sha256sum <m2 | cut -c 1-64)${TAB}no" list INBOX 2
ok list INBOX 3
[ "$(column 3-6)" = "-${TAB}no${TAB}2026-01-02T03:04:05.500000Z${TAB}0" ] || die "an empty message"
ok list INBOX 2,4:5,3000:*
[ "$(column 1 | paste -sd ' ')" = '2 4 5 7' ] || die "a UIDSET"
ok list INBOX '*'
[ "$(column 1)" = 7 ] || die "* is the highest that is there"
prints '' list INBOX 50:60
refused 3 list INBOX 8
refused 3 list INBOX 4000000000
for set in 0 1: :1 1,,2 x 1:2:3 '' 4294967296 '+1'; do
    refused 2 list INBOX "$set"
done
refused 3 list Nowhere
ok list INBOX --expunged
[ "$(column 8 | paste -sd ' ')" = 'no no no no no no no yes yes' ] || die "--expunged"
ok list INBOX 8 --expunged
refused 2 list INBOX --expunged --at 5
ok list INBOX 2 --json
has '^\{"uid":2,"modseq":[0-9]+,"flags":\["Zed","\\\\Flagged","\\\\Seen","alpha"\],"seen":true,"internaldate":"2026-01-02T02:04:05.000000Z","size":[0-9]+,"guid":"[0-9a-f]{64}","expunged":false\}$'
id=$("${S[@]}" mailboxes | grep ^INBOX | cut -f 2)
ok list "id:$id" 2
has '^2'
refused 3 list id:0123456789abcdef

echo "- flags"
prints '' flags INBOX 1 '\Draft' one two
ok list INBOX 1
[ "$(column 3)" = '\Draft,one,two' ] || die "bare flags replace"
prints '' flags INBOX 1 +three -ONE '+\answered'
ok list INBOX 1
[ "$(column 3)" = '\Answered,\Draft,three,two' ] || die "signs add and remove"
before=$(position)
prints '' flags INBOX 1 +three
[ "$(position)" -eq "$before" ] || die "a flag that was set already made an entry"
refused 2 flags INBOX 1 one +two
refused 2 flags INBOX 1 '+\Recent'
refused 2 flags INBOX 1 '\Nonsense'
refused 2 flags INBOX 1 +
refused 2 flags INBOX 1 -
refused 2 flags INBOX 1 + x
refused 2 flags INBOX 1 '+ x'
refused 2 flags INBOX 1 ''
refused 2 flags INBOX 1 '+\Nope'
prints '' flags INBOX 1 ++plus
ok list INBOX 1
[ "$(column 3)" = '+plus,\Answered,\Draft,three,two' ] || die "one sign is taken off, the rest is the keyword"
prints '' flags INBOX 1 -+plus
refused 2 flags INBOX 1
refused 3 flags INBOX 8 +one
refused 3 flags INBOX 99 +one
refused 2 flags INBOX 1 +one --frobnicate
prints '' flags INBOX 90:99 +one
refused 3 flags INBOX 1,99 +beside
refused 3 flags INBOX 99,1:3 +beside
refused 3 list INBOX 1,99
refused 3 list INBOX 1,99 --at "$(position)"
prints '' flags INBOX 1,90:99 +beside
prints '' flags INBOX 1 -beside
prints '' flags INBOX 1,2 '+\Seen' --as bob
ok list INBOX 1:3 --as bob
[ "$(column 4 | paste -sd ' ')" = 'yes yes no' ] || die "another user's seen"
ok list INBOX 1:3
[ "$(column 4 | paste -sd ' ')" = 'no yes no' ] || die "the owner's seen"
refused 2 flags INBOX 1 +one --as ''

echo "- expunge, copy, move"
prints 1 expunge INBOX 4
refused 3 expunge INBOX 4
refused 3 cat INBOX 4
prints 0 expunge INBOX 100:200
prints 1 expunge INBOX 5 --immediate
ok list INBOX 5:6 --expunged
[ "$(column 1)" = 6 ] || die "--immediate left a tombstone"
ok create Copies
prints "1${TAB}1
2${TAB}2
3${TAB}3" copy-messages INBOX 1:3 Copies
ok list Copies 2
[ "$(column 3)" = 'Zed,\Flagged,\Seen,alpha' ] || die "a copy has the flags"
prints "3${TAB}4" move INBOX 3 Copies
refused 3 list INBOX 3
refused 3 move INBOX 3 Copies
refused 3 move INBOX 1 Nowhere
refused 4 move INBOX 1 INBOX
refused 3 copy-messages INBOX 99 Copies
refused 2 copy-messages INBOX 1
prints "1${TAB}10" copy-messages INBOX 1 INBOX

echo "- more than one commit holds"
ok create Many
for n in {1..20}; do message "$n" | "${S[@]}" append Many >/dev/null; done
for ((n = 20; n < 10000; n *= 2)); do ok copy-messages Many '1:*' Many; done
count=$(wc -l <"$out")
[ "$count" -eq 5120 ] || die "a copy into its own mailbox: $count"
ok flags Many '1:*' '+\Seen' +k '-\Flagged' --as bob
ok flags Many '1:*' '+\Seen' '-\Flagged'
ok list Many
[ "$(column 3,4 | sort | uniq -c | tr -s ' ')" = " 10240 \\Seen,k${TAB}yes" ] || die "flags of many"
ok create Moved
ok move Many '1:9000' Moved
[ "$(wc -l <"$out")" -eq 9000 ] || die "moved"
prints 9000 expunge Moved '1:*'
ok delete Moved

echo "- meta"
prints '' meta set color blue
prints "color${TAB}blue" meta get color
prints '' meta set INBOX /private/comment 'my mail' --as bob
prints "/private/comment${TAB}my mail" meta list INBOX --as bob
prints '' meta list INBOX
refused 3 meta get INBOX /private/comment
prints '' meta set minus -- -1
prints "color${TAB}blue
minus${TAB}-1" meta list
prints '' meta unset minus
refused 3 meta unset minus
refused 3 meta get minus
refused 2 meta frobnicate
refused 2 meta
refused 2 meta set onlykey
refused 2 meta set '' x
refused 3 meta list Nowhere
prints '{"key":"color","value":"blue"}' meta get color --json

echo "- the past"
point=$(position)
ok list INBOX
cp "$out" listed
ok mailboxes
cp "$out" boxes
ok digest
cp "$out" digest
sleep 0.01
time=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
ok flags INBOX '1:*' changed
ok expunge INBOX 1
ok rename INBOX Gone
ok delete Copies
for at in "$point" "$time"; do
    ok list INBOX --at "$at"
    cmp "$out" listed || die "list --at $at"
    ok mailboxes --at "$at"
    cmp "$out" boxes || die "mailboxes --at $at"
    ok cat INBOX 1 --at "$at"
    cmp "$out" m1 || die "cat --at $at"
done
ok list Copies --at "$point"
refused 3 list INBOX
refused 3 list INBOX --at 1
refused 3 cat INBOX 99 --at "$point"
refused 3 list INBOX --at 999999999
# What may be read in two ways is not read at all: a length that is no age, the start or the end of a day, months or minutes.
for at in '' tomorrow yesterday now 10m '2 days' '10 ago' '10M ago' '1D ago' '10 months ago' '1.5h ago' '1h30m ago' 2026-11-23 \
    2026-11-23T10:00 2026-11-31T10:00:00Z -1 +1 '-1m ago' ' 1' '1 ' 0x1 1e3 99999999999999999999; do
    wrong list INBOX --at "$at"
done
refused 2 list INBOX --at 2 days ago
refused 3 list INBOX --at 0
refused 3 list INBOX --at $(($(position) + 1))
ok list INBOX 2 --at "$point"
cp "$out" at
for at in "0$point" "${time/T/ }" "${time/T/t}" "${time%Z}" "${time%Z}+00:00" "${time%Z}-00:00"; do
    ok list INBOX 2 --at "$at"
    cmp -s "$out" at || die "--at $at"
done
run 0 env TZ=XYZ-3 "${S[@]}" list INBOX 2 --at "$(date -u -d "$time + 3 hours" +%Y-%m-%dT%H:%M:%S.%6N)"
cmp -s "$out" at || die "a time without a zone is local"
ok list Gone 2
cp "$out" now
for at in '0s ago' '0 Weeks ago' 9999-12-31T23:59:59Z; do
    ok list Gone 2 --at "$at"
    cmp -s "$out" now || die "a time that is still to come is the present: $at"
done
prints '' mailboxes --at '52 weeks ago'
ok rename Gone INBOX

echo "- log"
ok log
[ "$(wc -l <"$out")" -eq "$(position)" ] || die "an entry, a line"
[ "$(head -n 1 "$out" | tr '\t' '\n' | wc -l)" -eq 10 ] || die "fields of log"
ok log Copies --kind append --uid 2
[ "$(column 5-9)" = "append${TAB}Copies${TAB}2${TAB}-${TAB}Zed,\\Flagged,\\Seen,alpha" ] || die "an append in the log"
ok log --kind rename
[ "$(column 6,8,9)" = "Mine${TAB}Own${TAB}Mine
Own${TAB}Mine${TAB}Own
Mine${TAB}Own${TAB}Mine
Gone${TAB}INBOX${TAB}Gone
INBOX${TAB}Gone${TAB}INBOX" ] || die "renames in the log"
ok log Gone
has "append${TAB}INBOX"
ok log --kind seen
[ "$(column 6,7,9 | head -n 1)" = "INBOX${TAB}1:2${TAB}\\Seen as bob" ] || die "seen in the log"
ok log --kind meta
[ "$(column 6,8,9 | tail -n 1)" = "-${TAB}minus=-1${TAB}-" ] || die "meta in the log"
ok log --since "$point" --until $((point + 1))
[ "$(column 1)" = "$point" ] || die "the middle of a commit is the commit before it"
ok log --json --kind create
has '^\{"modseq":[0-9]+,"epoch":1,"time":"[-0-9T:.]+Z","actor":".+","kind":"create","mailbox":"INBOX","uids":null,"before":null,"after":\["INBOX",.*\],"bytes":[0-9]+\}$'
refused 2 log --kind nonsense
refused 2 log --uid x
refused 3 log Nowhere
refused 3 log --since 999999999
{ "${S[@]}" log || [ $? -eq 141 ]; } | head -n 1 >/dev/null

echo "- log, followed"
# until_true COMMAND…: it becomes so, within 10 s.
until_true() {
    for ((tries = 0; tries < 200; tries++)); do
        ! "$@" || return 0
        sleep 0.05
    done
    return 1
}
gone() { ! kill -0 "$1" 2>/dev/null; }
# follow [WORD…]: from the last entry on, with what is printed in the file follow.
follow() {
    : >follow
    "${S[@]}" "$@" log --since "$(position)" --follow >follow &
    follower=$!
    until_true test -s follow || die "the last entry is not shown"
}
for signal in TERM INT; do
    # A script's background commands ignore SIGINT, and so do their children: unless it has job control.
    set -m
    follow
    set +m
    ok create "Followed/$signal"
    until_true grep -q "create${TAB}Followed/$signal" follow || die "what another process commits is not shown"
    [ "$(wc -l <follow)" -eq 2 ] || die "an entry that is new, a line more"
    kill -"$signal" "$follower"
    until_true gone "$follower" || die "SIG$signal does not end it"
    wait "$follower" 2>/dev/null || true
done
follow --json
ok create Followed/json
until_true grep -q '"kind":"create","mailbox":"Followed/json"' follow || die "--follow --json"
kill "$follower"
wait "$follower" 2>/dev/null || true
# A reader that goes away, while nothing is written.
mkfifo pipe
"${S[@]}" log --follow >pipe &
follower=$!
head -n 1 pipe >/dev/null
until_true gone "$follower" || die "it goes on although nobody reads"
wait "$follower" 2>/dev/null || true
refused 2 log --follow --file "$work/file"
refused 5 log --file "$work/file"
grep -q -F "$work/file: " "$err" || die "the file is not named"
refused 3 log --file "$work/nofile"

echo "- import, export"
ok create Out
ok append Out m1 --flags '\Answered,kw' --date 2026-01-02T03:04:05Z
ok append Out m2
ok append Out m1
ok expunge Out 2
prints '' export Out maildir
prints '' export Out mbox --format mbox
grep -q '^From ' mbox || die "an mbox"
refused 4 export Out maildir
refused 4 export Out mbox --format mbox
refused 2 export Out other --format zip
refused 3 export Nowhere other
[ ! -e other ] || die "a refused export left something behind"
prints '' export INBOX past --at "$point"
[ "$(find past/cur -type f | wc -l)" -eq "$(wc -l <listed)" ] || die "export --at"
prints "2${TAB}0${TAB}0" import In maildir --keep-uids
ok list Out
column 1,3-7 >want
ok list In
column 1,3-7 | cmp - want || die "what was exported comes back"
uids() { "${S[@]}" mailboxes | grep "^$1$TAB" | cut -f 6,7; }
[ "$(uids In)" = "$(uids Out)" ] || die "UIDVALIDITY and UIDNEXT"
prints "0${TAB}2${TAB}0" import In maildir --keep-uids
prints "2${TAB}0${TAB}0" import In2 mbox
prints "0${TAB}2${TAB}0" import In2 maildir
ok append In2 m3
refused 3 import Fresh nothing
refused 2 import Fresh
mkdir -p tree/deep
cp m1 tree/1.eml
cp m2 tree/deep/2.eml
ln -s nothing tree/3.eml
run 1 "${S[@]}" import Tree tree
[ "$(cat "$out")" = "2${TAB}0${TAB}1" ] || die "an import with a file that cannot be read"
[ "$(wc -l <"$err")" -eq 1 ] || die "not one line"
grep -q 'tree/3.eml' "$err" || die "it is not said which"
run 1 "${S[@]}" --json import Tree tree m1
[ "$(cat "$out")" = '{"imported":1,"skipped":2,"failed":1}' ] || die "import again"
ok expunge In 1
run 1 "${S[@]}" import In maildir --keep-uids
[ "$(cat "$out")" = "0${TAB}1${TAB}1" ] || die "a UID is never given out twice"
awk 'BEGIN { for (n = 0; n < 1500; n++) printf "From x@example.org Thu Aug 22 12:36:23 2024\nSubject: %d\n\n>From %d\n\n", n % 1000, n }' >many
prints "1500${TAB}0${TAB}0" import Mbox many
prints "0${TAB}1500${TAB}0" import Mbox many
ok cat Mbox 1500
[ "$(cat "$out")" = 'Subject: 499

From 1499' ] || die "mboxrd"

echo "- import of a Maildir as Dovecot leaves it"
folder() { mkdir -p "$1/cur" "$1/new" "$1/tmp"; }
folder dove
folder 'dove/.Entw&APw-rfe'
folder 'dove/.Entw&APw-rfe.R&D'
folder 'dove/.two..x'
printf '3 V1700000001 N20 G0\n3 :a.h\n9 W12 :b.h\n' >dove/dovecot-uidlist
printf '%s\n' '0 work' '2 NonJunk' >dove/dovecot-keywords
cp m1 dove/cur/a.h:2,FSac
cp m2 dove/cur/b.h:2,
cp m1 'dove/.Entw&APw-rfe/new/c.h'
printf '3 V1700000002 N8\n7 :c.h\n' >'dove/.Entw&APw-rfe/dovecot-uidlist'
cp m2 'dove/.Entw&APw-rfe.R&D/cur/d.h:2,T'
printf '1 1700000003 6\n5 d.h:2,\n' >'dove/.Entw&APw-rfe.R&D/dovecot-uidlist'
cp m1 dove/.two..x/cur/e.h:2,
run 1 "${S[@]}" import Dove dove --keep-uids
[ "$(cat "$out")" = "4${TAB}0${TAB}1" ] || die "a Maildir of Dovecot's"
[ "$(wc -l <"$err")" -eq 1 ] || die "not one line about the folder without a name"
grep -q '^shiplog: folder two//x: ' "$err" || die "it is not said which folder"
ok list Dove
[ "$(column 1,3)" = "3${TAB}NonJunk,\\Flagged,\\Seen,work
9${TAB}-" ] || die "UIDs and keywords of Dovecot's"
ok list Dove/Entwürfe/R\&D
[ "$(column 1,3)" = "5${TAB}\\Deleted" ] || die "a name that is no modified UTF-7 stays"
[ "$(uids Dove)" = "1700000001${TAB}20" ] || die "UIDVALIDITY, UIDNEXT"
[ "$(uids Dove/Entwürfe)" = "1700000002${TAB}8" ] || die "a folder has its own"
run 1 "${S[@]}" import Dove dove --keep-uids
[ "$(cat "$out")" = "0${TAB}4${TAB}1" ] || die "again"
printf '3 V1700000009 N20 G0\n3 :a.h\n9 :b.h\n' >dove/dovecot-uidlist
cp m3 dove/new/f.h
run 4 "${S[@]}" import Dove dove --keep-uids
grep -q 1700000009 "$err" || die "another UIDVALIDITY is refused"

echo "- expire"
prints 1 expire In --older-than 0s
prints 0 expire In --older-than 0s
prints 0 expire --older-than '2 weeks'
refused 2 expire
refused 2 expire --older-than soon
refused 3 expire Nowhere --older-than 1s
ok expire --older-than 0s
ok list Many --expunged
[ "$(wc -l <"$out")" -eq 1240 ] || die "expired"

echo "- digest, check, status, journal, slots"
ok digest
[ "$(tail -n 1 "$out" | cut -f 1)" = - ] || die "the store's digest comes last"
ok digest --json
has '^\{"mailbox":"-","id":"[0-9a-f]{16}","position":\{"modseq":[0-9]+,"chain":"[0-9a-f]{16}"\},"digest":"[0-9a-f]{16}"\}$'
prints '' check
prints '' journal verify
ok status
[ "$(column 1,6-9)" = "master${TAB}-${TAB}no${TAB}no${TAB}not running" ] || die "status"
ok status --json
has '"role":"master".*"master":null,"fenced":false,"repairing":false'
ok journal status
last=$(column 2)
[ "$(column 1,3)" = "1$TAB$last" ] || die "journal status"
prints 0 journal trim
refused 2 journal trim --keep 1 --before 5
refused 2 journal trim --keep x
refused 2 journal status --keep 1
refused 2 journal frobnicate
prints 9 journal trim --before 10
prints 0 journal trim --before '52 weeks ago'
prints 0 journal trim --keep 99999999
ok journal trim --keep 5
ok journal status
[ "$(column 2)" = "$last" ] || die "trim --keep"
kept=$(column 3)
# Whole commits: which mailbox was expired last, by an entry or two, is up to their random ids.
[ "$kept" -eq 5 ] || [ "$kept" -eq 6 ] || die "trim --keep kept $kept"
refused 3 list INBOX --at 5
refused 3 log --since 5
ok log
[ "$(wc -l <"$out")" -eq "$kept" ] || die "log of what is left"
prints '' journal verify
prints '' check
prints "-$TAB-$TAB-$TAB-${TAB}no" journal retain
refused 2 journal retain --entries
refused 2 journal retain --entries 0
refused 2 journal retain --bytes 1Q
refused 2 journal retain --age soon
refused 2 journal retain --archive maybe
refused 2 journal retain --keep 5
refused 2 journal archive
refused 2 journal archive --keep 1 --before 5
refused 2 journal trim --age 1d
prints "3${TAB}1048576${TAB}172800${TAB}-${TAB}no" journal retain --entries 3 --bytes 1M --age 2d
ok journal retain --entries 1 --age none --slot-bound 1G --archive yes --json
has '^\{"entries":1,"bytes":1048576,"seconds":null,"slot_bound":1073741824,"archive":true\}$'
ok mailboxes --at "$((last - 2))"
cp "$out" before
ok log
cp "$out" all
ok journal archive --keep 3
archived=$((kept - $("${S[@]}" journal status | cut -f 3)))
[[ $(<"$out") = "$archived$TAB$archived" && $archived -gt 0 ]] || die "archived"
ok journal trim
[ "$(cat "$out")" -gt 0 ] || die "the policy was not carried out"
prints '' journal verify
ok mailboxes --at "$((last - 2))"
cmp -s before "$out" || die "mailboxes as they were, from the archive"
ok log
cmp -s all "$out" || die "log through the archive"
refused 3 list INBOX --at 5
files=("$work"/store/archive/*)
file=${files[0]##*/}
cp "$work/store/archive/$file" "$work/whole"
printf 'x' | dd of="$work/store/archive/$file" bs=1 seek=120 conv=notrunc status=none
run 5 "${S[@]}" log
[ ! -s "$out" ] || die "damaged, but shown"
grep -q "$file" "$err" || die "the damaged file is not named"
run 1 "${S[@]}" journal verify
has "^archive/$file$TAB"
run 1 "${S[@]}" check
has "^archive/$file$TAB"
ok log --since "$last"
ok list INBOX
rm "$work/store/archive/$file"
run 1 "${S[@]}" check
has "^archive${TAB}archive/ lacks the entries behind [0-9]+ up to [0-9]+$"
run 3 "${S[@]}" mailboxes --at "$((last - kept))"
ok list INBOX
ok check --repair
has "^archive${TAB}archive/ lacks the entries behind [0-9]+ up to [0-9]+: accepted as gone; mended$"
prints '' check
mv "$work/whole" "$work/store/archive/$file"
prints '' check
ok journal retain --entries none --bytes none --archive no --slot-bound none
ok digest
cp "$out" before
ok compact
[[ $(<"$out") =~ ^[0-9]+${TAB}[0-9]+$ ]] || die "how small the file became"
ok digest
cmp -s before "$out" || die "compact changed mail"
prints '' check
prints '' wait --replicas 0
prints '' wait 5 --replicas 0
refused 6 wait --timeout 0
grep -q 'no agent' "$err" || die "does not say that nobody ships"
refused 3 wait "$((last + 1000))"
refused 2 wait soon
refused 2 demote --follow nowhere
refused 2 demote --follow 127.0.0.1:0
refused 4 demote --follow 192.0.2.1:7711
refused 2 demote --follow $'no\nwhere'
refused 2 $'no\nsuch'
refused 3 append INBOX $'no\nsuch'
refused 2 wait --replicas many
prints '' slots
refused 3 slots drop nobody
refused 2 slots frobnicate

echo "- a replica refuses"
run 0 "$bin/shiplog" -s "$work/replica" init --replica
run 4 "$bin/shiplog" -s "$work/replica" create INBOX
[ "$(wc -l <"$err")" -eq 1 ] || die "not one line"
run 67 "$bin/shiplog" -s "$work/replica" append INBOX --mda m1
run 0 "$bin/shiplog" -s "$work/replica" status
has "^replica$TAB"

echo "- output that nobody takes, and a damaged file"
run 5 bash -c '"$@" >/dev/full' - "${S[@]}" mailboxes
[ "$(wc -l <"$err")" -eq 1 ] || die "not one line"
# A number that was closed must not become that of a file of the store.
run 5 bash -c 'exec "$@" <&- >&-' - "${S[@]}" list Many
grep -a -q -E 'T[0-9]{2}:[0-9]{2}:[0-9]{2}' "$work/store/shiplog.lock" && die "the output went into a file of the store"
run 5 bash -c 'exec "$@" <&-' - "${S[@]}" append Many
prints '' check
truncate -s 20000 "$work/store/data.mdb"
run 5 "${S[@]}" list Many
[ "$(wc -l <"$err")" -eq 1 ] || die "not one line about a file that was cut"
echo "all as it should be"
