# The one command surface: `make` lists it. Needs make 3.81 or newer, bash, Python 3.11 or newer.
# Each step of the set-up leaves a stamp in .venv, so that a second run starts at once.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
# Most of the tests' time is waiting for servers. One file's tests stay together: they share what is slow to start. The
# order is that of tests/longest_first.py, not by the number of tests.
SIDE_BY_SIDE = --numprocesses 3 --dist loadfile --no-loadscope-reorder
TEST_DATA = $${NEARHIVE_TEST_DATA:-../shared/data}
MODERN = import sys; sys.exit(sys.version_info < (3, 11))
WARM = from geo.warm import compile_kernels; compile_kernels(lambda name, done, total: print(f"  {done}/{total} {name}", flush=True))
PIP = .venv/bin/python -m pip install --disable-pip-version-check --no-input

.PHONY: help setup run test test-data check bench bench-service nightly load clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: .venv/.kernels ## Make .venv, install the pinned packages, compile and cache the kernels

.venv/.made:
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(MODERN)' 2>/dev/null || { \
	  echo "Nearhive needs Python 3.11 or newer, found: $$( ($(or $(PYTHON),false) -V || echo none) 2>/dev/null)." \
	    "Try: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@.venv/bin/python -c 'import pip; $(MODERN)' 2>/dev/null && exit; \
	echo "Making .venv with $$($(PYTHON) -V)"; \
	$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "The venv module is missing: installing the system package python3-venv"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	fi; \
	$(PYTHON) -m venv --clear .venv || { \
	  echo "Could not make .venv. Install the venv module, on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@touch $@

.venv/.packages: .venv/.made constraints.txt pyproject.toml
	@echo "Installing the packages pinned in constraints.txt (about a minute)"
	@set -o pipefail; $(PIP) --require-hashes -r constraints.txt \
	  | awk '/^Collecting/ {printf "  %s\n", $$2; fflush()} /^Installing/ {print "  unpacking"; fflush()}'
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Numba looks at a kernel's own file only: code compiled against an older helper of another file must go first.
.venv/.kernels: .venv/.packages $(wildcard geo/kernels/*.py) geo/warm.py
	@rm -f geo/kernels/__pycache__/*.nb[ic]
	@echo "Compiling the kernels (once)"
	@.venv/bin/python -c '$(WARM)'
	@touch $@

# Servers and tools that the tests start beside Python; see the script.
.venv/.test-servers: .venv/.made tests/install-tools.sh
	@bash tests/install-tools.sh
	@touch $@

run: setup ## Set up everything, then serve the living demo on 127.0.0.1:$PORT (8000)
	@NEARHIVE_EPOCH_S=$${NEARHIVE_EPOCH_S:-30} exec .venv/bin/nearhive serve --demo \
	  --host 127.0.0.1 --port $${PORT:-8000} --workers 2

# Each of the many services that tests start would compile the sources anew where the environment forbids to keep that.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.test-servers setup ## Set up everything, then run all tests (ARGS="-k shake" narrows)
	@.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-data: setup ## Run the real inputs of $NEARHIVE_TEST_DATA (../shared/data)
	@[ -d "$(TEST_DATA)" ] || { \
	  echo "No test data: $(TEST_DATA) is not a directory. Set NEARHIVE_TEST_DATA to where it is." >&2; exit 1; }
	@.venv/bin/python -m pytest tests/data $(ARGS)

check: .venv/.packages ## Formatting, lint, strict types, layers
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest tests/test_layers.py

bench: setup ## The engine, the state core and the store finder beside their peers; writes docs/benchmarks.md (ARGS=--quick: the engine, quickly)
	@.venv/bin/python -m loadtest.engine $(ARGS)
	@[ -n "$(ARGS)" ] || .venv/bin/python -m loadtest.state
	@[ -n "$(ARGS)" ] || .venv/bin/python -m loadtest.finder

bench-service: ## Requests a second of the whole service (not built yet)
	@echo "make bench-service is not built yet; make bench measures the engine." >&2; exit 1

nightly: export NEARHIVE_TEST_SCALE ?= 10
nightly: .venv/.test-servers setup ## The same tests with bigger numbers (NEARHIVE_TEST_SCALE, 10), real inputs too where they are
	@.venv/bin/python -m pytest -o timeout=3600 $(ARGS)
	@if [ -d "$(TEST_DATA)" ]; then .venv/bin/python -m pytest tests/data -o timeout=3600 $(ARGS); fi

load: setup ## 60 s of Locust against $URL, or a service of its own; report: reports/load.html
	@bash loadtest/run.sh

clean: ## Remove .venv, caches and reports; keeps the data directory .nearhive
	@rm -rf .venv reports .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find geo discovery api loadtest tests -name __pycache__ -type d -prune -exec rm -rf {} +
