#!/bin/bash
# Looking back, comparing and restoring, as a user meets them: diff, restore, --at across renames, deletions and expiry.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.bash
. "$SHIPLOG_SOURCE/tests/e2e/commands.bash"

# run CODE WORD…: a command of the store, with its output in $out and $err.
run() {
    local want=$1 code=0
    shift
    "${S[@]}" "$@" >"$out" 2>"$err" || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want: $*"
}

# prints CODE TEXT WORD…: and prints just that; TAB stands for |.
prints() {
    local want=$2 code=$1
    shift 2
    run "$code" "$@"
    [ "$(tr '\t' '|' <"$out")" = "$want" ] || die "expected: $want, from: $*"
}

# A listing without UIDs, modseqs and the expunged column, in an order of its own.
contents() {
    "${S[@]}" list "$@" | cut -f 3-7 | sort
}

same() {
    [ "$1" = "$2" ] || die "$3: not equal:"$'\n'"$1"$'\n'"$2"
}

now() {
    "${S[@]}" journal status | cut -f 2
}

append() {
    printf 'Subject: %s\r\n\r\n%s\r\n' "$2" "$2" | "${S[@]}" append "$1" "${@:3}" >/dev/null
}

run 0 init
run 0 create INBOX
for n in 1 2 3 4 5; do
    append INBOX "$n" --flags '\Seen,Work'
done
run 0 flags INBOX 1:2 +'\Seen' --as bob
run 0 meta set INBOX /comment hello
run 0 meta set INBOX /private 1 --as bob
then=$(now)
listing=$(contents INBOX)
bobs=$(contents INBOX --as bob)

echo "- diff"
prints 0 '' diff INBOX "$then"
run 0 flags INBOX 3 -Work
run 0 expunge INBOX 1:2
run 0 flags INBOX 4 +'\Seen' --as bob
append INBOX new --flags Fresh
run 0 meta unset INBOX /comment
run 0 meta set INBOX /more 2
changes='removed|1|Work,\Seen|-
removed|2|Work,\Seen|-
changed|3|Work,\Seen|\Seen
added|6|-|Fresh'
prints 1 "$changes" diff INBOX "$then"
prints 1 "$changes" diff INBOX "$then" "$(now)"
prints 1 'changed|3|Work,\Seen|\Seen' diff INBOX "$then" "$((then + 1))"
prints 1 'added|1|-|Work,\Seen
added|2|-|Work,\Seen' diff INBOX "$((then + 2))" "$((then + 1))"
prints 0 '' diff INBOX "$((then + 2))" "$((then + 3))"
run 1 diff INBOX "$then" --as bob
grep -q 'changed.4.Work.Work,.Seen' "$out" || die "what bob has seen"
run 1 --json diff INBOX "$then"
grep -q '{"change":"removed","uid":1,"before":\["Work","\\\\Seen"\],"after":null}' "$out" || die "diff in JSON"
run 1 diff INBOX 1
[ "$(cut -f 1 "$out" | sort -u)" = added ] || die "before it was made nothing was there"
run 3 diff Nowhere "$then"
run 3 diff INBOX 4000
run 2 diff INBOX
run 2 diff INBOX noonish

echo "- restore"
run 0 rename INBOX Moved
before=$(now)
prints 1 'rename|-|Moved|INBOX|-
flags|3|\Seen|Work,\Seen|-
append|1|-|Work,\Seen|-
append|2|-|Work,\Seen|-
expunge|6|Fresh|-|-
seen|1:2|-|\Seen as bob|-
seen|4|\Seen as bob|-|-
meta|-|-|/comment=hello|-
meta|-|/more=2|-|-' restore INBOX --at "$then" --dry-run
same "$before" "$(now)" "a dry run changes nothing"
run 2 restore INBOX
run 3 restore INBOX --at 4000
run 3 restore Nowhere --at "$then"
run 3 restore INBOX --at 0
run 4 restore INBOX --at "$then" --into Moved
run 4 restore INBOX --at "$then" --into '~ann/X'
same "$before" "$(now)" "what is refused changes nothing"
run 0 restore INBOX --at "$then"
same "$listing" "$(contents INBOX)" "restored"
same "$bobs" "$(contents INBOX --as bob)" "what bob had seen"
same "$(printf '/comment\thello')" "$("${S[@]}" meta list INBOX)" "meta values"
[ "$("${S[@]}" list INBOX | cut -f 1 | tr '\n' ' ')" = "3 4 5 7 8 " ] || die "a UID was used again"
after=$(now)
prints 0 '' restore INBOX --at "$then"
prints 0 '' restore INBOX --at "$then" --dry-run
same "$after" "$(now)" "a second restore finds nothing to do"
same "$listing" "$(contents INBOX --at "$then")" "the past was not rewritten"

