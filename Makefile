# `make` says what there is.

# How long `make soak` fuzzes each target.
FUZZ_SECONDS ?= 60
# The seed that its simulation begins with.
FIRST_SEED ?= 1

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))

demo: ## See an address move, on this machine: no AWS, no Python
	cargo run --locked --profile demo --no-default-features --bin eipwatch -- demo

test: .venv/installed ## Run every check and test; the first time 20 to 30 minutes, for the AWS SDK
	@echo '== 1 of 4: dependencies'
	tests/tools/dependencies.sh
	@echo '== 2 of 4: formatting and clippy, and whether the fuzz targets compile; the first time, this compiles the AWS SDK'
	tests/tools/lint.sh
	@echo '== 3 of 4: all tests; about five minutes'
	RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo test --locked
	@echo '== 4 of 4: documentation'
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-default-features --no-deps

lint: ## Check formatting, and everything that clippy knows
	tests/tools/lint.sh

deny: ## Check licences, bans and sources of the dependencies, and advisories
	@cargo deny --version >/dev/null 2>&1 || { echo 'make deny needs cargo-deny: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny check

package: ## Build the function's zip for this machine's processor
	infra/package.sh

check-infra: ## Check the templates, as far as that goes without AWS; wants Node.js and npm
	infra/check.sh

check-agent: ## Try the agent's packages and units on a real systemd, in a container; wants root
	tests/systemd/run.sh --container

check-page: ## Open the HTML pages in a headless Chromium; wants Debian's chromium and chromium-driver
	RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo test --locked --test it page::
	python3 tests/page/check.py $${CARGO_TARGET_DIR:-target}/tmp/pages

bench: .venv/installed package ## Measure speed, size, scale and cost into docs/benchmarks.md; ONLY="scale cost": some of it
	cargo bench --locked --no-default-features --bench figures -- $(ONLY)

soak: ## Fuzz each target for a minute, then simulate on and on, from FIRST_SEED=1, until stopped
	fuzz/run.sh $(FUZZ_SECONDS) || [ $$? = 77 ]
	cargo run --locked --profile soak --no-default-features --example soak -- $(FIRST_SEED)

mutants: ## Plant bugs, and let the simulation look for them
	tests/mutants/run.sh

# The emulator, installed anew when its versions change.
.venv/installed: tests/requirements.txt tests/tools/venv.sh
	tests/tools/venv.sh

.PHONY: help demo test lint deny package check-infra check-page check-agent bench soak mutants
