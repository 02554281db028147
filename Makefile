.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help dev test lint fmt setup clean

help: ## List these targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

dev: ## Build, then run everything in one process for a first look
	@scripts/check-tools.sh
	cargo run -- dev

test: ## Set up what is missing, then format check, lints and every test on both stores
	@scripts/check-tools.sh lints
	scripts/setup.sh
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	@scripts/deny.sh
	cargo test --locked --no-fail-fast

lint: ## The format check and the lints alone
	@scripts/check-tools.sh lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

fmt: ## Format the sources
	@scripts/check-tools.sh lints
	cargo fmt

setup: ## Install what the tests need and this machine lacks (PostgreSQL, Google's client, verifiers)
	@scripts/check-tools.sh lints
	scripts/setup.sh

clean: ## Remove what was built, set up and stored
	cargo clean
	rm -rf .cache .watchpost
