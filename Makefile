# Every command that a person or CI uses. `make help` lists them.
#
# Two builds, on purpose. `run` and `bench` use the release profile. Everything under `test` shares the dev profile, the client suites
# too: there the engine's crates are optimised all the same (Cargo.toml says which), so that llama.cpp is compiled once for all tests and
# the rest recompiles in seconds.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-clients test-live setup model lint public-api check-gpu fmt bench fuzz odd soak dist clean

# A fresh rustup is often not on the path of the shell that installed it.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What `make test-live` is before: a running Ollama, and a model that it has.
OLLAMA ?= http://127.0.0.1:11434
MODEL ?= smollm2:135m
# What else `make run` hands to the program, for example: make run ARGS="--ollama http://127.0.0.1:11434"
ARGS ?=
# How long `make fuzz` stays at each target: make fuzz SECONDS_EACH=3600
SECONDS_EACH ?= 60
# How long `make soak` keeps the engine at full load, and `make odd` asks odd things: make soak MINUTES=5
MINUTES ?= 60

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: ## install what is missing, build, fetch the default model, serve it
	@scripts/setup run
	@scripts/default-model
	@echo "run: building (the first time some minutes: llama.cpp is compiled)"
	@. scripts/environment && cargo build --release -p loggia
	@echo "run: serving; stop with Ctrl-C"
	@exec target/release/loggia serve --data-dir .loggia $(ARGS)

test: ## install what is missing, then every test: Rust, and the real Python and Node clients
	@scripts/setup test
	@scripts/default-model
	@scripts/embedding-model
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-clients
	@echo "test: all of it passed: cargo test --workspace, then tests/clients with Python and with Node"

test-rust: ## only the Rust tests
	@echo "test: cargo test --workspace (the first time some minutes: llama.cpp is compiled)"
	@. scripts/environment && cargo test --workspace

test-clients: ## only the real clients, against a running loggia
	@scripts/test-clients

test-live: ## the Python clients before a running Ollama: make test-live OLLAMA=http://127.0.0.1:11434 MODEL=smollm2:135m
	@scripts/setup run
	@. scripts/environment && cargo build -p loggia --no-default-features
	@LOGGIA_PROGRAM=target/debug/loggia LOGGIA_TEST_TARGETS=live_ollama LOGGIA_TEST_OLLAMA="$(OLLAMA) $(MODEL)" \
		scripts/test-clients python -k live_ollama

setup: ## install what building and testing need, where it is missing
	@scripts/setup test

model: ## fetch and verify the default model, and the embedding model of the tests
	@scripts/setup run
	@scripts/default-model
	@scripts/embedding-model

lint: ## formatting, clippy, and what may depend on what under which licence
	@scripts/lint

check-gpu: ## compile the features for GPUs whose toolchains are here
	@scripts/check-gpu

public-api: ## write the public items of the libraries anew (crates/*/public-api.txt)
	@scripts/public-api write

fmt: ## format the Rust code
	cargo fmt --all
	for crate in fuzz tests/clients/rust; do cargo fmt --manifest-path $$crate/Cargo.toml; done

bench: ## the gateway beside nginx, the embedded engine beside llama-server and on a busy machine; writes docs/benchmarks.md
	@scripts/bench

fuzz: ## look for input that breaks what reads it: a minute for each fuzz target, then long property tests
	@scripts/fuzz $(SECONDS_EACH)

odd: ## odd requests for some minutes before every kind of backend: make odd MINUTES=5
	@scripts/setup test
	@scripts/default-model
	@. scripts/environment && cargo build --release -p loggia
	@LOGGIA_PROGRAM=target/release/loggia scripts/test-clients odd $(MINUTES)

soak: ## an hour at full load with clients that leave at random: answers, usage, ends of streams, growth, slots
	@scripts/setup test
	@scripts/default-model
	@. scripts/environment && cargo build --release -p loggia
	@LOGGIA_PROGRAM=target/release/loggia scripts/test-clients soak $(MINUTES)

dist: ## what people get: the program, its libraries for every generation of processors, licences; into dist/
	@scripts/setup run
	@scripts/dist

clean: ## remove what was built; the models under .loggia stay
	rm -rf target dist tests/clients/.venv tests/clients/node/node_modules tests/clients/node/.runtime .loggia/tools .loggia/bench
