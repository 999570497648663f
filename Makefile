# Two commands do everything from nothing but `python3` and `make`: `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-long test test-oldest test-newest reliability check format docs gpu clean

PYTHON ?= python3
BIN := .venv/bin
# Written last: an interrupted set-up has no stamp and is picked up again.
STAMP := .venv/.setup-complete

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the locked packages (once)

$(STAMP): requirements/lock.txt pyproject.toml
	@PYTHON='$(PYTHON)' bash requirements/install.sh
	@touch $@

demo: setup ## the whole job at toy size: pre-train, probe, fine-tune, detect, leaderboard, images
	@$(BIN)/python -m tools.demo

demo-long: setup ## the same with five times the pre-training, about half an hour
	@$(BIN)/python -m tools.demo --long

# One BLAS thread a worker: two workers on two cores otherwise fight over them.
test: export OMP_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: setup ## run the tests (all but those marked slow)
	@$(BIN)/python -m pytest -q -n 2 -m 'not slow'

test-oldest: ## some tests with the oldest torch and timm that are supported, in .venv-oldest
	@PYTHON='$(PYTHON)' bash requirements/test_versions.sh oldest

test-newest: ## the same with the newest ones, in .venv-newest
	@PYTHON='$(PYTHON)' bash requirements/test_versions.sh newest

reliability: setup ## damage files, kill runs, starve disks, and count what is lost (about an hour)
	@$(BIN)/python -m tests.campaign

check: setup ## lint, formatting and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: setup ## apply the formatting and the safe lint fixes
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

gpu: setup ## what a GPU makes of it, on a page in work_dirs/gpu_check (smaller on a CPU)
	@bash tools/gpu_check.sh

docs: ## the site, into build/site, by packages of its own in .venv-docs
	@test -d .venv-docs || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install -q --disable-pip-version-check -r requirements/docs.txt
	@.venv-docs/bin/python tools/make_docs.py build/docs
	@.venv-docs/bin/zensical build --strict

clean: ## remove the environment and all caches; leaves work_dirs and data alone
	rm -rf .venv .venv-docs .venv-oldest .venv-newest build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .dist_test
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
