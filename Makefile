# Each target works on a fresh clone: `setup` makes .venv first, and does nothing when nothing changed.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt bench soak growth schema
PY := .venv/bin/python
# More for pytest or bench: make test ARGS="-k signature -x"
ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with the locked packages (seconds when nothing changed)
	@.ci/setup

demo: setup ## run the whole story on this machine, in under a minute
	@.venv/bin/customhouse demo

test: setup ## run the tests with the coverage gate
	@$(PY) -m coverage erase
	$(PY) -m pytest -q -n 2 --dist worksteal --durations=25 --durations-min=3 --cov --cov-report= $(ARGS)
	$(PY) -m coverage report --fail-under=95 --format=total
	@$(PY) -m coverage json -q -o coverage.json
	@$(PY) tests/coverage_floors.py coverage.json
	@$(PY) tests/suites.py

test-%: setup ## run a suite that needs more than PyPI: pg15, redis, oidc, browser
	@$(PY) tests/suites.py $* $(ARGS)

check: setup ## lint, format, types, import law, house rules, documents
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()'
	.venv/bin/ast-grep test --skip-snapshot-tests
	.venv/bin/ast-grep scan --error
	$(PY) -m pytest -q tests/unit/test_documents.py

fmt: setup ## format, and repair what ruff can repair
	$(PY) -m ruff check --fix --exit-zero .
	$(PY) -m ruff format .

bench: setup ## measure deliveries per second on this machine
	@.venv/bin/customhouse bench $(ARGS)

soak: setup ## kill the service and PostgreSQL under load: nothing is lost (minutes)
	@$(PY) -m benchmarks.soak $(ARGS)

growth: setup ## measure with ten million attempts of history and with none (10 GB, minutes)
	@$(PY) -m benchmarks.growth $(ARGS)

schema: setup ## write the generated tables of the documents again
	@for script in docs/make_*.py; do $(PY) "$$script" || exit 1; done
