#!/bin/sh
# Brings what the tests need and this machine lacks: a PostgreSQL server (15 or newer), a Python environment with
# Google's client and what verifies signatures, pinned by tests/acceptance/requirements.txt, and the same for Node,
# pinned by tests/acceptance/package-lock.json. Installs only what is missing, so a second run does nothing.
set -eu
cd "$(dirname "$0")/.."

requirements=tests/acceptance/requirements.txt
venv=.cache/venv
packages=tests/acceptance
node=.cache/node

apt_install() {
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        printf 'missing: %s\n         install it with: apt-get install --yes %s      (as root)\n' "$1" "$1" >&2
        exit 1
    fi
    printf 'setup: installing %s\n' "$1"
    $as_root apt-get update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1"
}

# The server: the tests start throw-away clusters of their own, never this machine's.
if ! scripts/postgres-bin.sh >/dev/null; then
    apt_install postgresql
    if ! scripts/postgres-bin.sh >/dev/null; then
        echo 'setup: no PostgreSQL was found, or one older than 15: see scripts/postgres-bin.sh' >&2
        exit 1
    fi
fi

# The Python environment, made again whenever its list or its Python has changed.
if ! cmp -s "$requirements" "$venv/requirements.txt" || ! "$venv/bin/python" -c 'import googleapiclient, jwt, schemathesis, standardwebhooks'; then
    python3 -c 'import ensurepip, venv' || apt_install python3-venv
    printf 'setup: making %s\n' "$venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi

# The Node packages, likewise.
if ! cmp -s "$packages/package-lock.json" "$node/package-lock.json" || ! [ -d "$node/node_modules/standardwebhooks" ]; then
    command -v node >/dev/null 2>&1 || apt_install nodejs
    command -v npm >/dev/null 2>&1 || apt_install npm
    printf 'setup: making %s\n' "$node"
    rm -rf "$node"
    mkdir -p "$node"
    cp "$packages/package.json" "$packages/package-lock.json" "$node/"
    (cd "$node" && npm ci --ignore-scripts --no-audit --no-fund --silent)
fi
