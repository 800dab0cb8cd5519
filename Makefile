# altub-exp: `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
HOST ?= 127.0.0.1
PORT ?= 5000
COVERAGE_FLOOR := 90

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types pytest coverage test-slow test-slurm test-server test-browser test-gpu
.PHONY: tables figures report bench bench-gpu bench-runs bench-peers ui server docs picture dist lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## create .venv from requirements.lock and install the program into it

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: run make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python lacks its venv module: apt-get install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV): several GB (PyTorch with CUDA), 3 to 10 minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# byte code, on all cores where pip takes one; a file of PyTorch for Python 3.12 alone makes it fail on 3.11
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

define DEMO_BEFORE
FastFlow learns 48 built-in images of fabric and is tested on 40, first without and then with AltUB: 30 epochs each, about
a minute on two CPU cores. It needs no network, no GPU and no weights.
endef
define DEMO_AFTER

The table shows that the program works, from images to statistics: the images are drawn and the backbone is untrained, so
that it says nothing about whether AltUB helps on real images (results on real ones: README.md).
Curves and anomaly maps: runs/synthetic/fabric/; every number: make ui. Next, your own images (folders: README.md):
  $(BIN)/python -m altub_exp.train -m dataset=folder dataset.root=images dataset.category=bolts backbone=mobilenetv2 altub=none,alternating
endef
export DEMO_BEFORE DEMO_AFTER

demo: setup ## the main job on built-in images, with and without AltUB; prints the stability table
	@echo "$$DEMO_BEFORE"
	@$(BIN)/python -m altub_exp.train -m experiment=demo altub=none,alternating
	@$(BIN)/python -m analysis.tables stability --experiment demo
	@echo "$$DEMO_AFTER"

test: setup lint types pytest ## set up, then lint, types, doctests and all quick tests

lint: setup ## ruff: lint and format; import-linter: imports point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: setup ## mypy --strict on src/
	$(BIN)/mypy

pytest: setup ## doctests and tests, WORKERS processes at once
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not slurm and not server and not browser and not gpu" -rs

coverage: setup ## branch coverage of the quick tests, their commands' processes included; fails below the floor
	@rm -f .coverage .coverage.*
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q -m "not slow and not slurm and not server and not browser and not gpu"
	@$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --fail-under=$(COVERAGE_FLOOR)

test-slow: setup ## the tests that take minutes: the real data set where it is present
	$(BIN)/python -m pytest -q -m slow -rs

test-slurm: setup ## the tests that start a Slurm cluster of their own; installs Debian's Slurm where it is missing (root)
	tests/install.sh slurm
	$(BIN)/python -m pytest -q -m slurm -rs

test-server: setup ## forty writers at once, over PostgreSQL; installs Debian's PostgreSQL where it is missing (root)
	tests/install.sh postgresql
	$(BIN)/python -m pytest -q -m server -rs

test-gpu: setup ## what runs on a GPU, on a real one: the same numbers as the CPU's
	$(BIN)/python -m pytest -q -m gpu -rs

test-browser: setup ## report and MLflow's interface in a real Chromium; installs Debian's where it is missing (root)
	tests/install.sh chromium
	$(BIN)/python -m pytest -q -m browser -rs

tables: setup ## the paper's tables from MLflow, into results/tables/; URI=... and EXPERIMENT="NAME ..." choose what is read
	@$(BIN)/python -m analysis.tables all $(if $(URI),--tracking-uri '$(URI)') $(foreach name,$(EXPERIMENT),--experiment '$(name)')

figures: setup ## the paper's figures and those of all runs, into results/figures/; URI and EXPERIMENT as with tables
	@$(BIN)/python -m analysis.figures all $(if $(URI),--tracking-uri '$(URI)') $(foreach name,$(EXPERIMENT),--experiment '$(name)')

report: setup ## one page with all tables and figures, results/report.html; URI and EXPERIMENT as for tables
	@$(BIN)/python -m analysis.report $(if $(URI),--tracking-uri '$(URI)') $(foreach name,$(EXPERIMENT),--experiment '$(name)')

bench: setup ## speed, as ratios measured in one run on this machine
	$(BIN)/python -m bench
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.sweep
	$(BIN)/python -m bench.tables

bench-gpu: setup ## on a GPU: what a batch takes by precision and why, and runs an hour with 1, 4 and 8 at once
	$(BIN)/python -m bench.steps --profile 12
	$(BIN)/python -m bench.throughput --precision tf32

bench-runs: setup ## runs an hour with several at once on this machine's GPU or cores, and the time of Table A1
	$(BIN)/python -m bench.throughput

PEERS := .venv-peers
bench-peers: setup ## a whole epoch against anomalib's, which is installed into an environment of its own
	@test -e $(PEERS)/.ready || { $(PYTHON) -m venv $(PEERS) && $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check anomalib==2.7.0 "$$(grep '^torch==' requirements.lock)" && touch $(PEERS)/.ready; }
	$(BIN)/python -m bench.peers --python $(PEERS)/bin/python

ui: setup ## MLflow's web interface on http://127.0.0.1:5000; how to find the tables there: docs/mlflow.md
	@echo "Runs: http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}

server: setup ## MLflow server for many writers; BACKEND_STORE_URI, HOST, PORT and OPTIONS=... may be given
	@$(if $(BACKEND_STORE_URI),MLFLOW_BACKEND_STORE_URI='$(BACKEND_STORE_URI)') $(BIN)/python -m altub_exp.server --host $(HOST) --port $(PORT) $(OPTIONS)

docs: setup ## the documents as a site in site/, every link and reference checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

picture: setup ## draw docs/images/demo.png anew, from the demo's own figures
	$(BIN)/python docs/picture.py

dist: setup ## wheel and sdist in dist/, tried in an environment of their own
	rm -rf dist
	$(BIN)/hatchling build
	ALTUB_DIST=dist $(BIN)/python -m pytest -q tests/test_package.py

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate pyproject.toml -o requirements.lock

clean: ## remove what the tools cache; runs, data and records stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +
