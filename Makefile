# make demo: train, COCO table, pictures, on scenes it generates.   make test: the test suite.
# make demo-segmentation: the same for segmentation, with the Cityscapes table and overlays.
# make demo-joint: both from one network, with both tables and boxes over the overlays.
# make lint: style, types and the rules of the house.   make hooks: the same before each commit.
# make coverage: the tests, and the lines that they run; fails where the share falls below its floor.
# make docs: the site of the documentation in site/; a warning is an error.
# Each sets up .venv by itself; all it needs is Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := demo
SCENES = $(BIN)/python -m engine.scenes demo-data --train 800 --val 64 --height 256 --width 512 \
	--classes '["person", "rider", "car", "truck", "bus", "bicycle", "traffic sign"]'

unexport PYTHONDONTWRITEBYTECODE  # with it, each process compiles every package anew, which takes longer than many tests

.PHONY: help demo demo-segmentation demo-joint test coverage lint docs hooks setup lock clean

help:
	@sed -n 's/^# //p' Makefile

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; give it as make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup
	rm -rf runs/detection/$(RUN) demo-output
	$(SCENES)
	$(BIN)/python -m detection fit --config configs/detection/demo.yaml --run.name $(RUN)
	$(BIN)/python -m detection predict --ckpt_path best --run.name $(RUN) --source 'demo-data/leftImg8bit/val/*/*.png' --output demo-output
	$(BIN)/python -m detection test --config configs/detection/demo.yaml --ckpt_path best --run.name $(RUN)
	@echo "Pictures: demo-output/   checkpoints, curves, config: runs/detection/$(RUN)/"

demo-segmentation: setup
	rm -rf runs/segmentation/$(RUN) demo-segmentation-output
	$(SCENES)
	$(BIN)/python -m segmentation fit --config configs/segmentation/demo.yaml --run.name $(RUN)
	$(BIN)/python -m segmentation predict --ckpt_path best --run.name $(RUN) --source demo-data/leftImg8bit/val --scales '[1.25]' --flip true --output demo-segmentation-output
	$(BIN)/python -m segmentation test --config configs/segmentation/demo.yaml --ckpt_path best --run.name $(RUN)
	@echo "Overlays: demo-segmentation-output/   checkpoints, curves, config: runs/segmentation/$(RUN)/"

demo-joint: setup
	rm -rf runs/joint/$(RUN) demo-joint-output
	$(SCENES)
	$(BIN)/python -m joint fit --config configs/joint/demo.yaml --run.name $(RUN)
	$(BIN)/python -m joint predict --ckpt_path best --run.name $(RUN) --source demo-data/leftImg8bit/val --output demo-joint-output
	$(BIN)/python -m joint test --config configs/joint/demo.yaml --ckpt_path best --run.name $(RUN)
	@echo "Pictures: demo-joint-output/   checkpoints, curves, config: runs/joint/$(RUN)/"

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

coverage: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --cov

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/house

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site: site/index.html"

hooks: setup
	$(BIN)/pre-commit install

lock:
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra demo --extra docs --extra explain --extra fast --extra geo --extra hub --extra keras --extra litert --extra onnx --extra openvino --extra prune --extra ray --extra serve --extra slides --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf demo-data demo-output demo-segmentation-output demo-joint-output runs site .coverage
