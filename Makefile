# Every command a developer needs. `make test` is what every commit must pass; it sets everything up by itself.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Which build of torch, and which versions: another file for another device (see README).
CONSTRAINTS ?= constraints/cpu.txt
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: help setup demo serve test test-pythons lint format docs web bench verify clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything; quick when it is there

$(STAMP): pyproject.toml $(CONSTRAINTS) $(wildcard constraints/*.txt)
	@test -n "$(PYTHON)" || { echo "Safelight needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e ".[engine,dev]"
# The reference of the sampler tests; its other requirements are for training.
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) --no-deps k-diffusion
	@touch $@

demo: setup ## Start a server, draw postcards, show where they are
	$(BIN)/safelight demo $(ARGS)

serve: setup ## Start the server; ARGS="--set server.port=8485"
	$(BIN)/safelight serve $(ARGS)

test: setup ## Everything a commit must pass (at most 20 minutes on two cores)
	$(BIN)/python tests/suite.py

test-pythons: setup ## Unit and conformance tests of the built wheel, on each Python from 3.11 that is here
	$(BIN)/python tests/pythons.py --constraints $(CONSTRAINTS)

lint: setup ## The checks of `make test` that run nothing
	$(BIN)/python tests/suite.py --only ruff format mypy windows imports

format: setup ## Put the source in form
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

docs: setup ## Write the generated pages again
	$(BIN)/python docs/generate.py

web: setup ## Check the page, which is plain and needs no build
	$(BIN)/python -m pytest -q tests/acceptance/test_http_server.py -k pages

bench: setup ## Measure this machine
	$(BIN)/python -m benchmarks $(ARGS)

verify: setup ## The long figures, once (about two hours): every test that is marked slow, then the benchmarks' targets
	$(BIN)/python -m pytest -m slow --timeout 7200 -s $(ARGS)
	$(BIN)/python -m benchmarks --strict

clean: ## Remove what was built; .venv stays
	rm -rf build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
