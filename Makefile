# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$p"; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PROCESSES ?= 2

.PHONY: help demo rag test rig servers bench chaos chaos-real lock docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.lakeflow  ## install, then run the whole flow on real data
	$(BIN)/lakeflow demo $(ARGS)

rag: $(VENV)/.lakeflow  ## install, then have questions answered out of documentation (examples/rag)
	$(BIN)/python examples/rag/run.py

test: $(VENV)/.lakeflow-test  ## install what the lock pins, then lint, check types and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/pytest -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder $(ARGS)

rig:  ## fetch the real servers that tests use (Java, Maven, Go and PostgreSQL must be there); minutes, once
	$(PYTHON) -m tests.rig fetch $(ARGS)

servers: $(VENV)/.lakeflow-test  ## start the real servers on this machine, print how to reach them, stay until Ctrl-C
	$(BIN)/python -m tests.rig serve

bench: $(VENV)/.lakeflow-bench  ## measure speed and memory; takes long
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.lakeflow-test  ## kill, pause and race real processes, the long form
	LAKEFLOW_CHAOS=long $(BIN)/pytest -m chaos tests/chaos $(ARGS)

chaos-real: $(VENV)/.lakeflow-test  ## the same on real brokers, catalog and object store (make rig), for 20 minutes
	$(BIN)/python -m tests.chaos.real $(ARGS)

docs: $(VENV)/.lakeflow  ## write the generated pages of docs/
	$(BIN)/python -c "import sys; from lakeflow.keys import documentation; sys.stdout.write(documentation())" > docs/configuration.md
	$(BIN)/python -m lakeflow.cli.manual > docs/cli.md

lock: $(VENV)/.made  ## pin what tests run with, with hashes
	$(BIN)/pip install --quiet "uv>=0.9"
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
	  --no-annotate --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --output-file requirements-test.lock

clean:  ## remove the virtual environment and what tools leave behind
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Each mark is newer than what was installed from.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer is found; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.lakeflow: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.lakeflow-test: pyproject.toml requirements-test.lock | $(VENV)/.made
	$(BIN)/pip install --quiet --require-hashes -r requirements-test.lock
	$(BIN)/pip install --quiet --no-deps -e .
	$(BIN)/pip check
	touch $@ $(VENV)/.lakeflow

$(VENV)/.lakeflow-bench: pyproject.toml requirements-test.lock $(VENV)/.lakeflow-test
	$(BIN)/pip install --quiet -e ".[bench]"
	touch $@
