# What a developer runs; `make setup` first.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
# Tests of what depends on versions: not those of texts, downloads, browsers and benchmarks
OLDEST := $(addprefix tests/test_,$(addsuffix .py,augment cli data_crop data_listing export files legacy losses \
	networks page problem_unittests residual_networks session train))
.PHONY: help setup test test-all test-oldest lint format notebook strip bench check

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv with everything a developer needs
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt -r requirements-dev.txt
	git config diff.ipynb.textconv '$(BIN)/jupyter nbconvert --to script --stdout --log-level ERROR'

test:  ## run the quick tests
	$(BIN)/python -m pytest -m 'not slow'

test-all:  ## run all tests, one of which runs the whole notebook
	$(BIN)/python -m pytest

test-oldest:  ## run tests of what depends on TensorFlow with requirements-oldest.txt, in .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install -q -r requirements-oldest.txt
	.venv-oldest/bin/python -m pytest -m 'not slow' $(OLDEST)

lint:  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebook:  ## run the notebook from top to bottom and keep its outputs; commit them alone
	$(BIN)/python -c 'from facegen import notebook; notebook.execute()'

strip:  ## remove the notebook's outputs
	$(BIN)/jupyter nbconvert --clear-output --inplace face_generation.ipynb

bench:  ## run the benchmarks
	$(BIN)/python benchmarks/whole_notebook.py

check: lint test-all  ## what has to pass before a commit
