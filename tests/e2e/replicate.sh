#!/bin/bash
# Two stores and their agents under load from three writers, with kill -9 of agents and writers: afterwards the ends are equal, nothing that
# was reported done is missing, nothing is there twice, and the past is the same at both ends.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=agents.bash
. "$SHIPLOG_SOURCE/tests/e2e/agents.bash"
rounds=${ROUNDS:-12}
patience=$((120 + 5 * rounds)) # seconds
seed=${SEED:-$$}
RANDOM=$seed
echo "seed $seed"
A=("$bin/shiplog" -s a)
B=("$bin/shiplog" -s b)

# Its port may be another's for the moment.
start_a() {
    for ((starts = 0; starts < 50; starts++)); do
        if begin a --listen "127.0.0.1:$port"; then
            port=$(sed -n 's/^listening .*://p' a.out)
            return
        fi
        wait "${agent[a]}" 2>/dev/null || true
        sleep 0.1
    done
    die "a: the agent does not start"
}
start_b() { start b --follow "127.0.0.1:$port"; }
stop_hard() {
    kill -9 "${agent[$1]}"
    wait "${agent[$1]}" 2>/dev/null || true
}

# A writer, as long as rounds may take on a slow machine, notes each message only after its append was reported done.
writer() {
    local box=$1 i
    for ((i = 1; SECONDS < patience; i++)); do
        [ ! -e stop ] || break
        if printf 'Subject: %s %d\r\n\r\n%*d\r\n' "$box" "$i" $((RANDOM % 5000)) "$i" >"$box.message" &&
            "${A[@]}" append "$box" "$box.message" >/dev/null; then
            sha256sum <"$box.message" | cut -d ' ' -f 1 >>"$box.done"
        fi
        "${A[@]}" flags "$box" "$((RANDOM % i + 1)):*" '+\Flagged' || true
        [ $((i % 7)) -ne 0 ] || "${A[@]}" copy-messages "$box" "$i:*" other >/dev/null || true
        [ $((i % 5)) -ne 0 ] || "${A[@]}" expunge other '1:3' --immediate >/dev/null || true
        [ $((i % 11)) -ne 0 ] || { "${A[@]}" create "$box-x" && "${A[@]}" rename "$box-x" "$box-y" && "${A[@]}" delete "$box-y"; } || true
    done
}

port=0
"${A[@]}" init
"${B[@]}" init --replica
for box in one two three other; do "${A[@]}" create "$box"; done
start_a
start_b
writers=()
for box in one two three; do
    writer "$box" 2>/dev/null &
    writers+=($!)
done
recorded=()
for ((round = 0; round < rounds; round++)); do
    sleep "0.$((RANDOM % 4 + 1))"
    if ((RANDOM % 2)); then
        stop_hard b
        start_b
    else
        stop_hard a
        start_a
    fi
    # A moment of a mailbox, by its own last entry: the listing must come back.
    now=$("${A[@]}" journal status | cut -f 2)
    "${A[@]}" list one --at "$now" >"at.$now"
    recorded+=("$now")
    # A command that is killed has done its commit or has not.
    timeout -s KILL "0.0$((RANDOM % 9 + 1))" "${A[@]}" append two </etc/hostname >/dev/null 2>&1 || true
done
touch stop
wait "${writers[@]}" || true

for ((waits = 0; waits < 600; waits++)); do
    [ "$("${A[@]}" digest)" != "$("${B[@]}" digest)" ] || break
    sleep 0.05
done
diff <("${A[@]}" digest) <("${B[@]}" digest)
for end in a b; do
    store=("$bin/shiplog" -s "$end")
    "${store[@]}" check
    "${store[@]}" journal verify
    for box in one two three; do
        "${store[@]}" list "$box" | cut -f 7 | sort >have
        sort "$box.done" | comm -23 - have >missing
        [ ! -s missing ] || { echo "$end: $box: messages that were reported done are missing"; exit 1; }
        [ "$box" = two ] || [ -z "$(uniq -d have)" ] || { echo "$end: $box: a message is there twice"; exit 1; }
    done
    for now in "${recorded[@]}"; do
        "${store[@]}" list one --at "$now" | cmp - "at.$now"
    done
    "${store[@]}" list one | while IFS=$'\t' read -r uid _ _ _ _ _ guid _; do
        [ "$("${store[@]}" cat one "$uid" | sha256sum | cut -d ' ' -f 1)" = "$guid" ] || { echo "$end: UID $uid has other bytes"; exit 1; }
    done
done
echo "entries: $("${A[@]}" journal status | cut -f 3), messages: $(cat ./*.done | wc -l), rounds: $rounds"
