# Everything on a fresh machine: `make demo` or `make test`. Needs Python 3.11 or newer, and make.
PYTHON ?= python3
# Where torch comes from. The default has CPU builds; for CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=
# For example --no-browser --ip 0.0.0.0, or --allow-root in a container.
LAB_ARGS ?=
# For make reproduce-*: the downloaded data; the seeds.
DATA ?=
SEEDS ?= 1 2 3

REPRODUCE := reproduce-nw-ucla reproduce-nw-ucla-aligned reproduce-nw-ucla-wide reproduce-utd-mhad
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help $(REPRODUCE) demo test check lint docs lab clean

help: ## this list
	@echo "MS-G3D Lab: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-27s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## environment, then training and testing on the embedded data set, with a report
	@$(BIN)/msg3d-lab demo

test: .venv/installed-dev ## environment, then all tests
	@$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

check: lint ## formatting, lint, types, and the quick tests of what changed: before every commit
	@$(BIN)/python -m pytest -q -m "not slow" $$($(BIN)/python .ci/changed.py) $(PYTEST_ARGS)

lint: .venv/installed-dev ## formatting, lint and types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

docs: .venv/installed-docs ## the site, in docs/_build/html
	@$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --quiet -c docs . docs/_build/html
	@echo "The site is in docs/_build/html/index.html"

$(REPRODUCE): reproduce-%: .venv/installed
	@test -n "$(DATA)" || { echo "expected DATA=, the downloaded file; how to get it:"; $(BIN)/msg3d-lab data download $(patsubst nw-ucla-%,nw-ucla,$*); exit 2; }
	@$(BIN)/msg3d-lab reproduce $* --data "$(DATA)" --seeds $(SEEDS) $(REPRODUCE_ARGS)
# Other arguments of `msg3d-lab reproduce`, such as --precision bf16-mixed; without --compact a wide network in hundreds of passes.
reproduce-nw-ucla reproduce-nw-ucla-aligned reproduce-utd-mhad: REPRODUCE_ARGS ?= --compact
# For the list of targets:
reproduce-nw-ucla: ## NW-UCLA from DATA=all_sqe.zip: four streams, SEEDS=1 2 3, tables; the same command continues
reproduce-nw-ucla-aligned: ## the same with clips turned to the body
reproduce-nw-ucla-wide: ## the same at the published width
reproduce-utd-mhad: ## the same for UTD-MHAD, DATA=Skeleton.zip

lab: .venv/installed ## environment, then JupyterLab, with the first notebook open
	@JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter $(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_ARGS)

clean: ## remove the environment, caches and the site; runs and data stay
	rm -rf docs/_build .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MS-G3D Lab needs Python 3.11 or newer, found " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	@echo "Making a virtual environment in .venv"
	@$(PYTHON) -m venv .venv

# torch first and alone, because only torch is looked for on the second index.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the dependencies (some minutes the first time, about 2 GB on disk)"
	@$(PIP) --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) torch
	@$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests need"
	@$(PIP) --editable '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	@echo "Installing what the site needs"
	@$(PIP) --editable '.[docs]'
	@touch $@
