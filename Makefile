# One act, one line. Every target sets up what it needs first; setting up twice costs nothing.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench figures
PY := .venv/bin/python

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

setup: ## venv, packages, embedded model
	@bash deploy/setup.sh

demo: setup ## stock vLLM and Scorpio under the same overload, on this machine (table, out/demo/report.html)
	@.venv/bin/scorpio demo $(ARGS)

test: setup ## all tests; ARGS="-k slo" narrows them
	@$(PY) -m pytest $(ARGS)

check: setup ## lint, format, types, import contracts
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

bench: setup ## what scheduling costs, as a ratio to stock vLLM
	@$(PY) -m tests.bench.schedule_cost $(ARGS)

figures: setup ## a demo run whose figures become those of docs/figures
	@.venv/bin/scorpio demo --out out/figures $(ARGS)
	@mkdir -p docs/figures && cp out/figures/*.png docs/figures/
