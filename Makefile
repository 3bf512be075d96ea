# The words for everything: each target sets up what it needs first, and nothing twice.
# ARGS is for the program behind a target: make test ARGS=tests/relay, make bench ARGS=--help.

PYTHON := .venv/bin/python

# Who has the port in `make demo`: proxy, the gateway with Postfix behind it; milter, a Postfix that asks the gateway.
FRONT := proxy

# How long each target of `make fuzz` is tried.
SECONDS := 600

.PHONY: help demo test check proofs bench bench-idle bench-milter bench-replay fuzz docs lock daemons clean

help:
	@echo 'make demo    private Postfix, SpamAssassin and ClamAV with the gateway between; real mail through it'
	@echo '             (FRONT=milter: Postfix keeps the port and asks the gateway)'
	@echo 'make test    static checks and all tests, those with real daemons included'
	@echo 'make check   static checks only: ruff and mypy'
	@echo 'make proofs  the kill matrix, then 20,000 good, bad and hostile sessions; ten minutes at most'
	@echo 'make bench   messages per second, CPU time and memory beside a bare SMTP sink'
	@echo 'make bench-idle  memory and speed while 10,000 clients are connected and say nothing'
	@echo 'make bench-milter  the milter beside clamav-milter and spamass-milter on one Postfix; some minutes'
	@echo 'make bench-replay  how long replay takes over 10,000 recorded decisions'
	@echo 'make fuzz    hours of inputs nobody thought of, led by coverage (SECONDS=60 for each target: minutes)'
	@echo 'make docs    docs/configuration.md and docs/policies.md from the source'
	@echo 'make lock    requirements.txt from pyproject.toml (PIP_COMPILE=--upgrade for newer versions)'
	@echo 'make clean   remove .venv and every cache'

demo: .venv/installed daemons
	@$(PYTHON) -m deploy.demo '$(FRONT)'

test: check daemons
	$(PYTHON) -m pytest $(ARGS)

check: .venv/installed
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy --package deploy.demo --package benchmarks

proofs: .venv/installed
	@$(PYTHON) -m tests.proofs kills
	@$(PYTHON) -m tests.proofs soak --kills 2 $(ARGS)

bench: .venv/installed daemons
	@$(PYTHON) -m benchmarks $(ARGS)

bench-idle: .venv/installed daemons
	@$(PYTHON) -m benchmarks.idle $(ARGS)

bench-milter: .venv/installed daemons
	@$(PYTHON) -m benchmarks.milter $(ARGS)

bench-replay: .venv/installed
	@$(PYTHON) -m benchmarks.replay $(ARGS)

fuzz: .venv/fuzz/installed
	for target in tests/fuzz/coverage/fuzz_*.py; do \
	    .venv/fuzz/bin/python -m tests.fuzz.coverage $$(basename $$target .py) $(SECONDS) || exit 1; done
	$(PYTHON) -m pytest tests/fuzz --hypothesis-profile=long --timeout=0

# What instruments the code is no part of the set-up, and is locked to nothing.
.venv/fuzz/installed: .venv/installed
	$(PYTHON) -m venv --clear .venv/fuzz
	.venv/fuzz/bin/pip --quiet install --requirement requirements.txt
	.venv/fuzz/bin/pip --quiet install atheris
	touch $@

docs: .venv/installed
	$(PYTHON) -m gateway.reference >docs/configuration.md
	$(PYTHON) -m gateway.reference policies >docs/policies.md

daemons:
	@deploy/install-daemons.sh

.venv/installed: requirements.txt pyproject.toml
	@deploy/install-python.sh

lock: .venv/installed
	$(PYTHON) -m venv --clear .venv/lock
	.venv/lock/bin/pip --quiet install pip-tools
	CUSTOM_COMPILE_COMMAND='make lock' .venv/lock/bin/pip-compile $(PIP_COMPILE) --quiet \
	    --extra dev --extra uvloop --extra attachments --extra milter --generate-hashes --strip-extras \
	    --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	    --output-file requirements.txt pyproject.toml

clean:
	rm -rf .venv .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
