# Builds, demonstrates and tests Coffer on a fresh Debian 12 machine with cargo.
#
#   make demo    the guide's first example, with a real kubectl and a real containerd
#   make test    check formatting, run the lints and all tests
#   make build   target/release/coffer
#   make measure the measurements of docs/performance.md, on this machine (half an hour)
#   make flood   latency of other users while one user floods the server; fails above 1,000 ms or 400 MB
#   make deps    install the Debian packages for the above; starts and enables no service

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: build demo deps flood fmt lint measure test

build: deps
	cargo build --release --locked -p coffer

demo: deps
	cargo build --release --locked -p coffer -p coffer-testkit
	scripts/demo

measure: deps
	cargo build --release --locked -p coffer -p coffer-testkit -p coffer-bench
	scripts/measure

flood: deps
	cargo build --release --locked -p coffer -p coffer-bench
	scripts/measure "$(FLOOD_DIR)" flood

test: deps fmt lint
	cargo test --workspace --locked --no-fail-fast

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

deps:
	scripts/deps
