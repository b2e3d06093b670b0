#!/bin/sh
# Makes .venv, with the emulator that the tests run against.
set -eu
cd "$(dirname "$0")/../.."

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian and Ubuntu keep venv in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo 'Python has no venv module: apt-get installs python3-venv.'
        apt-get update -q
        apt-get install -y -q --no-install-recommends python3 python3-venv
    else
        echo 'The tests need python3 with its venv module. On Debian and Ubuntu: sudo apt-get install python3-venv' >&2
        exit 1
    fi
fi

python3 -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/requirements.txt
echo 'Are all of the emulator'"'"'s own requirements there?'
.venv/bin/python -m pip check
touch .venv/installed
