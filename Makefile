# make demo    the whole job on synthetic micrographs, on a machine with nothing but Python 3.11 or newer
# make test    all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo-out

.PHONY: thresholds demo test test-slow test-interop test-node lint format typecheck bench growth load truth evaluate clean help

help:
	@sed -n 's/^# //p' Makefile

$(STAMP): pyproject.toml hatch_build.py $(wildcard proto/twinscope/v1/*.proto)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Twinscope needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	rm -rf $(DEMO)
	$(BIN)/twinscope demo --out $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-interop: $(STAMP)
	$(BIN)/python -m pytest -m interop

test-node: $(STAMP)
	cd clients/node && npm ci && npm run build && TWINSCOPE_COMMAND=$(abspath $(BIN)/twinscope) npm test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(ARGUMENTS)

growth: $(STAMP)
	$(BIN)/python benchmarks/growth.py $(ARGUMENTS)

load: $(STAMP)
	$(BIN)/python benchmarks/load.py

truth: $(STAMP)
	$(BIN)/python benchmarks/real_twins.py
	$(BIN)/python benchmarks/remote.py

evaluate: $(STAMP)
	$(BIN)/python benchmarks/accuracy.py ../shared/data/micrographs --kin benchmarks/overlapping_scenes.tsv --groups A B C R

thresholds: $(STAMP)
	$(BIN)/python docs/thresholds_table.py > docs/thresholds.md

clean:
	rm -rf $(VENV) $(DEMO) benchmarks/out .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
