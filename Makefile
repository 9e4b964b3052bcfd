# make demo   sets up and runs the main job: a moving street, segmented, recorded to demo.mp4
# make test   sets up and passes the tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# TensorRT's bindings, without its libraries, which are not on PyPI: tests/bindings/ asks them for each name that we use.
BINDINGS := 10.16.1.11 11.4.0.106

.PHONY: demo test lint types clean

demo: $(VENV)/.base
	$(BIN)/rtpsp run --source 'sim://street?w=960&h=720&fps=30&frames=150&seed=1' \
	    --output demo.mp4 --report demo.json --legend --hud

test: lint types
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

$(VENV)/.base: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) -e '.[train,test]'
	for version in $(BINDINGS); do \
	    $(PIP) --no-deps --upgrade --target $(VENV)/tensorrt-$$version tensorrt_cu13_bindings==$$version || exit 1; \
	done
	touch $@

clean:
	rm -rf $(VENV) demo.mp4 demo.json
