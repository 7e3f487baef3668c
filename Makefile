# make quickstart   train, prompt and measure a small vision model on this machine; writes runs/quickstart/report
# make test         every check that a change must pass
#
# Each makes .venv and installs what it needs on its first call, and again when pyproject.toml or
# constraints.txt changed. Arguments: make quickstart ARGS="--images ~/Pictures", make test ARGS="-k recipe".

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c "$(NEW_ENOUGH)" >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test clean

help:
	@echo "make quickstart   train, prompt and measure a small model; see runs/quickstart/report/index.html"
	@echo "make test         lint, types, tests"
	@echo "make clean        remove .venv and caches; runs/ stays"
	@echo "Options are passed on: make quickstart ARGS=\"--images ~/Pictures --seed 1\""

quickstart: .venv/.quickstart
	@$(BIN)/lvmlite quickstart $(ARGS)

# One thread each: two test processes fill two cores, and sums are added in one order.
test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=ci $(ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find lvmlite tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing a new environment gets: without it, the environment is unfinished and made again.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "lvmlite needs Python 3.11 or newer, and none is on the PATH;" \
		"name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c "$(NEW_ENOUGH)" || { echo "lvmlite needs Python 3.11 or newer; $(PYTHON) is" \
		"$$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { echo "could not make .venv; on Debian or Ubuntu first:" \
		"apt-get install python3-venv" >&2; exit 1; }

.venv/.quickstart: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing lvmlite, PyTorch and the bundled pictures into .venv; this takes a minute or two"
	@$(PIP_INSTALL) -e ".[quickstart]"
	@touch $@

.venv/.test: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing lvmlite, PyTorch and the test tools into .venv; this takes a minute or two"
	@$(PIP_INSTALL) -e ".[quickstart,dev]"
	@touch $@ .venv/.quickstart
