#!/usr/bin/env bash
# check-glibc.sh and package.sh, tried on programs that every machine has.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "test-glibc: $*" >&2; exit 1; }

bash=$(command -v bash)
./check-glibc.sh "$bash" 99.0 > /dev/null || fail "a binary that needs less than is allowed was refused"
if ./check-glibc.sh "$bash" 2.2 > /dev/null 2>&1; then fail "a binary that needs a newer glibc was let through"; fi
# 2.4 is older than 2.34, though not as a decimal number.
if ./check-glibc.sh "$bash" 2.4 > /dev/null 2>&1; then fail "versions were compared as decimal numbers"; fi
if ./check-glibc.sh "$0" > /dev/null 2>&1; then fail "what is no program was let through"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/infra"
cp package.sh check-glibc.sh "$work/infra"
# python3 is small and built for an old glibc where bash may not be; any program that passes will do.
stand_in=
for program in "$bash" "$(command -v python3)" "$(command -v zip)" "$(command -v true)"; do
  if ./check-glibc.sh "$program" > /dev/null 2>&1; then stand_in=$program; break; fi
done
[ -n "$stand_in" ] || fail "no program here would run on Amazon Linux 2023"
"$work/infra/package.sh" "$stand_in" > /dev/null
first=$(sha256sum "$work"/target/package/*.zip)
copy="$work/copy"
cp "$stand_in" "$copy"
"$work/infra/package.sh" "$copy" > /dev/null
[ "$first" = "$(sha256sum "$work"/target/package/*.zip)" ] || fail "the same binary gave another zip"
python3 - "$work"/target/package/*.zip <<'PY'
import sys, zipfile
(info,) = zipfile.ZipFile(sys.argv[1]).infolist()
assert info.filename == "bootstrap", info.filename
assert info.external_attr >> 16 & 0o111 == 0o111, "not executable"
PY
(cd "$work/target/package" && sha256sum --quiet -c ./*.sha256)
echo "check-glibc.sh and package.sh: passed"
