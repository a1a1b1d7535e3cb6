# Every command for people and CI. `make help` lists them.
#
# There are two builds. `run` and `bench` use the release profile. Everything under `test`, the
# client suites included, uses the dev profile. There the engine's crates are optimised too (see
# Cargo.toml), so llama.cpp is compiled once for all tests, and the rest recompiles in seconds.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-clients test-live setup model lint public-api check-gpu fmt bench fuzz odd soak dist clean

# rustup's folder may be missing from the PATH of the shell that installed it.
export PATH := $(PATH):$(HOME)/.cargo/bin

# For `make test-live`: a running Ollama, and one of its models.
OLLAMA ?= http://127.0.0.1:11434
MODEL ?= smollm2:135m
# Further arguments of the program for `make run`, for example: make run ARGS="--ollama
# http://127.0.0.1:11434"
ARGS ?=
# The time for each target of `make fuzz`: make fuzz SECONDS_EACH=3600
SECONDS_EACH ?= 60
# The duration of `make soak` and `make odd`: make soak MINUTES=5
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

test: ## install what is missing, then run every test: Rust, and the real Python and Node clients
	@scripts/setup test
	@scripts/default-model
	@scripts/embedding-model
	@scripts/whisper-model
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-clients
	@echo "test: everything passed: cargo test --workspace, then tests/clients with Python and with Node"

test-rust: ## only the Rust tests
	@echo "test: cargo test --workspace (the first time some minutes: llama.cpp is compiled)"
	@. scripts/environment && LOGGIA_TEST_POSTGRES=required LOGGIA_TEST_VALKEY=required LOGGIA_TEST_S3=required cargo test --workspace

test-clients: ## only the real clients, against a running loggia
	@scripts/test-clients

test-live: ## the Python clients with a running Ollama: make test-live OLLAMA=http://127.0.0.1:11434 MODEL=smollm2:135m
	@scripts/setup run
	@. scripts/environment && cargo build -p loggia --no-default-features
	@LOGGIA_PROGRAM=target/debug/loggia LOGGIA_TEST_TARGETS=live_ollama LOGGIA_TEST_OLLAMA="$(OLLAMA) $(MODEL)" \
		scripts/test-clients python -k live_ollama

setup: ## install what is missing to build and test
	@scripts/setup test

model: ## fetch and verify the default model, and the embedding and Whisper models of the tests
	@scripts/setup run
	@scripts/default-model
	@scripts/embedding-model
	@scripts/whisper-model

lint: ## formatting, clippy, licences, the direction of dependencies, public items
	@scripts/lint

check-gpu: ## check that the features for GPUs compile, where their toolchains are installed
	@scripts/check-gpu

public-api: ## rewrite the lists of public items (crates/*/public-api.txt)
	@scripts/public-api write

fmt: ## format the Rust code
	cargo fmt --all
	for crate in fuzz tests/clients/rust; do cargo fmt --manifest-path $$crate/Cargo.toml; done

bench: ## measure the gateway, stored responses and the engine; writes docs/benchmarks.md; one part: make bench PART=stored
	@scripts/bench $(PART)

fuzz: ## search for input that breaks a parser: a minute for each fuzz target, then long property tests
	@scripts/fuzz $(SECONDS_EACH)

odd: ## random unusual requests to every kind of backend: make odd MINUTES=5
	@scripts/setup test
	@scripts/default-model
	@. scripts/environment && cargo build --release -p loggia
	@LOGGIA_PROGRAM=target/release/loggia scripts/test-clients odd $(MINUTES)

soak: ## full load for an hour with clients that leave at random: checks answers, usage, memory, slots
	@scripts/setup test
	@scripts/default-model
	@. scripts/environment && cargo build --release -p loggia
	@LOGGIA_PROGRAM=target/release/loggia scripts/test-clients soak $(MINUTES)

dist: ## build the release into dist/: the program, its libraries for every generation of processors, licences
	@scripts/setup run
	@scripts/dist

clean: ## remove all builds; the models under .loggia stay
	rm -rf target dist tests/clients/.venv tests/clients/node/node_modules tests/clients/node/.runtime .loggia/tools .loggia/seaweedfs .loggia/bench
