# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES := .cache/images
LIBRARIES := libnftables1
TESTED := containernetworking-plugins nftables

.PHONY: run test unit e2e lint types layers clean

run: $(VENV)/.ready $(IMAGES)/nginx.tar
	$(BIN)/python tools/first_light.py $(IMAGES)

test: $(VENV)/.ready lint types layers
	tools/install_packages $(TESTED)
	$(BIN)/pytest -q

unit: $(VENV)/.ready
	$(BIN)/pytest -q tests/unit tests/component

e2e: $(VENV)/.ready
	tools/install_packages $(TESTED)
	$(BIN)/pytest -q tests/e2e

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

layers: $(VENV)/.ready
	$(BIN)/lint-imports

$(VENV)/.ready: pyproject.toml hatch_build.py
	tools/install_packages $(LIBRARIES)
	tools/install_venv $(PYTHON) $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	$(BIN)/python -m compileall -q src  # pip does it for installed packages: starting takes half as long
	touch $@

$(IMAGES)/nginx.tar: tools/make_images.py | $(VENV)/.ready
	$(BIN)/python tools/make_images.py $(IMAGES)

clean:
	rm -rf $(VENV) .cache dist src/tiphys/api/data/schema.bin
