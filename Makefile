# Each target works from a fresh clone: it sets up what it needs first. Wanted: Python >= 3.11 with pip, and make.
# Settings: PYTHON=/path/to/python3, CAPRL_SETUP=auto|gpu|cpu|none, TEST_WORKERS=2.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-production test-nightly check format bench clean distclean

# The first Python on the path that is new enough.
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
BIN := .venv/bin
# Two test files at a time; all tests of a file share a process, and with it the engine or server its fixtures started.
TEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

help:
	@echo "make setup      install everything into .venv (each other target does it too)"
	@echo "make demo       questions, GRPO, datasets, scores on this machine: no GPU, no internet, no AWS"
	@echo "make test       the tests (under 25 minutes on two cores)"
	@echo "make test-long  the tests that take minutes each"
	@echo "make test-production  a whole plant (Prefect on PostgreSQL, Ceph, workers) whose parts are killed (5 minutes)"
	@echo "make test-nightly  100,000 cases of each property of questions, rotations and letters (hours)"
	@echo "make check      lint, format and types"
	@echo "make format     put the code into its format"
	@echo "make bench      the measurements of bench/"
	@echo "make clean      remove caches and demo data; distclean removes .venv too"

setup:
	@test -n "$(PYTHON)" || { echo "setup: no Python >= 3.11 found; install one, or say PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) scripts/install.py

demo: setup
	$(BIN)/python -m caprl_core.world.demo

test: setup
	$(PYTEST) -m "not long and not production"

test-long: setup
	$(PYTEST) -m "long and not production"

# One at a time, as each is a dozen processes; with -s for the table of deaths. Skipped, with the reason, where Ceph or
# PostgreSQL is not installed (scripts/install_production_packages.sh).
test-production: setup
	$(BIN)/python -m pytest -m production -s

test-nightly: setup
	HYPOTHESIS_PROFILE=nightly $(PYTEST) --dist load --timeout 0 \
		tests/qa/test_rotation.py tests/qa/test_letters.py tests/qa/blocks/test_block_properties.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .cache
