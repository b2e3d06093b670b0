#!/bin/sh
# Formatting and clippy, over everything. Any warning fails. And whether the fuzz targets compile.
set -eu
cd "$(dirname "$0")/../.."

cargo fmt --check
cargo clippy --locked --no-default-features --all-targets -- --deny warnings

# The fuzz targets are a workspace of their own, which nothing else here builds: that they still compile. It takes neither cargo-fuzz
# nor a C++ compiler: the variable stands for a built fuzzer, which is linked only where one is run.
CUSTOM_LIBFUZZER_PATH="$PWD/fuzz/Cargo.toml" cargo check --locked --manifest-path fuzz/Cargo.toml

# The rest: `cargo clippy` would check the whole AWS SDK, minutes of it, beside compiling it for the tests. As the compiler of
# our own code alone, clippy works on top of that build, and `make test` then runs what it has compiled. Cargo cannot turn
# these warnings into errors by itself.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo 'Now the same over the AWS SDK, and what the tests need; the first time ten to twenty minutes'
{ RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo test --locked --no-run 2>&1 && echo 'lint: compiled'; } | tee "$log" >&2
grep -q '^lint: compiled$' "$log" || exit 1
if grep -q '^warning' "$log"; then
    exit 1
fi
