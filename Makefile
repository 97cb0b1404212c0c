# make demo: set up .venv and run the main job on the sample video; needs a package index once, then no network.
# make test: set up .venv with everything and run the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/demo.installed out/street.mp4
	$(BIN)/framechain run out/street.mp4 --config configs/street.yaml \
		--video out/demo.mp4 --jsonl out/demo.jsonl --mot out/demo.txt --report out/demo.json

out/street.mp4: samples/render_street.py $(VENV)/demo.installed
	$(BIN)/python samples/render_street.py $@

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# ultralytics without its dependencies: the sample video is composed from the photographs that its wheel carries.
$(VENV)/demo.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	$(BIN)/python -m pip install --quiet --no-deps ultralytics
	touch $@

$(VENV)/dev.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .[dev]
	touch $@

clean:
	rm -rf $(VENV) out
