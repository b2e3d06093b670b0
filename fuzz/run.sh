#!/bin/sh
# Fuzzes each target for so many seconds, or those that are named:
#   fuzz/run.sh [SECONDS [TARGET...]]
# Exit status: 0 nothing was found, 1 something was (the input is in fuzz/artifacts), 77 nothing was run: cargo-fuzz is missing.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'fuzzing: NOT RUN: cargo-fuzz is missing: cargo install --locked cargo-fuzz' >&2
    exit 77
fi

# Our code and what it parses with have no `unsafe` of their own worth a sanitizer, and without one the stable toolchain does.
targets=${*:-$(cargo fuzz list)}
for target in $targets; do
    samples=
    [ "$target" = event ] && samples=events
    mkdir -p "fuzz/corpus/$target"
    echo "fuzzing: $target, $seconds s"
    # shellcheck disable=SC2086
    if ! cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" $samples -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 >"fuzz/corpus/$target.log" 2>&1; then
        tail -n 30 "fuzz/corpus/$target.log" >&2
        echo "fuzzing: $target: FOUND: the input is in fuzz/artifacts/$target" >&2
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: */fuzzing: executions: /p' "fuzz/corpus/$target.log"
done
