#!/bin/sh
# Formatting and clippy, over everything. Any warning fails.
set -eu
cd "$(dirname "$0")/../.."

cargo fmt --check
cargo clippy --locked --no-default-features --all-targets -- --deny warnings

# `cargo clippy` would have the whole AWS SDK checked anew, minutes of it, beside the build that the tests need. As the
# compiler of our own code alone, clippy works on top of that build. (cargo cannot yet turn these warnings into errors itself.)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo build --locked --all-targets 2>"$log" || { cat "$log" >&2; exit 1; }
cat "$log" >&2
if grep -q '^warning' "$log"; then
    exit 1
fi
