# The one door to everything: people and CI call the same targets. `make` alone lists them.
#
# Every target starts from a bare Debian 12 machine with Rust, Node, Python and git; what is there
# already is only looked at, so a second call costs next to nothing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Targets share one target directory, one model cache and two cores: side by side they only collide.
.NOTPARALLEL:

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dragoman
# Outside the working tree, so that a fresh clone finds the dependencies already built.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export DRAGOMAN_MODELS ?= $(CACHE)/models

DRAGOMAN := $(CARGO_TARGET_DIR)/release/dragoman
LOADTEST := $(CARGO_TARGET_DIR)/release/dragoman-loadtest
# One profile for programs and tests: see docs/decisions/0005-one-release-profile.md.
CARGO_ARGS := --release --locked --workspace

comma := ,

# Arguments for the programs behind `run`, `demo`, `test-e2e` and the benchmarks, for example
# `make run ARGS="--http 127.0.0.1:9000"` or `make test-e2e ARGS="-k silence"`.
ARGS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^## / { printf "\n%s\n", substr($$0, 4) } /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Use

.PHONY: run
run: models ## Set up, fetch the weights, build, hold a self-check call, and serve
	DRAGOMAN_SELF_CHECK_SPEECH="$$(scripts/self-check-speech.sh)" \
		"$(DRAGOMAN)" serve --development --self-check $(ARGS)

.PHONY: demo
demo: models ## Set up, fetch the weights, build, hold the self-check call, and exit with its verdict
	DRAGOMAN_SELF_CHECK_SPEECH="$$(scripts/self-check-speech.sh)" \
		"$(DRAGOMAN)" self-check $(ARGS)

## Prepare

.PHONY: setup
setup: ## Install the system packages that are missing (as root or through sudo)
	@scripts/setup.sh

.PHONY: page
page: setup ## Build the page into web/dist, where the program takes it from
	@scripts/page.sh build

.PHONY: build
build: page ## Build the programs in release mode, with the page in them
	cargo build $(CARGO_ARGS) --bins

.PHONY: models
models: build ## Fetch the weights that are missing (about 1.4 GB) and check their SHA-256
	"$(DRAGOMAN)" models fetch

## Check

.PHONY: check
check: lint test ## Everything CI runs

.PHONY: lint
lint: page ## Formatting, clippy, types, shell scripts and workflows
	@scripts/lint.sh

.PHONY: test
test: test-page test-rust test-e2e loadtest-smoke ## All tests: units, parity with the reference models, whole calls

.PHONY: test-page
test-page: setup ## Unit tests of the page alone
	@scripts/page.sh test

.PHONY: test-rust
test-rust: models ## Rust tests alone
	@scripts/test-rust.sh $(CARGO_ARGS)

.PHONY: test-e2e
test-e2e: models ## Whole calls alone: aiortc peers and a browser against the running server
	@scripts/setup.sh test
	@scripts/test-e2e.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: peers
peers: models ## Our LibreTranslate interface beside the real LibreTranslate (fetches about 600 MB)
	@scripts/test-peers.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: soak-joins
soak-joins: setup ## 500 joins and leaves in a row: memory, threads and descriptors afterwards
	JOINS=500 cargo test $(CARGO_ARGS) --test joins -- --nocapture

.PHONY: fuzz-smoke
fuzz-smoke: models ## Fuzz every parser of outside bytes for a minute each (SECONDS=n changes it)
	@SECONDS_EACH="$(or $(SECONDS),60)" scripts/fuzz-smoke.sh $(ARGS)

## Measure

.PHONY: loadtest-corpus
loadtest-corpus: setup ## Decode the recordings that the load test speaks
	@scripts/loadtest-corpus.sh

.PHONY: loadtest
loadtest: models ## How many calls this machine carries: capacity, report in target/loadtest
	@scripts/loadtest.sh "$(DRAGOMAN)" "$(LOADTEST)" calls --find-capacity \
		--slo "$(or $(SLO),lag_p95<4s$(comma)missing<5%$(comma)loss<1%)" --ramp 1..16 --hold 120s \
		--out target/loadtest $(ARGS)

.PHONY: loadtest-smoke
loadtest-smoke: models ## One call for a minute: nothing missing, nothing lost
	@scripts/loadtest.sh "$(DRAGOMAN)" "$(LOADTEST)" calls --sessions 1 --hold 60s --listen-back \
		--slo "missing<10%$(comma)loss<1%$(comma)wer<25%" --out target/loadtest-smoke $(ARGS)

.PHONY: bench-lag
bench-lag: models ## Lag of whole calls, and the recogniser beside faster-whisper
	@scripts/bench-lag.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: bench-peers
bench-peers: models ## The models beside CTranslate2, faster-whisper, llama.cpp and ONNX Runtime
	@scripts/bench-peers.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: bench-scaling
bench-scaling: models ## Lag and tier with 1, 2, 4, 8 and 16 calls (TIERS in ARGS pins them)
	@scripts/bench-scaling.sh "$(DRAGOMAN)" "$(LOADTEST)" $(ARGS)

.PHONY: bench-tick
bench-tick: models ## How late the 20 ms ticks are while models compute, with and without real time
	@scripts/bench-tick.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: bench-listeners
bench-listeners: page ## CPU of a media worker for 100 listeners: encoded once, for each, passed on
	cargo build $(CARGO_ARGS) --example listeners
	@scripts/bench-listeners.sh "$(CARGO_TARGET_DIR)/release/examples/listeners" $(ARGS)

.PHONY: quality
quality: models ## Word error rates and chrF on recordings in five languages
	@scripts/quality.sh "$(DRAGOMAN)" $(ARGS)

.PHONY: segmentation
segmentation: models ## How well sentences are told apart: five languages, in quiet and in noise
	cargo build $(CARGO_ARGS) --example segmentation
	"$(CARGO_TARGET_DIR)/release/examples/segmentation"

.PHONY: bench
bench: models ## Criterion benchmarks of the hot paths and the models, beside candle-transformers
	RAYON_NUM_THREADS=1 cargo bench --locked -p benches --features stock $(ARGS)

.PHONY: bench-tortoise
bench-tortoise: setup ## What Tortoise costs, with random weights (CUDA=1 builds it for a graphics card)
	cargo bench --locked -p benches --bench tortoise $(if $(CUDA),--features cuda) -- --parts $(ARGS)

## Clean up

.PHONY: clean-cache
clean-cache: ## Remove built programs and Python environments from the cache; the weights stay
	rm -rf "$(CARGO_TARGET_DIR)" "$(CACHE)/python" web/node_modules web/dist web/build
