# make demo: installs what is needed into .venv (once) and shows the whole way in about a minute.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -q
PARALLEL := -n auto --maxprocesses 4 --dist worksteal --durations 15

.PHONY: help install demo test test-all fuzz lint clean

help:
	@echo "make demo      a trained network becomes a spiking one: about a minute, no downloads of data"
	@echo "make install   make $(VENV) with everything pinned (PYTHON=python3.12 to choose another Python)"
	@echo "make test      lint, types and the core of the tests: what every push runs"
	@echo "make test-all  lint, types and all tests but those that take minutes each (pytest -m slow)"
	@echo "make fuzz      a thousand random graphs on every engine (FUZZ_GRAPHS=5000 FUZZ_FIRST=1000 for others)"
	@echo "make lint      lint and types alone"
	@echo "make clean     remove $(VENV), caches and results of the demo"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(wildcard setup.py src/spiking_resnet/engines/cpu/native/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Install one and name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(RUN)/spiking-resnet demo

lint: install
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

test: lint
	$(PYTEST) -m "not slow and not gpu" --core $(PARALLEL)

test-all: lint
	$(PYTEST) -m "not slow and not gpu" $(PARALLEL)

fuzz: export FUZZ_GRAPHS ?= 1000
fuzz: install
	$(PYTEST) tests/engines/test_fuzz.py -n auto --dist worksteal

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build demo
	rm -rf src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
