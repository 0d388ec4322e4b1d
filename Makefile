# Two commands on a fresh machine: `make quickstart` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test check format bench clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,track,meteor,dev]'
	touch $@

quickstart: $(STAMP)
	$(BIN)/rscap quickstart --out runs/quickstart

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

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
