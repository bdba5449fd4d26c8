# `make` says what there is. One profile builds everything: wasmtime takes minutes, so it is built once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup plugins build dist demo bench check test-one test docs soak fmt lint schema clean

plugins := $(notdir $(patsubst %/,%,$(dir $(wildcard plugins/*/Cargo.toml))))
guest := --profile plugin --target wasm32-wasip2 $(addprefix -p ,$(plugins))

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: ## Install what is missing: the Wasm target, a C toolchain, Postgres
	@bash .ci/setup

plugins: setup ## Build the handlers in plugins/ to target/plugins/*.wasm
	cargo build --locked $(guest)
	mkdir -p target/plugins
	for name in $(plugins); do cp target/wasm32-wasip2/plugin/$${name//-/_}.wasm target/plugins/$$name.wasm; done

build: setup ## Build host to target/release/host
	cargo build --locked --release

dist: build ## Build what users get: target/dist/host, without debug information
	mkdir -p target/dist
	strip -o target/dist/host target/release/host

demo: build plugins ## From an INSERT of 20,000 messages to their outbox, on a private Postgres
	HOST=$(CURDIR)/target/release/host PLUGINS=$(CURDIR)/target/plugins bash tests/demo.sh

bench: build ## Measure: the baseline, draining under both isolations, latency (some minutes, a private Postgres)
	target/release/host bench baseline
	target/release/host bench drain --isolation batch --baseline
	target/release/host bench drain
	target/release/host bench latency

check: ## Format, clippy and pure tests: what to run all day
	cargo fmt --all --check
	cargo clippy --locked --release --all-targets -- -D warnings
	cargo test --locked --release --lib --bins

test-one: ## The tests whose names contain T: make test-one T=order
	@[[ -n '$(T)' ]] || { echo 'say which: make test-one T=order' >&2; exit 2; }
	cargo test --locked --release --test tests -- $(T)

test: lint ## Run every check and test
	cargo test --locked --release -p model
	cargo test --locked --release

docs: ## Build the book to target/book/html, and check its links (needs mdbook)
	@bash .ci/docs

soak: plugins ## Everything goes wrong for MINUTES (20) while messages are counted; SEED to do it again
	MINUTES=$(or $(MINUTES),20) cargo test --locked --release --test tests -- --ignored --exact faults::soak --nocapture

fmt: ## Format
	cargo fmt --all

lint: plugins ## Check the format, and clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --locked --release --all-targets -- -D warnings
	cargo clippy --locked --release -p model --all-targets -- -D warnings
	cargo clippy --locked $(guest) -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans sources; fi

schema: setup ## Write migrations/schema.sql, tests/rendered and host/core/src/diagnosis/shape.txt anew from a migrated database
	SCHEMA=write cargo test --locked --release --test tests schema

clean: ## Remove what was built (the embedded Postgres in .host stays: it may hold messages)
	cargo clean
