#!/usr/bin/env bash
# usage: check-glibc.sh BINARY [NEWEST]
# Fails if the binary needs a glibc newer than NEWEST; Amazon Linux 2023, and so Lambda's provided.al2023, has 2.34.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: check-glibc.sh BINARY [NEWEST]" >&2
  exit 2
fi
binary=$1
newest=${2:-2.34}

if ! symbols=$(objdump -T "$binary"); then
  echo "$binary: objdump cannot read it; is it for another processor, or no program?" >&2
  exit 1
fi
needed=$(grep -o 'GLIBC_[0-9][0-9.]*' <<< "$symbols" | sort -uV | tail -n 1 || true)
if [ -z "$needed" ]; then
  echo "$binary: needs no glibc"
  exit 0
fi
if [ "$(printf '%s\n' "${needed#GLIBC_}" "$newest" | sort -V | tail -n 1)" != "$newest" ]; then
  echo "$binary: needs glibc ${needed#GLIBC_}, and the function's system has $newest. Build on an older system, or with cargo-lambda:" >&2
  grep -F "$needed" <<< "$symbols" >&2
  exit 1
fi
echo "$binary: needs glibc ${needed#GLIBC_}, at most $newest allowed"
