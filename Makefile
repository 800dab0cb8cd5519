# altub-exp: `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
HOST ?= 127.0.0.1
PORT ?= 5000
COVERAGE_FLOOR := 96
# one word of a shell, whatever a variable holds
quoted = '$(subst ','\'',$(1))'
CHOICE = $(if $(URI),--tracking-uri $(call quoted,$(value URI))) $(foreach name,$(value EXPERIMENT),--experiment $(call quoted,$(name)))
LARGE := torch|triton|nvidia-.*|cuda-.*

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-real test lint types pytest coverage test-slow test-crash test-slurm test-server test-browser test-gpu test-rivals
.PHONY: tables figures report study study-runs bench bench-gpu bench-runs bench-peers rivals ui server docs picture screenshot dist lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## create .venv from requirements.lock and install the program into it

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: run make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python lacks its venv module: apt-get install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV): several GB (PyTorch with CUDA), 2 to 10 minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@# the lock names every dependency, so two processes install a half each: PyTorch with CUDA's libraries, and the others
	@for half in large small; do \
		awk -v half=$$half '/^[^ ]/ { of = /^($(LARGE))==/ ? "large" : "small" } of == half' requirements.lock > $(VENV)/$$half.txt; \
	done
	@printf '%s\n' large small | xargs -P 2 -I % $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-compile --no-deps --require-hashes -r $(VENV)/%.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# byte code, on all cores where pip takes one; a file of PyTorch that needs Python 3.12 makes it fail on 3.11
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@touch $@

demo: setup ## run the main job on built-in images, with and without AltUB, and print the stability table
	@printf '%s\n' 'FastFlow learns 48 built-in images of fabric and is tested on 40, first without and then with AltUB: 30 epochs each,' \
		'about a minute on two CPU cores. It needs no network and no GPU.'
	@$(BIN)/python -m altub_exp.train -m experiment=demo altub=none,alternating
	@$(BIN)/python -m analysis.tables stability --experiment demo
	@printf '%s\n' '' 'The table shows that the program works, from images to statistics. The images are drawn,' \
		'so that it says nothing about whether AltUB helps on real images: make demo-real shows that.' \
		'Curves and anomaly maps are in runs/synthetic/fabric/, every number is in MLflow (make ui).' \
		'Next, your own images, in folders as README.md shows them:' \
		'  $(BIN)/python -m altub_exp.train -m dataset=folder dataset.root=images dataset.category=bolts backbone=lite0 altub=none,alternating'

demo-real: setup ## run the main job on real images, installed here (90 MB, non-commercial licence): about 6 minutes
	@printf '%s\n' 'This installs the package elpv-dataset 1.0.0.post1 (about 90 MB, from the package index of pip): images of solar cells by' \
		'Deitsch et al. 2019, https://doi.org/10.1016/j.solener.2019.02.067, under CC BY-NC-SA 4.0: for non-commercial use only.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps elpv-dataset==1.0.0.post1
	@printf '%s\n' '' 'FastFlow learns 392 monocrystalline cells without defects and is tested on 196 others and 313 defective ones, first' \
		'without and then with AltUB: 30 epochs each, about 6 minutes on two CPU cores. From here on it needs no network, and no GPU.'
	@$(BIN)/python -m altub_exp.train -m experiment=demo-real altub=none,alternating
	@$(BIN)/python -m analysis.tables stability --experiment demo-real
	@printf '%s\n' '' 'Each line has the mean and the standard deviation of the image AUROC over the epochs 10 to 30: the higher the better, and' \
		'the smaller the steadier. The backbone is trained on ImageNet and the images are real, but this is one category and one' \
		'seed: it does not show that AltUB helps in general. Other seeds and polycrystalline cells:' \
		'  $(BIN)/python -m altub_exp.train -m experiment=demo-real dataset.category=all altub=none,alternating seed=25,26,27' \
		'Curves and anomaly maps are in runs/elpv/mono/, every number is in MLflow (make ui). docs/data.md describes the images.'

test: setup lint types pytest ## lint, check types, and run doctests and all quick tests

lint: setup ## check lint and format (ruff), and that imports point down (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: setup ## check types: mypy --strict on src/, analysis/ and bench/
	$(BIN)/mypy

pytest: setup ## run doctests and quick tests in WORKERS processes
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not slurm and not server and not browser and not gpu and not crash and not rivals" -rs

coverage: setup ## measure branch coverage of the quick tests and their processes; fails below the floor
	@rm -f .coverage .coverage.*
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not slurm and not server and not browser and not gpu and not crash and not rivals"
	@$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --fail-under=$(COVERAGE_FLOOR)

test-slow: setup ## run the tests that take minutes, with the real data set if it is present
	$(BIN)/python -m pytest -q -m slow -rs

test-crash: setup ## kill runs and sweeps at each of their operations on the disk (needs a C compiler; two hours); optional: CRASH_STRIDE=n
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m crash -rs

