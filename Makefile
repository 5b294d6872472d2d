# The two commands of a newcomer: `make demo` and `make test`. `make check` is what CI runs.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TESTS ?= tests

.PHONY: install develop tools demo test check lint types imports rfc clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@tests/tools/ensure-venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

develop: $(VENV)/.developed

$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The mail programs that the scenario tests talk to, from Debian's packages.
tools:
	@tests/tools/ensure-mail-programs

demo: install
	$(BIN)/waypost lab

test: develop tools
	$(BIN)/pytest -n auto --dist loadgroup $(TESTS)

lint: develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: develop
	$(BIN)/mypy

imports: develop
	$(BIN)/lint-imports --no-cache

check: lint types imports test

# Every place that cites an RFC: `make rfc N=5321`
rfc:
	@grep -rnE 'RFC $(N)\b' src tests docs --include='*.py' --include='*.md'

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
