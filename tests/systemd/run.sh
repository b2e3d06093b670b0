#!/usr/bin/env bash
# The agent's packages and units on a real systemd: a machine boots, cloud-init installs the agent, and what that writes
# into its tag through restarts, upgrades, hangs, reboot and power-off is recorded by a stand-in of IMDS and EC2.
#
# usage: run.sh [--container] [AGENT-BINARY]
# Without a binary the debug build is taken. Needs root, and a Debian or Ubuntu to install its tools on. With --container
# the machine is a container (systemd-nspawn) whose first process is systemd: some four minutes, where the host allows it.
# Without, it is emulated in software (qemu), with a kernel of its own: needs nothing of the host but time.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '== %s\n' "$*"; }
[[ $(id -u) == 0 ]] || { echo 'run.sh makes a file system and wants to be root' >&2; exit 1; }

cache=${CARGO_TARGET_DIR:-target}/systemd
mkdir -p "$cache"
cache=$(realpath "$cache")
trap 'rm -rf "$cache/work"' EXIT
rm -rf "$cache/work"
mkdir "$cache/work"

container=()
if [[ ${1:-} == --container ]]; then
    container=(--container)
    shift
fi

missing=()
# Commands, and the package of Debian's that has each.
machine=qemu-system-x86_64:qemu-system-x86
if ((${#container[@]})); then machine=systemd-nspawn:systemd-container; fi
for pair in "$machine" mmdebstrap:mmdebstrap mke2fs:e2fsprogs strip:binutils dpkg-shlibdeps:dpkg-dev; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    step "install ${missing[*]}"
    apt-get update -q
    apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

# The packagers, of the versions that the release workflow takes.
tools=$cache/tools
versions=$(sed -n 's/.*cargo install --locked \(cargo-deb@.*\)/\1/p' .github/workflows/release.yml)
if [[ ! -f $tools/versions ]] || [[ $(cat "$tools/versions") != "$versions" ]]; then
    step "cargo install $versions"
    # Debug builds: they are sooner there, and have little to do.
    # shellcheck disable=SC2086
    CARGO_TARGET_DIR=$cache/tools-build cargo install --debug --locked --root "$tools" $versions
    echo "$versions" >"$tools/versions"
fi

binary=${1:-}
if [[ -z $binary ]]; then
    step 'build the agent'
    cargo build --locked --bin eipwatch-agent
    binary=${CARGO_TARGET_DIR:-target}/debug/eipwatch-agent
fi

step 'packages, and newer ones to upgrade to'
stage=$cache/work/stage packages=$cache/work/packages
mkdir -p "$stage/release" "$packages"
strip -o "$stage/release/eipwatch-agent" "$binary"
for version in 0.1.0 0.1.1; do
    CARGO_TARGET_DIR=$stage "$tools/bin/cargo-deb" --no-build --no-strip --fast --deb-version "$version" \
        --output "$packages/eipwatch-agent-$version.deb" >/dev/null
    "$tools/bin/cargo-generate-rpm" --target-dir "$stage" --payload-compress gzip --set-metadata "version = \"$version\"" \
        --output "$packages/eipwatch-agent-$version.rpm"
done

# The system: everything but the packages and the script, so that it is made once.
base=$cache/base.ext4
recipe=$(cat tests/systemd/image.sh | sha256sum)
if [[ ! -f $cache/base.recipe ]] || [[ $(cat "$cache/base.recipe") != "$recipe" ]]; then
    step 'make the system'
    rm -f "$cache/base.recipe"
    tests/systemd/image.sh "$cache/work/root" "$base" "$cache/kernel" "$cache/initrd"
    echo "$recipe" >"$cache/base.recipe"
fi

step 'try it'
python3 tests/systemd/host.py --kernel "$cache/kernel" --initrd "$cache/initrd" --base "$base" --packages "$packages" \
    --work "$cache/work" --keep "$cache" "${container[@]}"
