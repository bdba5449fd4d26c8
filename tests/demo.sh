#!/usr/bin/env bash
# A tour in one go, on an embedded Postgres of its own: 20,000 messages from a plain INSERT to the
# outbox. `make demo` runs it; so does a test. HOST is the binary, PLUGINS the built plugins.
set -euo pipefail
host=${HOST:?} plugins=${PLUGINS:?} messages=${MESSAGES:-20000}
unset DATABASE_URL
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

cd "$(mktemp -d)"
# The server's user must be able to enter when the demo runs as root.
chmod 755 .
log=$PWD/serve.log
serve=
finish() {
    [[ -z $serve ]] || { kill "$serve" 2>/dev/null && wait "$serve" || true; }
    # Its last host stops the embedded server; a failed demo leaves its log to be read.
    [[ -n ${done:-} ]] && rm -rf "$PWD" || cat "$log" 2>/dev/null || true
}
trap finish EXIT

say '$ host queue create emails; host queue create outbox'
"$host" queue create emails
"$host" queue create outbox 2>/dev/null

say '$ host serve &'
"$host" serve 2>"$log" &
serve=$!

say '$ host deploy --queue emails email.wasm'
"$host" deploy --queue emails "$plugins/email.wasm" 2>/dev/null

say "\$ psql: one INSERT of $messages messages, a few of them with bad addresses"
started=$(date +%s%N)
"$host" psql -q -c "
    INSERT INTO queue.emails (payload)
    SELECT jsonb_build_object('template', 'welcome', 'name', 'Reader ' || n,
        'to', CASE WHEN n % 1000 = 0 THEN 'nowhere' ELSE 'reader' || n || '@example.com' END)
    FROM generate_series(1, $messages) n" 2>/dev/null

# Every message ends as a letter in the outbox or as a dead letter.
settled() {
    "$host" psql -qAtX -c "SELECT (SELECT count(*) FROM queue.outbox) + (SELECT count(*) FROM host.emails__dead_letter)" 2>/dev/null
}
until (($(settled) >= messages)); do sleep 0.1; done
ended=$(date +%s%N)

say '$ host status'
"$host" status 2>/dev/null
say '$ host dead list emails --limit 3'
"$host" dead list emails --limit 3 2>/dev/null
say 'One of the letters'
"$host" psql -qAtX -c 'SELECT jsonb_pretty(payload) FROM queue.outbox ORDER BY id LIMIT 1' 2>/dev/null

ms=$(((ended - started) / 1000000))
say "$messages messages inserted, run in a fresh sandbox each, and settled in $ms ms: $((messages * 1000 / ms)) a second"
"$host" psql -qAtX -c "
    SELECT format('%s letters, %s dead letters; updates and deletes on the queues'' tables: %s',
        (SELECT count(*) FROM queue.outbox), (SELECT count(*) FROM host.emails__dead_letter),
        (SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_user_tables
            WHERE schemaname = 'host' AND relname ~ '__(message|lease|settlement|promotion|schedule)_\d+\$'))" 2>/dev/null
done=1
