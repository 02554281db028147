#!/bin/sh
# Prints the folder of a PostgreSQL server's programs, version 15 or newer; fails when there is none.
# Debian keeps them out of PATH, so both are looked through: PATH first, then the newest of Debian's.
set -u

usable() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ -x "$1/createdb" ] || return 1
    major=$("$1/initdb" --version | sed -n 's/^initdb (PostgreSQL) \([0-9][0-9]*\).*/\1/p')
    [ -n "$major" ] && [ "$major" -ge 15 ]
}

if found=$(command -v initdb); then
    # Often a link to the real folder, beside which the other programs are.
    bin=$(dirname "$(readlink -f "$found")")
    if usable "$bin"; then
        printf '%s\n' "$bin"
        exit 0
    fi
fi

for bin in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5,5nr); do
    if usable "$bin"; then
        printf '%s\n' "$bin"
        exit 0
    fi
done
exit 1
