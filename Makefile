# Two commands on a fresh machine: `make quickstart` and `make test`. Each sets up .venv by itself.
#
#   make test         all but what is marked slow or needs more than a CPU, on all cores
#   make test-fast    what needs no torch, in seconds
#   make docs         the website in site/, checked for broken links and addresses elsewhere
#   make test-slow    what `make test` leaves out; tests whose browser, Java, Ray or weights are missing skip
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

MARKED := slow or large or java or browser or ray or weights
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n logical --maxprocesses 8 --dist loadfile

.PHONY: quickstart test test-fast test-slow check docs format bench clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,geo,track,meteor,serve,pdf,dev]'
	touch $@

quickstart: $(STAMP)
	$(BIN)/rscap quickstart --out runs/quickstart

test: $(STAMP)
	$(PYTEST) $(PARALLEL)

test-fast: $(STAMP)
	$(PYTEST) $(PARALLEL) --without-torch

test-slow: $(STAMP)
	$(PYTEST) -m '$(MARKED)'

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs
	$(PYTEST) $(PARALLEL)

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(PYTEST) -m slow tests/docs/test_site.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python benchmarks/train_step.py --repetitions 2
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/linear.py
	$(BIN)/python benchmarks/score.py --rounds 3
	$(BIN)/python benchmarks/table.py

clean:
	rm -rf $(VENV) build dist
