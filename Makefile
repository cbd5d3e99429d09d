# Every target installs what it needs; a second run rebuilds nothing. The two that a newcomer wants: demo and test.
SHELL := /bin/bash
PY := .venv/bin/python
export PYTHONPATH := operator
# of tests/system, what runs beside its long story
SHORT := $(addprefix tests/system/test_,idle.py faults.py pools.py nics.py adoption.py guide.py preparation.py topology.py)
UNIT := tests/core tests/reconcile tests/adapters tests/shell tests/recordings tests/chaos

.PHONY: help setup parts image demo test test-all e2e-kind chaos chaos-lab test-unit uninstall-check lint crds lock bench bench-fleet lab-shell clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 17

setup: ## Debian packages and .venv
	@.ci/setup

parts: setup ## build what tests and demo run on: control plane (Go), lab host and kind node (Debian), cached
	@$(PY) -m tests.lab.image & lab=$$!; $(PY) -m tests.cluster.binaries --nodes && wait $$lab && $(PY) -m tests.e2e.kind.parts

image: setup ## the container image and its SBOM into build/image, without an image registry (IMAGE_PULL, IMAGE_FRESH)
	@$(PY) -m image.build

demo: setup ## the main job on real parts, step by step (KEEP=1 leaves it running)
	@$(PY) -m tests.system.demo

# Two runs beside each other: the long story of the system, and everything else, which waits a lot.
test: lint parts ## everything: lint, unit, control plane, lab host, whole system
	@mkdir -p build
	@$(PY) -m pytest -m "not long" $(UNIT) tests/cluster tests/manifests tests/image tests/e2e tests/lab $(SHORT) --durations=30 > build/test-others.log 2>&1 & others=$$!; \
	trap 'kill $$others' INT TERM; \
	$(PY) -m pytest -m "not long" tests/host tests/daemonset tests/system $(SHORT:%=--ignore=%) --durations=30; story=$$?; \
	wait $$others; rest=$$?; cat build/test-others.log; exit $$((story ? story : rest))

e2e-kind: setup ## a two-node kind cluster: install, examples, node loss, upgrade, uninstall (KIND=plain: your own docker)
	@$(PY) -m pytest tests/e2e --durations=10

test-all: test ## and what takes long: a Linux guest, a crash and a power cut at every boundary (about an hour)
	@$(PY) -m pytest -m long tests/image tests/host tests/system --durations=20

chaos: setup ## random operations and faults on a made-up host (CHAOS_SECONDS, CHAOS_SEED, CHAOS_RUN, MUTANT)
	@$(PY) -m tests.chaos

chaos-lab: setup parts ## the long campaigns against crashes on the lab host; the engine's state machine, many more examples
	@HOSTDEV_EXAMPLES=3000 $(PY) -m pytest tests/reconcile/test_machine.py
	@$(PY) -m pytest -m long tests/system -k "sigkill or power_cut" --durations=20

test-unit: setup ## the fast tests, without control plane and lab host
	@$(PY) -m pytest $(UNIT)

lint: setup ## ruff, mypy, layers
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

uninstall-check: setup ## what is left to give back in the cluster of KUBECONFIG, and what to do next (docs/install.md)
	@$(PY) -m hostdev_operator uninstall-check

crds: setup ## write crds/ and the generated pages of docs/ anew: conditions, troubleshooting, coverage
	@$(PY) -m hostdev_operator crds --output crds --docs docs
	@$(PY) -m tests.coverage

lock: setup ## pin the dependencies of pyproject.toml and of the image anew
	@$(PY) -m pip install --quiet uv
	@.venv/bin/uv pip compile -q pyproject.toml --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -o requirements.lock
	@.venv/bin/uv pip compile -q pyproject.toml --extra dev --python-version 3.11 --universal -c requirements.lock \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-dev.lock
	@for part in build sbom; do .venv/bin/uv pip compile -q image/requirements-$$part.in --python-version 3.11 --universal \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o image/requirements-$$part.lock; done

bench: setup ## figures into build/bench.json
	@$(PY) -m tests.bench

bench-fleet: setup ## a fleet of nodes on a real API server: build/fleet.json (FLEET_NODES, FLEET_EACH)
	@$(PY) -m tests.bench.fleet

lab-shell: setup ## boot the lab host and run commands in it
	@$(PY) -m tests.lab.shell

clean: ## remove what was built in this folder (caches of big parts are in the user's cache folder)
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