echo "- restore into a new mailbox"
run 1 restore INBOX --at "$then" --into Copy --dry-run
run 0 restore INBOX --at "$then" --into Copy
same "$("${S[@]}" list INBOX --at "$then" | cut -f 1,3-)" "$("${S[@]}" list Copy | cut -f 1,3-)" "with its UIDs"
same "$bobs" "$(contents Copy --as bob)" "what bob had seen, in the copy"
run 4 restore INBOX --at "$then" --into Copy

echo "- a deleted mailbox"
run 0 delete Copy
run 3 list Copy
run 1 restore Copy --at "$(($(now) - 1))" --dry-run
run 0 restore Copy --at "$(($(now) - 1))"
same "$listing" "$(contents Copy)" "revived"
run 0 delete Copy
gone=$(now)
run 0 create Copy
run 4 restore Copy --at "$((gone - 1))"
run 0 delete Copy

echo "- content that was purged"
run 0 create Box
append Box once
append Box INBOX
append Box twice --flags One
then=$(now)
listing=$(contents Box)
run 0 expunge Box 1 --immediate
run 0 expunge Box 3
prints 1 'append|3|-|One|-
gone|1|-|-|-' restore Box --at "$then" --dry-run
prints 1 'append|3|-|One|4
gone|1|-|-|-' restore Box --at "$then"
prints 1 'gone|1|-|-|-' restore Box --at "$then"
same "$(grep -v "$("${S[@]}" list Box 1 --at "$then" | cut -f 7)" <<<"$listing")" "$(contents Box)" "all but what is gone"

echo "- an expired mailbox"
run 0 flags Box 2 +'\Seen' --as bob
run 0 flags Box 2,4 +'\Seen' --as carl
run 0 flags Box 4 -'\Seen' --as carl
run 0 meta set Box /comment 'to be gone'
then=$(now)
listing=$(contents Box --as carl)
run 0 delete Box
run 0 expire --older-than 0s
run 3 list Box
same "$listing" "$(contents Box --at "$then" --as carl)" "behind its expiry"
run 0 journal verify
run 0 check
run 3 restore Box --at "$then"
run 1 restore Box --at "$then" --into Box2
[ "$(cut -f 1 "$out" | sort | uniq -c | tr -s ' \n' ' ')" = " 1 create 2 gone 1 meta " ] || die "only what is not mail is left"

echo "- names of the time"
run 0 create One
append One one
one=$(now)
run 0 rename One Two
run 0 create One
append One other
two=$(now)
run 0 rename One Three
run 0 rename Two One
same "$(contents One --at "$one")" "$(contents Two --at "$two")" "the mailbox that bore the name then"
same "$(contents One --at "$one")" "$(contents One)" "and bears it now"
run 3 list Two
run 3 list Two --at "$one"
id=$("${S[@]}" mailboxes --at "$one" | awk '$1 == "One" {print $2}')
same "$(contents "id:$id" --at "$two")" "$(contents Two --at "$two")" "by id"
run 0 create Two
prints 1 'taken|-|One|Two|-' restore Two --at "$two" --dry-run
prints 1 'taken|-|One|Two|-' restore Two --at "$two"
# Nothing bears the former name, but the mailbox cannot go below itself, or what is below it would be in the way.
run 0 create Deep/down
deep=$(now)
run 0 rename Deep/down Deep
prints 1 'taken|-|Deep|Deep/down|-' restore Deep/down --at "$deep" --dry-run
prints 1 'taken|-|Deep|Deep/down|-' restore Deep/down --at "$deep"
run 0 create Wide
wide=$(now)
run 0 rename Wide Far
run 0 create Far/x
run 0 create Wide/x
prints 1 'taken|-|Far|Wide|-' restore Wide --at "$wide" --dry-run
prints 1 'taken|-|Far|Wide|-' restore Wide --at "$wide"
run 0 delete Wide/x
prints 1 'rename|-|Far|Wide|-' restore Wide --at "$wide" --dry-run
prints 0 'rename|-|Far|Wide|-' restore Wide --at "$wide"
run 0 list Wide/x
run 3 list id:0123456789abcdef --at "$one"

