# What a developer runs is what CI runs (.ci/run). Everything happens in .venv, made on first use.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train,dev,client,openvino,parquet,postgresql,serve,sklearn
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
BENCH_ARGS ?=

# PYTHON=/path/to/python3 chooses the interpreter; PIP_ARGS is handed to pip (for an index or a mirror of your own).
PYTHON ?=
PIP_ARGS ?=

# Tests share the machine between two workers, each with one thread, and never ask a hub for anything.
QUIET_ENV := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
TEST_ENV := $(QUIET_ENV) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
TEST_ARGS ?=

.PHONY: help setup demo test soak bench check lint types imports snippets light clean

help: ## show this list
	@echo "Likewise: text classification by example"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything, pinned (the other targets do it when needed)

$(STAMP): pyproject.toml constraints.txt scripts/make_venv.sh
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" bash scripts/make_venv.sh "$(VENV)" constraints.txt -e ".[$(EXTRAS)]"
	@echo "setup: the command is $(BIN)/likewise"
	@touch $@

demo: $(STAMP) ## fit, classify, teach and correct on the bundled sample data (under three minutes)
	@$(BIN)/likewise demo

test: $(STAMP) ## run the tests; TEST_ARGS="-k ledger" narrows them
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist loadfile $(TEST_ARGS)

soak: $(STAMP) ## kill processes in the midst of changes, 200 times; four writers, 500 changes each
	@$(TEST_ENV) LIKEWISE_KILLS=200 LIKEWISE_CHANGES=500 $(BIN)/python -m pytest -q \
		tests/test_durability.py tests/test_many_writers.py tests/service/test_kills.py

bench: $(STAMP) $(BENCH_STAMP) ## measure against peers; BENCH_ARGS="--data FOLDER" names the data sets (hours; goes on)
	@$(QUIET_ENV) $(BIN)/python -m benchmarks $(BENCH_ARGS)

# The peers' environment, without the package by which OpenVINO would report its use.
$(BENCH_STAMP): benchmarks/constraints.txt benchmarks/peers.txt scripts/make_venv.sh
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" bash scripts/make_venv.sh "$(BENCH)" benchmarks/constraints.txt \
		-r benchmarks/peers.txt
	@$(BENCH)/bin/python -m pip uninstall -qq --yes openvino-telemetry
	@touch $@

check: lint types imports snippets ## lint, formatting, types, import rules, the documentation's code

lint: $(STAMP)
	@echo "== ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

types: $(STAMP)
	@echo "== mypy --strict"
	@$(BIN)/mypy --no-error-summary

imports: $(STAMP)
	@echo "== import rules"
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

snippets: $(STAMP)
	@echo "== the documentation's code"
	@$(QUIET_ENV) $(BIN)/python scripts/check_snippets.py

light: $(STAMP) ## answer from a fresh environment that has the base dependencies alone
	@$(QUIET_ENV) PIP_ARGS="$(PIP_ARGS)" bash scripts/light_check.sh "$(BIN)"

clean: ## remove the environments and everything that tools leave behind
	@rm -rf $(VENV) $(BENCH) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests scripts experiments benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "removed environments, build outputs and caches"