test-slurm: setup ## run the tests on a real Slurm cluster; installs Debian's Slurm if it is missing (root)
	tests/install.sh slurm
	$(BIN)/python -m pytest -q -m slurm -rs

test-server: setup ## test a server with forty writers; installs Debian's PostgreSQL if it is missing (root)
	tests/install.sh postgresql
	$(BIN)/python -m pytest -q -m server -rs

test-gpu: setup ## compare the numbers of a real GPU with the CPU's
	$(BIN)/python -m pytest -q -m gpu -rs

test-rivals: setup rivals ## compute rivals by anomalib, and compare its features with the program's
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -q -m rivals -rs

test-browser: setup ## test report and MLflow's interface in Chromium; installs Debian's if it is missing (root)
	tests/install.sh chromium
	$(BIN)/python -m pytest -q -m browser -rs

tables: setup ## write the paper's tables to results/tables/; URI=... and EXPERIMENT="NAME ..." choose the runs
	@$(BIN)/python -m analysis.tables all $(CHOICE)

figures: setup ## write the figures of the paper and of all runs to results/figures/; URI and EXPERIMENT as for tables
	@$(BIN)/python -m analysis.figures all $(CHOICE)

report: setup ## write one page with all tables and figures, results/report.html; URI and EXPERIMENT as for tables
	@$(BIN)/python -m analysis.report $(CHOICE)

study: setup ## write docs/study.md and its figures again from the recorded runs in study/
	@$(BIN)/python -m analysis.study page

STUDY_SWEEPS ?= study_a
STUDY_POOL := hydra/launcher=gpu_pool hydra.launcher.cpu_slots=2 threads=1
study-runs: setup ## compute the study's runs that study/ lacks, two at a time; optional: STUDY_SWEEPS="study_a …", OPTIONS=...
	@test ! -e study/runs.parquet || $(BIN)/python -m analysis.study unpack runs
	@for sweep in $(STUDY_SWEEPS); do $(BIN)/python -m altub_exp.train -m +sweeps=$$sweep $(STUDY_POOL) $(OPTIONS) || exit 1; done
	@$(BIN)/python -m analysis.study pack runs

bench: setup ## measure speed, as ratios within one run on this machine
	$(BIN)/python -m bench
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.sweep
	$(BIN)/python -m bench.tables

bench-gpu: setup ## measure on a GPU the time of a batch by precision, and runs per hour with 1, 4 and 8 at once
	$(BIN)/python -m bench.steps --profile 12
	$(BIN)/python -m bench.throughput --precision tf32

bench-runs: setup ## measure runs per hour with several at once on this machine, and estimate the time of Table A1
	$(BIN)/python -m bench.throughput

RIVALS := .venv-rivals
rivals: $(RIVALS)/.ready ## create .venv-rivals from rivals.lock: anomalib, which computes model=patchcore and model=draem

$(RIVALS)/.ready: rivals.lock
	@echo "Installing anomalib and what it needs into $(RIVALS): several GB (PyTorch with CUDA), 2 to 10 minutes, once."
	@$(PYTHON) -m venv $(RIVALS)
	@$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r rivals.lock
	@touch $@

bench-peers: setup rivals ## compare a whole epoch with anomalib's, which has its own environment
	$(BIN)/python -m bench.peers --python $(RIVALS)/bin/python

ui: setup ## start MLflow's web interface, and print the address of the newest experiment's runs; see docs/mlflow.md
	@$(BIN)/python -m altub_exp.server --host 127.0.0.1 --port 5000 --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}

server: setup ## start an MLflow server for many writers; optional: BACKEND_STORE_URI, HOST, PORT, OPTIONS=...
	@$(if $(BACKEND_STORE_URI),MLFLOW_BACKEND_STORE_URI=$(call quoted,$(value BACKEND_STORE_URI))) $(BIN)/python -m altub_exp.server --host $(HOST) --port $(PORT) $(OPTIONS)

docs: setup ## build the documents as a site in site/, and check every link and reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

picture: setup ## draw docs/images/demo.png again from the demo's figures
	$(BIN)/python docs/picture.py

screenshot: setup ## draw docs/images/mlflow.png again: the demo in MLflow's interface; installs Debian's Chromium (root)
	tests/install.sh chromium
	$(BIN)/python docs/screenshot.py

dist: setup ## build wheel and sdist in dist/, and test them in a new environment
	rm -rf dist
	$(BIN)/hatchling build
	ALTUB_DIST=dist $(BIN)/python -m pytest -q tests/test_package.py

lock: ## resolve pyproject.toml into requirements.lock and rivals.lock again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --generate-hashes pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --group rivals --constraint requirements.lock --no-header --no-annotate \
		--generate-hashes -o rivals.lock

clean: ## remove the tools' caches; runs, data and records stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +
