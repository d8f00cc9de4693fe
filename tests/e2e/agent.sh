#!/bin/bash
# shiplogd as its users meet it: how it starts, what it refuses, how it ends; that every byte of any message arrives; and that its memory stays
# small whatever is shipped.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"
most=32768 # kB of memory of its own that an agent may use
A=("$bin/shiplog" -s a)
B=("$bin/shiplog" -s b)

# stop NAME: it ends in good order.
stop() {
    local code=0
    kill -TERM "${agent[$1]}"
    wait "${agent[$1]}" || code=$?
    unset "agent[$1]"
    [ "$code" -eq 0 ] || die "$1: exit code $code"
}

# refused CODE PATTERN OPTION…: an agent does not start, and says why in one line.
refused() {
    local want=$1 pattern=$2 code=0
    shift 2
    timeout 10 "$bin/shiplogd" "$@" >refused.out 2>refused.log || code=$?
    [ "$code" -eq "$want" ] || die "exit code $code, not $want: $*"
    [ ! -s refused.out ] || die "refused, but with output: $*"
    [ "$(wc -l <refused.log)" -eq 1 ] || die "not one line: $*"
    grep -q -E -- "$pattern" refused.log || die "not because of $pattern: $*"
}

position() { "$bin/shiplog" -s "$1" status | head -n 1 | cut -f 5; }

# Until both ends are at one position, and their digests must be equal then.
wait_equal() {
    for ((waits = 0; waits < 1200; waits++)); do
        [ "$(position a)" != "$(position b)" ] || break
        sleep 0.05
    done
    diff <("${A[@]}" digest) <("${B[@]}" digest) || die "the ends are not equal"
}

agent_of() { "$bin/shiplog" -s "$1" status | head -n 1 | cut -f 9; }

echo "- start and end"
"${A[@]}" init
"${B[@]}" init --replica
"${A[@]}" create INBOX
listen=(--listen 127.0.0.1:0)
"$bin/shiplogd" --help | grep -q '^usage: shiplogd' || die "no help"
refused 2 usage
refused 2 usage --store a
refused 2 usage --store a --listen
refused 2 usage --store a "${listen[@]}" --verbose yes
refused 2 usage --follow 127.0.0.1:1 --store b
refused 2 usage --store b --follow 127.0.0.1:1 --follow 127.0.0.1:2
refused 2 ADDRESS:PORT --store a --listen 7700
refused 4 loopback --store a --listen 0.0.0.0:0
refused 4 loopback --store b --follow 192.0.2.1:7700
refused 3 none --store none "${listen[@]}"
refused 4 'open in this process' --store a --store a "${listen[@]}"
SHIPLOG_LOG=loud refused 2 'loud: not a level' --store a "${listen[@]}"
[ "$(agent_of a)" = "not running" ] || die "an agent runs that was not started"
start a "${listen[@]}"
address=$(sed -n 's/^listening //p' a.out)
[ "$(agent_of a)" = running ] || die "the agent runs unnoticed"
refused 4 'runs already' --store a "${listen[@]}"
refused 5 'address already in use' --store b --listen "$address"
SHIPLOG_LOG=debug start b --follow "$address" --name second
[ "$(cat b.out)" = "following $address" ] || die "what a follower prints"
wait_equal
for ((waits = 0; waits < 200; waits++)); do
    slot=$("${A[@]}" status | sed -n 2p)
    [ -z "$slot" ] || break
    sleep 0.05
done
[ "$(cut -f 1,6 <<<"$slot")" = $'second\tconnected' ] || die "a slot: $slot"
"${A[@]}" create Awaited
"${A[@]}" wait --timeout 8 || die "the follower has it, but the one who waits is not told"
diff <("${A[@]}" digest) <("${B[@]}" digest) || die "waited for, but not there"
grep -q "level=debug event=applied store=b modseq=$(position a | cut -d : -f 1)\$" b.log || die "what was applied is not logged"
"${B[@]}" wait "$(position a | cut -d : -f 1)" --replicas 0 || die "a replica that has it already"
code=0
"${A[@]}" wait --replicas 2 --timeout 0 2>wait.err || code=$?
[ "$code" -eq 6 ] || die "waited for two of one: $code"
grep -q '1 of 2' wait.err || die "does not say how many have it"
stop b
stop a
[ "$(agent_of a)" = "not running" ] || die "the agent's end is not noticed"
[ "$("${A[@]}" status | sed -n 2p | cut -f 1,2,6)" = $'second\t'"$(position a)"$'\taway' ] || die "the slot of a follower that went"

echo "- a killed agent is succeeded"
start a "${listen[@]}"
kill -9 "${agent[a]}"
wait "${agent[a]}" 2>/dev/null || true
start a "${listen[@]}"
address=$(sed -n 's/^listening //p' a.out)
start b --follow "$address" --name second

