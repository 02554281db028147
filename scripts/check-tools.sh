#!/bin/sh
# Names what cannot be built without, and the command that installs it, before anything else happens.
# usage: check-tools.sh [lints]      with `lints`, rustfmt and clippy are wanted as well
set -u

missing=0
miss() {
    printf 'missing: %s\n         install it with: %s\n' "$1" "$2" >&2
    missing=1
}

command -v cc >/dev/null 2>&1 ||
    miss 'cc, a C compiler (SQLite and the cryptography are built from source)' \
        'apt-get install --yes build-essential      (as root, or with sudo)'

if ! command -v cargo >/dev/null 2>&1; then
    miss 'cargo, the Rust toolchain (1.95 or newer)' \
        "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh      (then open a new shell)"
elif [ "${1:-}" = lints ]; then
    cargo fmt --version >/dev/null 2>&1 || miss rustfmt 'rustup component add rustfmt'
    cargo clippy --version >/dev/null 2>&1 || miss clippy 'rustup component add clippy'
fi

exit "$missing"
