# Commands for development and first steps; `make` without a target lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CONSTRAINTS := constraints.txt
READY := $(VENV)/.ready
# Two workers, one test file each: a test may start two ranks.
PYTEST := python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo drill docs test test-quick lint types format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## Create .venv with the tested versions

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(READY)  ## Render synthetic drives, pack, train on two ranks, evaluate, predict
	python launch/demo.py --output demo_output

drill: $(READY)  ## Inject faults into a training run, one after another, and report what is lost
	python tests/run_drill.py --output drill_output

docs: $(READY)  ## Regenerate the generated parts of the documents: settings and file list
	python docs/generate.py

test: lint types  ## Run all checks and all tests
	$(PYTEST) --maxfail 10

test-quick: $(READY)  ## Run the fast tests, under five minutes
	$(PYTEST) -m "not slow"

lint: $(READY)  ## Check the code style
	ruff check .
	ruff format --check .

types: $(READY)  ## Check the types of the package
	pyright

format: $(READY)  ## Format the code and fix lint errors
	ruff check --fix .
	ruff format .

clean:  ## Remove everything that these commands created
	rm -rf $(VENV) demo_output drill_output build *.egg-info .pytest_cache .ruff_cache .hypothesis
