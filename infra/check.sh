#!/usr/bin/env bash
# All offline checks of infra/. Needs Python 3.11 or later, Node 20 or later, and the registries of both the first time.
set -euo pipefail
cd "$(dirname "$0")"
export SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 PYTHONDONTWRITEBYTECODE=1 CDK_DISABLE_CLI_TELEMETRY=true

step() { printf '== %s\n' "$*"; }

# An environment is made anew when its list of packages has changed.
environment() { # FOLDER REQUIREMENTS
  if ! cmp -s "$2" "$1/requirements.txt"; then
    step "install $2"
    python3 -m venv --clear "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    cp "$2" "$1/requirements.txt"
  fi
}
environment .venv checks/requirements.txt
environment .venv-checkov checks/requirements-checkov.txt
if ! cmp -s cdk/package-lock.json cdk/node_modules/.eipwatch-lock; then
  step "install cdk/package-lock.json"
  (cd cdk && npm ci --no-audit --no-fund)
  cp cdk/package-lock.json cdk/node_modules/.eipwatch-lock
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "cfn-lint: templates"
.venv/bin/cfn-lint template.yaml vpc.yaml examples/pair.yaml

step "cfn-lint: what SAM makes of the template"
(cd checks && ../.venv/bin/python -c 'import json, render; print(json.dumps(render.translate("../template.yaml")))') > "$work/translated.json"
.venv/bin/cfn-lint "$work/translated.json"

step "sam validate --lint"
.venv/bin/sam validate --lint --template template.yaml

step "checkov"
.venv-checkov/bin/checkov --skip-download --quiet --compact -f template.yaml vpc.yaml examples/pair.yaml

step "CDK: compile, test (with cdk-nag), synthesise, cfn-lint"
mkdir "$work/package" && echo stand-in > "$work/package/bootstrap"
(
  cd cdk
  rm -rf dist cdk.out
  npx --no-install tsc
  node --test dist/test/*.test.js
  npx --no-install cdk synth --quiet --no-notices \
    -c clientCidr=198.51.100.7/32 -c notifyEmail=ops@example.com -c package="$work/package"
)
# W3005: the construct library writes dependencies that are implied already.
.venv/bin/cfn-lint --ignore-checks W3005 --template cdk/cdk.out/eipwatch-example.template.json

step "policies (parliament), patterns against events, SAM against CDK, alarms, examples"
(cd checks && ../.venv/bin/python -m unittest)

step "cost tables"
python3 cost.py --check README.md

step "release workflow"
.venv-checkov/bin/check-jsonschema --builtin-schema vendor.github-workflows ../.github/workflows/release.yml

step "scripts"
bash -n check.sh package.sh check-glibc.sh
./checks/test-glibc.sh

echo "infra: all checks passed"
