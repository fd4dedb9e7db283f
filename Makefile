# Every target works as the first command on a fresh clone with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: help demo test check lint bench bench-compare clean

help:
	@echo "make demo   install the runtime, and explain the clip that comes with it"
	@echo "make test   run every test"
	@echo "make check  lint, format check, types, tests"
	@echo "make bench  measure against the eager PyTorch reference"
	@echo "make bench-compare"
	@echo "            the same against other libraries, too, and torch.compile: some 15 minutes"
	@echo "make clean  remove what these targets made"

# One virtual environment; a stamp for the runtime, and for each set of extras that was installed into it.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@

demo: $(VENV)/installed
	$(BIN)/tubes demo --out $(DEMO)/visualisations

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

# Without what grad-cam asks for: torchvision is one of them, its Grad-CAM does without, and [compare] has the rest.
$(VENV)/installed-grad-cam: $(VENV)/installed-compare
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps grad-cam ttach
	@touch $@

bench-compare: $(VENV)/installed-grad-cam
	$(BIN)/python -m benchmarks --all

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache
