# `make train` and `make test` set up all they need in .venv; PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Python compiles the modules that are used, once; pip would compile all of them, which is nearly half of its time.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: train test slow models extension lint clean

train: $(VENV)/.installed
	$(BIN)/python launch.py --experiment=digits_resnet

# XLA's older generator of loops compiles the suite's thousands of unoptimised programs twice as fast (optimised ones slower: 52 s
# for 12 s of first state); jaxlib has it until 0.10. In one part each compiles 4 % faster. Commands that tests run as a user types
# them are compiled as a user's are.
OLDER_LOOPS = $$($(BIN)/python -c 'import jaxlib; print("--xla_cpu_use_fusion_emitters=false" * (jaxlib.__version__ < "0.11"))')
test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	XLA_FLAGS="$$XLA_FLAGS $(OLDER_LOOPS) --xla_cpu_parallel_codegen_split_count=1" $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# What takes minutes: every offline experiment over five seeds, as its header reports it.
slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -s --ignore=tests/test_models.py

# Every registered network for real, compiled as a user's: gradients, devices, jit against eager. Takes an hour and a half of CPU.
models: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_models.py

# Optional kernels for this machine's CPU: takes a C++ compiler, puts one file into the user's cache.
extension: $(VENV)/.installed
	$(BIN)/python -m cnn_jax.build_extension

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt $(VENV)/bin/python
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(INSTALL) -r requirements-dev.txt
	touch $@
