# Everything a developer or a newcomer runs; `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CONSTRAINTS := constraints.txt
READY := $(VENV)/.ready
# Two at a time, a file each: a test may start two ranks.
PYTEST := python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo drill docs test test-quick lint types format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## Make .venv with the tested versions

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(READY)  ## Render drives, pack, train on two ranks, evaluate, draw a depth picture
	python launch/demo.py --output demo_output

drill: $(READY)  ## Hit a training with faults, one after another, and see what is lost
	python tests/run_drill.py --output drill_output

docs: $(READY)  ## Write the generated parts of the documents: settings and list of files
	python docs/generate.py

test: lint types  ## All checks and all tests
	$(PYTEST) --maxfail 10

test-quick: $(READY)  ## The everyday tests, under five minutes
	$(PYTEST) -m "not slow"

lint: $(READY)  ## Style
	ruff check .
	ruff format --check .

types: $(READY)  ## Types of the package
	pyright

format: $(READY)  ## Bring the code into the project's style
	ruff check --fix .
	ruff format .

clean:  ## Remove what the commands above made
	rm -rf $(VENV) demo_output drill_output build *.egg-info .pytest_cache .ruff_cache .hypothesis
