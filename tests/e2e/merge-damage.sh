#!/bin/bash
# Records that are lost or changed behind the program's back: noticed, healed from the other end, and never taken for an expunge.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=ends.bash
. "$SHIPLOG_SOURCE/tests/e2e/ends.bash"

# damage NODE UID HOW
damage() {
    "$bin/tests/damage" "$work/$1" INBOX "$2" "$3" 2>"$err" || die "damage $*"
}

for how in lose change spoil cut; do
    echo "- a record at the replica, $how: noticed by the next entry about it"
    begin 4
    damage B 2 "$how"
    fails 1 B check
    A flags INBOX 2 +'\Seen'
    sync 0 A B
    sound A B
    both_have INBOX '1:m1:- 2:m2:\Seen 3:m3:- 4:m4:-'

    echo "- found by check, healed by check --repair and sync"
    begin 4
    damage B 2 "$how"
    fails 5 B list INBOX
    fails 5 B list INBOX 2
    fails 1 B check --repair
    sync 0 A B
    sound A B
    both_have INBOX '1:m1:- 2:m2:- 3:m3:- 4:m4:-'

    echo "- at the master: the replica has it"
    begin 4
    damage A 2 "$how"
    fails 1 A check --repair
    sync 0 A B
    sound A B
    both_have INBOX '1:m1:- 2:m2:- 3:m3:- 4:m4:-'

    echo "- at the master, that went on unaware"
    begin 4
    damage A 2 "$how"
    A flags INBOX 3 +'\Seen'
    append A INBOX a1
    sync 0 A B
    fails 1 A check --repair
    sync 0 A B
    sound A B
    both_have INBOX '1:m1:- 2:m2:- 3:m3:\Seen 4:m4:- 5:a1:-'

    for end in A B; do
        echo "- at $end before the merge of a fork, $how"
        begin 4
        apart
        : >"$work/past.before"
        append A INBOX a1
        append B INBOX b1
        A flags INBOX 1 +'\Seen'
        B flags INBOX 1 +'\Flagged'
        B expunge INBOX 3
        see A before
        see B before
        damage "$end" 2 "$how"
        seen=yes healed=2 merge
        A list INBOX
        [ "$(wc -l <"$out")" -eq 5 ] || die "not 5 messages"
        case "$(mail B INBOX)" in
        '1:m1:\Flagged,\Seen 2:m2:- 4:m4:- '*) ;;
        *) die "not what it was: $(mail B INBOX)" ;;
        esac
    done
done