echo "- WHEN"
sleep 0.01
mark=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
sleep 0.01
append One later
with=$(contents One)
without=$(contents One --at "$mark")
[ "$with" != "$without" ] || die "a time between two changes"
same "$without" "$(TZ=Asia/Kolkata contents One --at "$(TZ=Asia/Kolkata date -d "$mark" +%Y-%m-%dT%H:%M:%S.%6N)")" "local time"
same "$without" "$(contents One --at "$(TZ=Asia/Kolkata date -d "$mark" +%Y-%m-%dT%H:%M:%S.%6N%:z)")" "another zone"
same "$with" "$(contents One --at '0s ago')" "an age of nothing"
same "$with" "$(contents One --at 2999-01-01T00:00:00Z)" "the future"
run 3 list One --at '3 weeks ago'
run 3 list One --at 1970-01-01T00:00:01Z
run 3 list One --at 0
prints 0 '' mailboxes --at 0
run 3 list One --at "$(($(now) + 1))"
run 2 list One --at 12345678901234567890
run 2 list One --at '3 fortnights ago'

echo "- log"
run 0 log One
[ "$(cut -f 5,6 "$out" | tr '\t\n' '= ')" = "create=One append=One rename=Two create=One append=One rename=Three rename=One append=One " ] ||
    die "log of a mailbox by its name"
# Two mailboxes bore the name: both, all their lives, under the names of the time.
run 0 log Three
[ "$(cut -f 5,6 "$out" | tr '\t\n' '= ')" = "create=One append=One rename=Three " ] || die "log of a mailbox by a later name"
run 0 log One --kind rename
[ "$(cut -f 7,8,9 "$out" | tr '\t\n' '= ')" = "-=One=Two -=One=Three -=Two=One " ] || die "log --kind"
first=$(cut -f 1 "$out" | head -n 1)
run 0 log One --kind rename --since "$((first + 1))"
[ "$(wc -l <"$out")" -eq 2 ] || die "log --since"
run 0 log One --kind rename --until "$first"
[ "$(cut -f 1 "$out")" = "$first" ] || die "log --until"
run 0 log INBOX --uid 3
[ "$(cut -f 5,8,9 "$out" | tr '\t\n' '= ')" = 'append=-=Work,\Seen flags=Work,\Seen=\Seen flags=\Seen=Work,\Seen ' ] || die "log --uid"
run 0 log Box2 --kind append
run 0 log Copy --kind create
[ "$(cut -f 8,9 "$out" | sed 's/,uid.*//' | tr '\t\n' '= ')" = '-=Copy deleted=live -=Copy ' ] || die "what a revived mailbox was"
run 0 --json log INBOX --kind expunge
grep -q '"kind":"expunge","mailbox":"INBOX","uids":"1:2","before":null,"after":null' "$out" || die "log in JSON"
run 2 log --kind nonesuch
run 2 log --uid 0
run 2 log --follow --file x
run 3 log Nowhere
run 3 log --since 4000

echo "- log --follow"
# A shell without job control starts it with SIGINT ignored.
env --default-signal=INT "${S[@]}" log One --since "$(now)" --follow >followed &
follower=$!
append One followed
for _ in $(seq 100); do
    [ "$(cut -f 5 followed | tail -n 1)" = append ] && [ "$(wc -l <followed)" -ge 2 ] && break
    sleep 0.1
done
[ "$(tail -n 1 followed | cut -f 5,6)" = "$(printf 'append\tOne')" ] || die "what happens is shown"
kill -INT "$follower"
code=0
wait "$follower" || code=$?
[ "$code" -eq 130 ] || die "SIGINT ends it, not $code"
# Nothing more happens, but the reader has gone.
code=0
timeout 20 "${S[@]}" log One --follow | head -n 1 >/dev/null || code=$?
[ "$code" -ne 124 ] || die "a reader that went away ends it"

echo "- log --file"
tail=$work/tail
: >"$tail"
run 0 log --file "$tail"
[ ! -s "$out" ] || die "an empty file"
run 3 log --file "$work/none"
printf 'junk' >"$tail"
run 5 log --file "$tail"

echo "- a replica"
run 0 copy "$work/replica"
[ -d "$work/replica" ]
master=("${S[@]}")
S=("$bin/shiplog" -s "$work/replica")
same "$without" "$(contents One --at "$mark")" "looking back at a replica"
run 4 restore One --at "$mark"
run 1 restore One --at "$mark" --dry-run
S=("${master[@]}")
