# Each target sets up what it needs; nothing has to be installed by hand but make and a Python from 3.11 on.
#   make test ARGS="-k view"                  some tests
#   make test PYTHONS=3.12                    on another Python; test-all knows "lowest" too
#   make bench ARGS="--quick --only dispatch"

ARGS ?=
export PYTHONS

.PHONY: help demo setup test test-all check-long coverage package lint format docs site pictures bench performance chaos fuzz lock clean venv

help:
	@echo "make demo     the main job on the embedded default, with real input; ends by itself"
	@echo "make test     the tests, on the newest Python of this machine"
	@echo "make test-all what can differ there, on the other Pythons and on the lowest versions of the dependencies"
	@echo "make check-long  what takes longer: planted mistakes, 5,000 seeds of the simulation, chaos on each store, fuzzing of each door"
	@echo "make coverage what the tests reach of the engine and the front door, in branches, with gates"
	@echo "make package  the wheel and the sdist from a clean tree, and the wheel with each extra alone"
	@echo "make setup    what all of these need, once and for all: environments and servers"
	@echo "make lint     style, types, and the arrows between packages"
	@echo "make docs     bring the generated tables of the docs up to date, check links and code, build the site"
	@echo "make site     build the documentation site alone: build/docs/index.html"
	@echo "make pictures take the pictures of the status page in Chromium: docs/rest-*.webp"
	@echo "make bench    benchmarks, as JSON lines: ARGS=\"--runs 7 --compare HEAD~10 --only dispatch\""
	@echo "make performance  write the tables and the plots of docs/performance.md from docs/performance.json"
	@echo "make chaos    a real server, broken in every way that a seed draws: ARGS=\"etcd:// --minutes 10\""
	@echo "make fuzz     what is hostile, through one door: ARGS=\"files --minutes 10\""
	@echo "make format   let ruff lay out the code"
	@echo "make lock     pin the newest versions of what developing needs"
	@echo "make clean    remove what the other targets made"

venv:
	@tools/venv

demo: venv
	@.venv/bin/python -m datasync demo $(ARGS)

setup:
	@tools/setup all

# Tests start real servers themselves; tools/servers.py installs those that are missing, where it may.
test:
	@tools/test newest $(ARGS)

test-all:
	@tools/test others $(ARGS)

check-long:
	@tools/check-long

coverage:
	@tools/coverage

package: venv
	@.venv/bin/python tools/check_package.py

lint: venv
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/codespell
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/python tools/check_sizes.py

format: venv
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

docs: venv
	.venv/bin/python tools/tables.py
	.venv/bin/pytest -q tests/test_docs.py tests/test_readme.py tests/test_from_go.py \
		tests/test_site_examples.py
	@tools/site

site:
	@tools/site

pictures: venv
	@DATASYNC_PICTURES=docs .venv/bin/pytest -q tests/restsync/test_page_look.py

bench:
	@tools/venv bench
	@.venv-bench/bin/python -m bench $(ARGS)

performance:
	@tools/venv bench
	@.venv-bench/bin/python -m tools.performance

chaos: venv
	@.venv/bin/python -m datasync.testing.chaos $(or $(ARGS),sqlite://)

fuzz: venv
	@.venv/bin/python -m datasync.testing.fuzz $(or $(ARGS),url)

lock:
	tools/lock

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
