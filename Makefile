# make install make .venv, the environment of the other commands, which make it when it is missing
# make demo    train and test HRFormer-T on generated people
# make test    run the tests
# Variables:
#   PYTHON=python3.12   interpreter to make .venv with
#   TORCH=2.10.0        another PyTorch than requirements.txt names (V100: see docs/getting_started.md)
#   VENV=/some/folder   another place for the environment
#   WORKERS=4           processes that run tests (2)
#   TESTS=tests/coco    tests to run (all)
#   FLAGS='--num-train 100'  flags of tools/demo.py
# make docs    build the documentation's site in build/site; a broken link is an error
# make fuzz    damaged and hostile inputs: INPUTS=10000 SEED=time in seconds, or as given

PYTHON ?= python3
WORKERS ?= 2
VENV ?= .venv
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.txt)
DEMO ?= data/demo
INPUTS ?= 10000
SEED ?= $(shell date +%s)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all:

.PHONY: install demo test test-slow fuzz lint doctor docs clean

install: $(VENV)/.installed
	@echo "installed; activate it in each shell: . $(VENV)/bin/activate"

demo: $(VENV)/.installed
	$(VENV)/bin/python tools/demo.py --data-root $(DEMO) $(FLAGS)

# Bytecode is kept: each of the tests' processes would compile all modules again.
test: $(VENV)/.triton
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 $(TESTS)

test-slow: $(VENV)/.triton
	$(VENV)/bin/python -m pytest -q -m 'slow or not slow' --durations=20

fuzz: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "the site is build/site/index.html"

doctor: $(VENV)/.installed
	$(VENV)/bin/python -m hrformer_mmpose.doctor

# torch first, with what it needs; the rest is pinned completely and needs no resolving.
$(VENV)/.installed: requirements.txt pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing torch $(TORCH)"
	@$(PIP) "torch==$(TORCH)"
	@echo "installing MMPose and what it stands on"
	@grep -v '^torch==\|^triton==' requirements.txt > $(VENV)/rest.txt
	@$(PIP) --no-deps -r $(VENV)/rest.txt
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -e .
	@touch $@

# For tests of the CUDA kernels. PyTorch's CUDA builds bring the Triton that they fit.
$(VENV)/.triton: $(VENV)/.installed
	@grep '^triton==' requirements.txt > $(VENV)/triton.txt
	@$(VENV)/bin/python -c 'import triton' 2> /dev/null || $(PIP) --no-deps -r $(VENV)/triton.txt
	@touch $@

# Of the extra `docs`, what builds the site. It reads the package's source, without PyTorch.
$(VENV)/.docs: pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing mkdocs"
	@$(PIP) -c requirements.txt $$(sed -n '/^docs = \[/,/^\]/s/^ *"\(mkdocs.*\)",$$/\1/p' pyproject.toml)
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
