# Every target makes its own .venv with what it needs. With a GPU: make demo FAISS=gpu
PYTHON ?= python3
FAISS ?= cpu
BIN := .venv/bin

.PHONY: help install demo check test test-slow docs
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

install: .venv/installed  ## create .venv and install the library

demo: .venv/installed  ## draw a plankton set, train, index, name, score: into runs/demo
	$(BIN)/plankton-embed demo

check: .venv/installed-test  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: .venv/installed-test  ## the quick tests, a process per core with one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal --durations=40

test-slow: .venv/installed-test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

docs: .venv/installed-docs  ## build the pages into docs/_build/html
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

.venv/installed: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[$(FAISS),report]"
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[$(FAISS),test,check]"
	@touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[$(FAISS),report,docs]"
	@touch $@
