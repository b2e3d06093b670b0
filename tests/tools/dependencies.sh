#!/bin/sh
# What cargo builds, checked: nothing twice for the tests' sake, and no C library.
set -eu
cd "$(dirname "$0")/../.."

# Packages and their features; "$1" is the kinds of dependency that count.
features() {
    cargo tree --locked --edges "$1" --prefix none --format '{p} {f}' | sed 's/ (\*)$//' | sort -u |
        grep -E '^(tokio|tokio-rustls|hyper|hyper-util|rustls|aws-[a-z0-9-]+) v'
}

# A feature that only the tests ask for would have the SDK compiled a second time.
without=$(features normal)
with=$(features normal,dev)
if [ "$without" != "$with" ]; then
    printf 'The dev-dependencies change features that the SDK is built with:\n--- without them\n%s\n--- with them\n%s\n' \
        "$without" "$with" >&2
    exit 1
fi

# OpenSSL, aws-lc and cmake want a C toolchain; hyper 0.14 is the SDK's legacy stack. `make deny` asks for more.
for name in openssl openssl-sys native-tls aws-lc-rs aws-lc-sys cmake; do
    if grep -q "^name = \"$name\"" Cargo.lock; then
        echo "$name is not wanted among the dependencies; cargo tree -i $name says who asks for it" >&2
        exit 1
    fi
done
if grep -A 1 '^name = "hyper"' Cargo.lock | grep -q '^version = "0'; then
    echo 'hyper 0.14 is not wanted among the dependencies; cargo tree -i hyper@0.14 says who asks for it' >&2
    exit 1
fi

echo "dependencies: none that is banned, and the tests build the SDK's $(printf '%s\n' "$with" | wc -l) packages as the function does"
