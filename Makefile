# One act, one line. Every target sets up what it needs first; setting up twice costs nothing.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fleet check bench results simulate soak fuzz
PY := .venv/bin/python

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

setup: ## venv, packages, embedded model
	@bash deploy/dev/setup.sh

demo: setup ## stock vLLM and Scorpio under the same overload, on this machine (table, out/demo/report.html)
	@.venv/bin/scorpio demo $(ARGS)

# Without ARGS: first the pure core, with its branch coverage; then everything else, the real engine by
# itself where something is timed, two engines at once where not; then what stands on vLLM's scheduler, with the other supported version (docs/versions.md).
CORE := tests/core tests/conformance
OTHER_VLLM := 0.33
ON_SCHEDULER := tests/conformance tests/engine tests/twin tests/simulation/test_simulation.py
TREE = tree="$$($(PY) deploy/dev/vllm_tree.py $(or $(VLLM),$(OTHER_VLLM)))"
test: setup ## all tests, and how much of scorpio/core they cover; ARGS="-k slo" narrows them; VLLM=0.33: with that
ifneq ($(strip $(VLLM)),)
	@$(TREE) && CI= PYTHONPATH="$$tree" $(PY) -m pytest $(or $(ARGS),$(ON_SCHEDULER) tests/server tests/live)
else ifeq ($(strip $(ARGS)),)
	@$(PY) -m pytest $(CORE) --cov=scorpio.core --cov-branch --cov-fail-under=95 --cov-report=term:skip-covered
	@$(PY) -m pytest $(CORE:%=--ignore=%) -m "not engine" -n 2
	@$(PY) -m pytest $(CORE:%=--ignore=%) -m "engine and not own_engine"
	@$(PY) -m pytest $(CORE:%=--ignore=%) -m own_engine -n 2 --dist loadfile
	@if $(TREE); then CI= PYTHONPATH="$$tree" $(PY) -m pytest $(ON_SCHEDULER) -m "not engine" -n 2; \
	else echo "make test: NOT RUN with vLLM $(OTHER_VLLM): it cannot be fetched from here" >&2; fi
else
	@$(PY) -m pytest $(ARGS)
endif

test-fleet: setup ## two real engines behind a router on Ray: as one server, and when one is lost, hangs or leaves
	@$(PY) -m pytest tests/fleet $(ARGS)

check: setup ## lint, format, types, import contracts
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

bench: setup ## what scheduling costs, as a ratio to stock vLLM, and what a length prediction costs
	@$(PY) -m tests.bench $(ARGS)

results: setup ## every study, both cores: docs/results and the numbers in README (half an hour; ARGS=quick: minutes)
	@$(PY) -m scorpio.studies $(ARGS)

simulate: setup ## N=200000 requests in virtual time, every promise after every step (docs/simulation.md)
	@$(PY) -m tests.simulation run --requests $(or $(N),200000) $(ARGS)

soak: setup ## the real server under load for 100 minutes: memory, KV, descriptors, latency (out/soak)
	@$(PY) -m tests.soak $(ARGS)

fuzz: setup ## hostile input, by the million: ARGS="parsers --runs 1000000"
	@$(PY) -m tests.fuzz $(ARGS)
