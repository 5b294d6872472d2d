# The two commands of a newcomer: `make demo` and `make test`. `make check` is what CI runs.
# Benchmarks, each beside a peer and with a last line `ratio: N.NN` (docs/performance.md): `make bench-accept`,
# `bench-relay`, `bench-depth`, `bench-idle`, `bench-pop3`, `bench-storage`, or all of them by `make bench`;
# `bench-hold` says how long large deeds hold others up. Options go into ARGS: `make bench-accept ARGS="--all"`. `make bench-profile ARGS=relay` shows where the time goes.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TESTS ?= tests

BENCHES := accept relay depth idle pop3 storage hold

.PHONY: install develop tools demo test check lint types imports fuzz rfc docs clean
.PHONY: bench bench-profile bench-smoke $(addprefix bench-,$(BENCHES))

# The script looks each time whether the environment is whole: a file's date cannot tell.
install:
	@tests/tools/ensure-venv "$(PYTHON)" "$(VENV)" "$(firstword $(origin PYTHON))"

develop:
	@tests/tools/ensure-venv "$(PYTHON)" "$(VENV)" "$(firstword $(origin PYTHON))" dev

# The mail programs that the scenario tests talk to, from Debian's packages; benchmarks need no Exim.
tools: peers
	@tests/tools/ensure-exim

.PHONY: peers
peers:
	@tests/tools/ensure-mail-programs

demo: install
	$(BIN)/waypost lab

test: develop tools
	$(BIN)/pytest -n auto --dist loadfile $(TESTS)

lint: develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: develop
	$(BIN)/mypy -p waypost -p bench

imports: develop
	$(BIN)/lint-imports --no-cache

check: lint types imports test bench-smoke

bench: $(addprefix bench-,$(BENCHES))

$(addprefix bench-,$(BENCHES)) bench-profile: bench-%: develop peers
	$(BIN)/python -m bench.$* $(ARGS)

# Every benchmark, tiny: that they work, not how fast.
bench-smoke: develop peers
	$(BIN)/python -m bench.smoke

# Seeded fuzzing of every engine and parser for SECONDS, all of them or one: `make fuzz SECONDS=60 TARGET=smtp-server`
SECONDS ?= 600
fuzz: develop
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(addprefix --target ,$(TARGET)) $(addprefix --seed ,$(SEED))

# Kills under load and power losses, for about 20 minutes (docs/durability.md): `make torture ARGS="--kills 1000"`
.PHONY: torture
torture: develop
	$(BIN)/python -m tests.torture.long $(ARGS)

# What operators do to data directories, each mistake twenty times (docs/durability.md): `make torture-operators ROUNDS=5`
ROUNDS ?= 20
.PHONY: torture-operators
torture-operators: develop
	$(BIN)/python -m tests.torture.long --kills 0 --lives 0 --mistakes $(ROUNDS) $(ARGS)

# Connections that fail in mixed ways, after which a worker holds what it held before: `make soak ARGS="--connections 5000"`
.PHONY: soak
soak: develop
	$(BIN)/python -m tests.faults.soak $(ARGS)

# `make demo` and `make test` on fresh machines, as root; for hours (docs/fresh-machines.md): `make fresh ARGS="--only
# debian13 --as user --command demo"`
.PHONY: fresh
fresh: develop
	@tests/tools/ensure-fresh-tools
	$(BIN)/python -m tests.fresh $(ARGS)

# Every place that cites an RFC: `make rfc N=5321`
rfc:
	@test -n "$(N)" || { echo 'which one? For example: make rfc N=5321' >&2; exit 2; }
	@grep -rnE 'RFCs? ([0-9]+(, | and ))*$(N)\b|\[$(N)\]\(' src tests docs bench *.md --include='*.py' --include='*.sql' --include='*.md' \
		|| { echo 'nothing cites RFC $(N)' >&2; exit 1; }

# The pages that are made from the code.
docs: develop
	$(BIN)/python tests/tools/standards.py > docs/standards.md
	$(BIN)/python tests/tools/smtp_states.py > docs/smtp-states.md
	$(BIN)/python -m waypost.config.reference > docs/configuration.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
