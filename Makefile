# One command each: `make help` lists them. The first sets up .venv from requirements.lock; later ones skip that.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install -qq

# The suite runs in WORKERS processes. Each keeps to one thread: left alone, every process would start one thread per
# core, and the threads would wait for each other longer than they work.
WORKERS := 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1 POLARS_MAX_THREADS=1
PYTEST_ARGS ?=

# Code outside the package that is type-checked with it.
SCRIPTS := benchmarks sample_data

.PHONY: demo test test-offline lint types imports bench bench-data bench-detection bench-cost bench-guarantees bench-ablation bench-adaptive bench-bound bench-held-out bench-slow bench-throughput \
	bench-validate bench-parse bench-gate bench-security bench-two_persons bench-reliability bench-hostile format lock peers clean help

demo: $(STAMP) ## the main job on the real data in sample_data/, end to end
	@$(PY) -m sample_data.demo

test: lint types imports ## everything a change must pass: lint, types, import rules, tests
	@$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-offline: $(STAMP) ## the tests where there is no network but the loopback device; Linux
	@$(ONE_THREAD) $(PY) .ci/offline.py $(PY) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP) ## ruff: rules and formatting
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(STAMP) ## mypy --strict
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy $(SCRIPTS:%=-p %)

imports: $(STAMP) ## import-linter: imports go one way
	@$(VENV)/bin/lint-imports --no-logo

format: $(STAMP) ## let ruff rewrite what it can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(STAMP) ## every benchmark in its short form
	@for name in detection held_out cost guarantees ablation adaptive bound slow_poison throughput validate parse gate security two_persons reliability hostile; do $(PY) -m benchmarks.$$name --short; done

bench-throughput bench-validate bench-parse bench-gate bench-security bench-two_persons bench-hostile: bench-%: $(STAMP) ## one benchmark in full
	@$(PY) -m benchmarks.$*

bench-reliability: $(STAMP) ## kills, refused writes, unsynced files, eight writers, a jumping clock; an hour
	@$(ONE_THREAD) $(PY) -m benchmarks.reliability $(BENCH_ARGS)

bench-detection: $(PEERS) ## every attack on every data set, beside the peers; hours; DATA=FOLDER with the larger files
	@$(PY) -m benchmarks.detection $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-held-out: $(PEERS) ## data, attacks and rates that nothing was developed on; hours; DATA=FOLDER as above
	@$(PY) -m benchmarks.held_out $(if $(DATA),--data $(DATA)) --detection docs/measured/detection.jsonl $(BENCH_ARGS)

bench-guarantees: $(STAMP) ## 200 runs: do the rates of the contract hold? hours; DATA=FOLDER as for bench-detection
	@$(PY) -m benchmarks.guarantees $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-ablation: $(STAMP) ## recall without each family of detectors, and with a rare class; hours; DATA=FOLDER as above
	@$(PY) -m benchmarks.ablation $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-adaptive: $(STAMP) ## what an attacker who knows the detectors gets through; hours; DATA=FOLDER as above
	@$(PY) -m benchmarks.adaptive $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-bound: $(STAMP) ## how many wrong labels models find that know all other right ones; DATA=FOLDER as above
	@$(PY) -m benchmarks.bound $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-slow: $(STAMP) ## the same poison in one, seven or thirty nights, and clean months; an hour; DATA=FOLDER as above
	@$(PY) -m benchmarks.slow_poison $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-cost: $(STAMP) ## a scan of 10,000 images beside epochs of training, stage by stage; DATA=FOLDER as above
	@$(PY) -m benchmarks.cost $(if $(DATA),--data $(DATA)) $(BENCH_ARGS)

bench-data: $(PEERS) ## fetch the data that installs by package name into DATA=FOLDER
	@$(PY) -m benchmarks.fetch $(or $(DATA),data)

peers: $(PEERS) ## install what the benchmarks compare with, on top of the rest

lock: $(STAMP) ## write both requirements locks from pyproject.toml; UPGRADE=1 moves the pins
	@$(PY) .ci/lock.py

clean: ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -nE 's/^([a-z][a-z -]*):.*## (.*)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r names text; do \
		for name in $$names; do printf '  make %-17s %s\n' "$$name" "$$text"; done; done

# pip installs the lock as it stands (--no-deps: nothing is resolved anew). Two things about torch need care:
# where pip knows a CPU build (PIP_FIND_LINKS, an extra index) it is taken first, for with hashes pip prefers the
# registry's build, on Linux one for CUDA; and where that one is taken, the CUDA libraries it pins are not in the lock:
# `pip check` sees them missing, and pip adds exactly those.
$(STAMP): requirements.lock pyproject.toml
	@python=; for name in python3.11 python3; do \
		if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Lazaretto needs Python 3.11 or newer; neither python3.11 nor python3 is one. Install it, then run make again." >&2; \
		exit 2; \
	fi; \
	echo "Setting up $(VENV) from requirements.lock with $$($$python --version); this takes some minutes, once."; \
	$(PY) -c pass 2>/dev/null || $$python -m venv --clear $(VENV)
	@sed -nE 's/^(torch==[0-9.]+)/\1+cpu/; /^torch==/,/#/p' requirements.lock >$(VENV)/torch-cpu.txt
	@$(PIP) --no-deps --require-hashes -r $(VENV)/torch-cpu.txt 2>/dev/null || echo "No CPU build of torch at hand: taking the registry's."
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PY) -m pip check >/dev/null || { \
		echo "Adding the CUDA libraries that this build of torch pins."; \
		$(PIP) "$$(grep -oE '^torch==[0-9.]+' requirements.lock)"; }
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# What the peers add is resolved under the pins of requirements.lock, so nothing that is installed moves.
$(PEERS): requirements-peers.lock $(STAMP)
	@$(PIP) --no-deps --require-hashes -r requirements-peers.lock
	@touch $(PEERS)
