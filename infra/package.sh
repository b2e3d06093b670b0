#!/usr/bin/env bash
# usage: package.sh [BINARY]
# Makes target/package/eipwatch-lambda-ARCH.zip for this machine's processor, which is what Lambda takes: the release
# binary, named bootstrap. Given a BINARY that was built before, it builds nothing. The same binary gives the same zip.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -m)" in
  x86_64) arch=x86_64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) echo "Lambda has no $(uname -m)" >&2; exit 1 ;;
esac
for tool in zip objdump; do
  command -v "$tool" > /dev/null || { echo "package.sh needs $tool" >&2; exit 1; }
done

binary=${1:-}
if [ -z "$binary" ]; then
  cargo build --release --locked --bin eipwatch-lambda
  binary=${CARGO_TARGET_DIR:-target}/release/eipwatch-lambda
fi
infra/check-glibc.sh "$binary"

out=target/package
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
install -m 755 "$binary" "$stage/bootstrap"
# The oldest time that a zip can hold: the time of the build is no part of the package.
TZ=UTC touch -t 198001010000 "$stage/bootstrap"
zip=$PWD/$out/eipwatch-lambda-$arch.zip
rm -f "$zip"
(cd "$stage" && TZ=UTC zip --quiet -X -9 "$zip" bootstrap)
(cd "$out" && sha256sum "eipwatch-lambda-$arch.zip" > "eipwatch-lambda-$arch.zip.sha256")

# Lambda's limit for a package that is uploaded directly.
MAX_ZIP_BYTES=52428800
bytes=$(wc -c < "$zip")
if [ "$bytes" -gt "$MAX_ZIP_BYTES" ]; then
  echo "$zip has $bytes bytes; Lambda takes at most $MAX_ZIP_BYTES" >&2
  exit 1
fi
echo "$out/eipwatch-lambda-$arch.zip: $bytes bytes"
