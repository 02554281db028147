#!/bin/sh
# Holds the dependencies against deny.toml, as far as this machine can without fetching anything: licences, bans and
# sources where cargo-deny is installed, advisories where their database has been fetched as well.
set -eu
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo 'deny: skipped, cargo-deny is not installed: cargo install cargo-deny --locked'
    exit 0
fi
checks='bans licenses sources'
set -- "${CARGO_HOME:-$HOME/.cargo}"/advisory-dbs/advisory-db-*
if [ -d "$1" ]; then
    checks="advisories $checks"
else
    echo 'deny: advisories skipped, their database was never fetched: cargo deny fetch'
fi
# Apart on purpose: each word is a check.
# shellcheck disable=SC2086
cargo deny --offline --locked --log-level error check $checks
