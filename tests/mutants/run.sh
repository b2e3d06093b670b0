#!/bin/sh
# Plants each bug of tests/mutants/*.patch into a copy of the sources, and lets nothing but the simulation and the model look for it:
#   tests/mutants/run.sh [NAME...]
# Says by which seed, or by which property in which of the model's worlds, each one is caught, and at the end all of it as a table. Fails if one survives,
# a patch no longer applies, or the unpatched sources are accused. A broken rule catches, and a reason that is never met; that the model's worlds have
# another number of states does not, nor does a test that fails for any other reason.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${MUTANTS_DIR:-$root/target/mutants}
seeds=${MUTANTS_SEEDS:-1000}
# Those in which long soaks have found what the first thousand do not.
pinned=$(sed -n '/^const PINNED/,/];/p' "$root/tests/it/simulation.rs" | sed 1d | tr -cd '0-9,\n' | tr ',' ' ')
if [ -z "${pinned% }" ]; then
    echo "tests/it/simulation.rs pins no seeds any more: this script looks for them in PINNED" >&2
    exit 2
fi
mkdir -p "$work"
export CARGO_TARGET_DIR="$work/target" CARGO_PROFILE_DEV_DEBUG=false

# With the time of now: cargo would take sources that are older than what it last built, a bug planted in them, for unchanged.
rm -rf "$work/tree"
mkdir "$work/tree"
(cd "$root" && git ls-files -z -- Cargo.toml Cargo.lock src tests examples | xargs -0 tar -cf - README.md) | tar -xmf - -C "$work/tree"
cd "$work/tree"

# Builds, and fails loudly if that fails: a patch that does not compile is caught by nobody.
build() {
    if ! cargo build --quiet --locked --no-default-features "$@" 2>"$work/build.log"; then
        cat "$work/build.log" >&2
        exit 2
    fi
}

# The first thing that is caught, in a line; nothing if nothing is. What fails by no rule is told, and catches nothing.
catch() {
    rm -f "$work/by-no-rule"
    build --example soak
    for first in 1 $pinned; do
        lives=1
        [ "$first" = 1 ] && lives=$seeds
        if ! "$CARGO_TARGET_DIR/debug/examples/soak" "$first" "$lives" 1 >"$work/soak.log" 2>&1; then
            line=$(grep -m 1 -E '^(BROKEN|never met)' "$work/soak.log" | cut -c 1-160)
            if [ -n "$line" ]; then
                echo "$line"
                return 0
            fi
            touch "$work/by-no-rule"
            echo "the simulation died from seed $first on, by no rule:" >&2
            tail -n 20 "$work/soak.log" >&2
        fi
    done
    build --test it
    if ! EIPWATCH_ANY_COUNT=1 cargo test --quiet --locked --no-default-features --test it -- model:: >"$work/model.log" 2>&1; then
        line=$(grep -m 1 -oE '(BROKEN in the model.*|[a-z0-9]+: never met: .*)' "$work/model.log" | cut -c 1-160)
        if [ -z "$line" ]; then
            touch "$work/by-no-rule"
            echo "the model failed, by no rule:" >&2
            tail -n 20 "$work/model.log" >&2
        fi
        echo "$line"
    fi
}

names=$*
if [ -z "$names" ]; then
    accused=$(catch)
    if [ -n "$accused" ] || [ -e "$work/by-no-rule" ]; then
        echo "unpatched: ${accused:-fails}" >&2
        exit 1
    fi
    echo "unpatched: passes"
    names=$(cd "$root/tests/mutants" && ls -- *.patch)
fi
survived=0
count=0
printf '| patch | caught by |\n| --- | --- |\n' >"$work/table.md"
for name in $names; do
    name=${name%.patch}
    patch --quiet --fuzz=0 -p1 <"$root/tests/mutants/$name.patch"
    by=$(catch)
    patch --quiet --fuzz=0 -R -p1 <"$root/tests/mutants/$name.patch"
    count=$((count + 1))
    if [ -n "$by" ]; then
        echo "$name: caught: $by"
        echo "| \`$name\` | $(echo "$by" | tr '|' '/') |" >>"$work/table.md"
    else
        echo "$name: SURVIVES"
        echo "| \`$name\` | nothing |" >>"$work/table.md"
        survived=$((survived + 1))
    fi
done
cat "$work/table.md"
echo "$count planted, $survived survive"
[ "$survived" -eq 0 ]