echo "- garbage sent to the port"
# rubbish SCRIPT: what it writes is sent; prints what the agent answers, its end closes the connection.
rubbish() {
    timeout 30 bash -c "exec 3<>/dev/tcp/${address/://} && { $1; } >&3 && cat <&3" 2>/dev/null | tr -d '\0' || true
}
# answered REASON SCRIPT: the agent says why it closes; it logs the same.
answered() {
    rubbish "$2" | grep -q -a -F -- "$1" || die "no answer, or not $1: $2"
}
# A frame is size, CRC-32 and type before its payload. One that comes by and by is waited for a while; both wait beside the others.
answered 'the follower is silent' "printf '\\x44\\0\\0\\0\\1'" &
silent=$!
answered 'the follower is silent' \
    "printf '\\xff\\x0f\\0\\0aaaa\\1'; (for ((n = 0; n < 100; n++)); do printf x || break; sleep 0.2; done) & true" &
slow=$!
wait_equal
"${B[@]}" digest >before
# The ninth byte is the type of a frame, which noise may have, too.
answered 'not a frame' "printf 'It is not'; head -c 100000 /dev/urandom"
answered 'not a frame' "printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'"
answered 'CRC-32 does not match' "printf '\\4\\0\\0\\0aaaa\\1bbbb'"
answered 'a frame of 4294967295 bytes' "printf '\\xff\\xff\\xff\\xff\\0\\0\\0\\0\\1'"
refusals() { grep -c 'event=follower-refused peer="" reason="' a.log; }
before=$(refusals)
for ((n = 0; n < 10; n++)); do
    # Half a frame and the end; nothing and the end; noise from which it goes away without reading.
    for script in "printf '\\xff\\0\\0\\0aaaa\\1half'; exec 3>&-" 'exec 3>&-' 'head -c 5000 /dev/urandom; exec 3>&-'; do
        timeout 10 bash -c "exec 3<>/dev/tcp/${address/://} && { $script; } >&3" 2>/dev/null &
    done
done
for ((waits = 0; waits < 400; waits++)); do
    [ $(($(refusals) - before)) -lt 30 ] || break
    sleep 0.05
done
[ $(($(refusals) - before)) -eq 30 ] || die "30 connections of rubbish, and not a line for each: $(($(refusals) - before))"
"${B[@]}" digest | cmp -s - before || die "rubbish changed a store"
"${A[@]}" create 'After rubbish'
wait_equal
if ! wait "$silent" || ! wait "$slow"; then die "a connection that says too little stays"; fi
grep -q -F 'reason="not a frame of this protocol"' a.log || die "the reason is not logged"
"${A[@]}" check
"${B[@]}" check

echo "- every byte"
mkdir messages
: >messages/empty
printf 'x' >messages/one
printf '\n' >messages/newline
printf '\0' >messages/nul
printf 'Subject: nul\r\n\r\na\0b\0\0c\r\n' >messages/nuls
printf 'Subject: caf\xe9 \xff\xfe\r\n\r\n\x80\x81\r\n' >messages/eight-bit
printf 'Subject: ends\n\nbare lf\nbare cr\rboth\r\n\r\r\n\n\rno end' >messages/line-ends
printf 'From me\n>From you\n.\n..\n' >messages/mbox-like
{ printf 'Subject: a line\r\n\r\n' && head -c 1048576 /dev/zero | tr '\0' y; } >messages/long-line
head -c 1048576 /dev/urandom >messages/noise
head -c 3000001 /dev/urandom | base64 >messages/large
for message in messages/*; do
    uid=$("${A[@]}" append INBOX "$message")
    echo "$uid $message" >>uids
done
wait_equal
while read -r uid message; do
    for end in a b; do
        "$bin/shiplog" -s "$end" cat INBOX "$uid" | cmp - "$message" || die "$end: $message came back otherwise"
    done
done <uids
"${B[@]}" check

echo "- memory"
own() { awk '/^RssAnon/ { print $2 }' "/proc/$1/status"; }
watch_memory() {
    local end now peak
    declare -A peak=([a]=0 [b]=0)
    for ((samples = 0; samples < 6000; samples++)); do
        for end in a b; do
            now=$(own "${agent[$end]}")
            [ "${now:-0}" -le "${peak[$end]}" ] || echo "$now" >"peak.$end"
            [ "${now:-0}" -le "${peak[$end]}" ] || peak[$end]=$now
        done
        [ ! -e stop ] || break
        sleep 0.02
    done
}
watch_memory &
watcher=$!
head -c 100000000 /dev/urandom >message
uid=$("${A[@]}" append INBOX message)
wait_equal
for end in a b; do
    "$bin/shiplog" -s "$end" cat INBOX "$uid" | cmp - message || die "$end: 100 MB came back otherwise"
done
rm message
# A backlog of small messages, and of entries without any content.
kill -STOP "${agent[b]}"
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "From a@b Thu Aug 22 12:00:00 2024\nSubject: %d\n\n%d\n\n", i, i * 7919 }' >mbox
"${A[@]}" import Many mbox >/dev/null
for ((n = 0; n < 2; n++)); do
    "${A[@]}" create "Copies$n"
    "${A[@]}" copy-messages Many '1:*' "Copies$n" >/dev/null
done
kill -CONT "${agent[b]}"
wait_equal
touch stop
wait "$watcher"
for end in a b; do
    echo "$end: $(cat "peak.$end") kB at most"
    [ "$(cat "peak.$end")" -lt "$most" ] || die "$end: more than $most kB"
done
stop b
stop a
