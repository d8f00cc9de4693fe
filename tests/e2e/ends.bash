# shellcheck shell=bash
# For scripts about nodes that went apart and are merged: sourced, not run. Nodes are stores in a scratch directory, called by one letter;
# A is the master that the others are merged into.
set -euo pipefail
bin=$SHIPLOG_BIN
shiplog=$bin/shiplog
work=$(mktemp -d)
[ -n "${KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
out=$work/out err=$work/err names=$work/names
export TZ=UTC
unset SHIPLOG_STORE
cd "$work"

die() {
    printf '%s\n' "$*" >&2
    printf -- '--- stdout\n%s\n--- stderr\n%s\n' "$(cat "$out")" "$(cat "$err")" >&2
    exit 1
}

# A WORD…: a command on that node, which must succeed. Its output is in $out, and printed.
on() {
    local node=$1 code=0
    shift
    "$shiplog" -s "$work/$node" "$@" >"$out" 2>"$err" || code=$?
    [ "$code" -eq 0 ] || die "exit code $code on "$node": $*"
}
A() { on A "$@"; }
B() { on B "$@"; }
C() { on C "$@"; }

# fails CODE NODE WORD…
fails() {
    local want=$1 node=$2 code=0
    shift 2
    "$shiplog" -s "$work/$node" "$@" >"$out" 2>"$err" || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want, on "$node": $*"
}

# append NODE MAILBOX TEXT [OPTION…]: a message known by its text from then on.
append() {
    local node=$1 mailbox=$2 text=$3
    shift 3
    printf 'Subject: %s\r\n\r\n%s\r\n' "$text" "$text" >"$work/message"
    printf '%s\t%s\n' "$(sha256sum <"$work/message" | cut -c 1-64)" "$text" >>"$names"
    on "$node" append "$mailbox" "$@" "$work/message"
}

# mail NODE MAILBOX [OPTION…]: what is there, as UID:TEXT:FLAGS, by UID.
mail() {
    on "$1" list "${@:2}"
    awk -F '\t' -v OFS=: 'NR == FNR { name[$1] = $2; next } { print $1, ($7 in name ? name[$7] : $7), $3 }' "$names" "$out" |
        paste -s -d ' '
}

# has NODE MAILBOX TEXT: what mail() says; "*" as a UID stands for any.
has() {
    local found want=$3
    found=$(mail "$1" "$2")
    [ "$(sed -E 's/(^| )[0-9]+:/\1*:/g' <<<"$found")" = "$want" ] || [ "$found" = "$want" ] ||
        die "$2 on $1:"$'\n'"$found"$'\n'"expected:"$'\n'"$want"
}

# both_have MAILBOX TEXT
both_have() {
    has A "$1" "$2"
    has B "$1" "$2"
}

same() {
    [ "$1" = "$2" ] || die "$3: not equal:"$'\n'"$1"$'\n'"$2"
}

last() {
    on "$1" digest
    awk -F '\t' '$1 == "-" { sub(":.*", "", $3); print $3 }' "$out"
}

# begin [N]: A with N messages in INBOX, and B, its copy.
begin() {
    local n
    rm -rf "$work"/[ABC] "$work"/view.* "$work"/past.*
    : >"$names"
    A init
    A create INBOX
    for ((n = 1; n <= ${1:-3}; n++)); do append A INBOX "m$n"; done
    A copy "$work/B"
}

# From here on both write.
apart() {
    past A
    B promote
}

# past NODE: what NODE says about its past up to now.
past() {
    fork_at=$(last "$1")
    tell_past "$1" >"$work/past.before"
}

tell_past() {
    local at
    for at in $((fork_at > 3 ? fork_at - 2 : 2)) "$fork_at"; do
        on "$1" mailboxes --at "$at"
        cat "$out"
        cut -f 2 "$out" >"$work/ids"
        while read -r id; do
            on "$1" list "id:$id" --at "$at"
            cat "$out"
        done <"$work/ids"
    done
}

# see NODE WHEN: what clients of NODE may see, kept as WHEN.
see() {
    local id
    local into=$work/view.$1.$2
    rm -rf "$into"
    mkdir "$into"
    on "$1" mailboxes
    cp "$out" "$into/mailboxes"
    cut -f 2 "$into/mailboxes" >"$work/ids"
    while read -r id; do
        on "$1" list "id:$id" --expunged
        cp "$out" "$into/$id"
    done <"$work/ids"
}

# told CLIENT NODE: a client that saw CLIENT before asks NODE now for what changed since: it learns of everything, no UID shows another
# message, and none that it knows to be gone comes back. healed: UIDs that may come back, because damage had taken them.
told() {
    local id before=$work/view.$1.before after=$work/view.$2.after
    cut -f 2 "$before/mailboxes" >"$work/ids"
    while read -r id; do
        [ -e "$after/$id" ] || continue
        awk -F '\t' -v id="$id" -v healed=" ${healed:-} " '
            FNR == 1 { file++ }
            file == 1 && $2 == id { validity = $6; next_uid = $7; since = $8 }
            file == 2 && $2 == id {
                if ($6 < validity) print "UIDVALIDITY went back"
                if ($6 != validity) exit
                if ($7 < next_uid) print "UIDNEXT went back"
                if ($8 < since) print "HIGHESTMODSEQ went back"
                deleted = $9
            }
            FILENAME == ARGV[3] && $8 == "no" { guid[$1] = $7; flags[$1] = $3 }
            FILENAME != ARGV[4] { next }
            { seen[$1] = 1; known = ($1 in guid); back = index(healed, " " $1 " ") }
            $8 == "no" && known && guid[$1] != $7 { print "UID " $1 " shows another message" }
            $8 == "no" && known && flags[$1] != $3 && $2 <= since { print "UID " $1 ": its flags changed unheard" }
            $8 == "no" && !known && $1 < next_uid && !back { print "UID " $1 " came back" }
            $8 == "no" && !known && $2 <= since && !back { print "UID " $1 " is new unheard" }
            $8 == "yes" && known && $2 <= since { print "UID " $1 " vanished unheard" }
            END {
                for (uid in guid)
                    if (!(uid in seen) && deleted <= since) print "UID " uid " is gone without a word"
            }
        ' "$before/mailboxes" "$after/mailboxes" "$before/$id" "$after/$id" >"$work/complaints"
        if [ -s "$work/complaints" ]; then die "id:$id: a client of $1 asks $2: $(cat "$work/complaints")"; fi
    done <"$work/ids"
}

# sync CODE MASTER REPLICA [OPTION…]: output in $out; the store's line as variables.
sync() {
    local want=$1 code=0
    "$shiplog" sync "${@:4}" "$work/$2" "$work/$3" >"$out" 2>"$err" || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want: sync ${*:4} $2 $3"
    IFS=$'\t' read -r _ tier reason sent renumbered copied_back expunged wire_bytes position aside < <(tail -n 1 "$out") || true
    return 0
}

# sound MASTER REPLICA: equal, and nothing is wrong at either end.
sound() {
    local node
    on "$1" digest
    cp "$out" "$work/digest.1"
    on "$2" digest
    cp "$out" "$work/digest.2"
    cmp -s "$work/digest.1" "$work/digest.2" || die "digests of $1 and $2 differ:"$'\n'"$(diff "$work/digest.1" "$work/digest.2")"
    for node in "$1" "$2"; do
        on "$node" check
        on "$node" journal verify
    done
    sync 0 "$1" "$2"
    [ "$tier" = none ] || die "a second sync is not idle: $tier"
    [ "$wire_bytes" -lt 1024 ] || die "a second sync sends $wire_bytes bytes"
}

# meet MASTER NODE: NODE, a replica by now, is merged into MASTER, with everything that must hold whatever happened before.
meet() {
    if [ -z "${seen:-}" ]; then
        see "$1" before
        see "$2" before
    fi
    sync 0 "$1" "$2"
    cp "$out" "$work/merged"
    local found="$tier $reason" kept=$aside client node
    sound "$1" "$2"
    see "$1" after
    see "$2" after
    for client in "$1" "$2"; do
        for node in "$1" "$2"; do told "$client" "$node"; done
    done
    for node in "$1" "$2"; do
        [ ! -s "$work/past.before" ] || same "$(cat "$work/past.before")" "$(tell_past "$node")" "the past of $node"
    done
    tier=${found%% *} reason=${found#* } aside=$kept
}

# merge: B goes back to following A.
merge() {
    B demote
    meet A B
}

# B catches up with A by its journal.
catch_up() {
    sync 0 A B
    [ "$tier" = tail ] || die "not the tail: $tier"
}
