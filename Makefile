# Targets for users and developers; `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CONSTRAINTS := constraints.txt
READY := $(VENV)/.ready
# Two workers, each with whole test files: a test may start two ranks.
PYTEST := python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo drill gpu-check docs test test-quick lint types format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## Create .venv with the tested versions

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(READY)  ## Run the demo: render drives, pack, train, evaluate, draw a depth picture
	python launch/demo.py --output demo_output

STOPS := TERM to worker|all processes|timeout
drill: $(READY)  ## Run the fault drill: inject faults into a training, report the steps lost
	python tests/run_drill.py --output drill_output/all
	python tests/run_drill.py --output drill_output/stops --only "$(STOPS)" --repeats 5
	python tests/run_drill.py --output drill_output/stops-4 --only "$(STOPS)" --repeats 5 --accumulation 4

gpu-check: $(READY)  ## Run the numeric tests, a short training and benchmarks on the GPU
	python tests/gpu_check.py --output gpu_check_output

docs: $(READY)  ## Regenerate the documents' table of settings and list of files
	python docs/generate.py

test: lint types  ## Run all checks and all tests
	$(PYTEST) --maxfail 10

test-quick: $(READY)  ## Run the fast tests, in under five minutes
	$(PYTEST) -m "not slow"

lint: $(READY)  ## Check the style
	ruff check .
	ruff format --check .

types: $(READY)  ## Check the types of the package
	pyright

format: $(READY)  ## Format the code
	ruff check --fix .
	ruff format .

clean:  ## Remove the files that these targets create
	rm -rf $(VENV) demo_output drill_output gpu_check_output build *.egg-info .pytest_cache .ruff_cache .hypothesis
