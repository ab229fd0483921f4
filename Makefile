PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema
DOCS_STAMP := $(VENV)/.docs-installed
LOWEST := .venv-lowest
WHEEL := .venv-wheel
WHEELHOUSE := wheelhouse
EXTRAS := plots
PLATFORM ?=
PLATFORM_PYTHON ?= 3.12
# pip would choose packages for the system on which it runs; uv chooses them for another system.
PLATFORM_SYSTEM = $(if $(findstring win_,$(PLATFORM)),windows,$(if $(findstring macosx,$(PLATFORM)),macos,linux))
COMMA := ,
LOWEST_PYTHON := 3.11# the lowest of requires-python
DEMO := demo-out
MICROGRAPHS := ../shared/data/micrographs
TESTS ?=
ARGUMENTS ?=

.PHONY: help demo test test-slow test-interop test-examples test-node test-lowest lint format typecheck breaking bench \
	growth load truth answers evaluate reference docs clean version wheel test-wheel wheelhouse

# The help text of a target is the text after the two hashes.
help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

$(STAMP): pyproject.toml hatch_build.py $(wildcard proto/twinscope/v1/*.proto)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Twinscope needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

version: ## print the version
	@$(PYTHON) -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])'

demo: $(STAMP) ## index and label synthetic micrographs in demo-out/; needs only Python 3.11 or newer
	rm -rf $(DEMO)
	$(BIN)/twinscope demo --out $(DEMO)

test: $(STAMP) ## run all fast tests (TESTS=tests/client: only a part)
	$(BIN)/python -m pytest $(TESTS)

test-slow: $(STAMP) ## run the tests that are marked slow
	$(BIN)/python -m pytest -m slow $(TESTS)

test-interop: $(STAMP) ## test Node, buf and grpcurl with a real server, and the first Node client with this server
	$(BIN)/python -m pytest -m interop $(TESTS)

test-examples: $(STAMP) ## test the workflow and the notebook in examples/; installs Snakemake separately
	$(BIN)/python -m pip install --quiet --editable '.[notebook]'
	$(BIN)/python -m pytest -m slow tests/test_examples.py

test-node: $(STAMP) ## test only the Node client
	cd clients/node && npm ci && npm run build && TWINSCOPE_COMMAND=$(abspath $(BIN)/twinscope) npm test

# pyproject.toml is the only list of the lowest versions.
test-lowest: $(STAMP) ## run the fast tests on Python 3.11 with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(LOWEST_PYTHON) $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/bin/python -m pytest $(TESTS)

wheel: $(STAMP) ## build the source distribution and the wheel, into dist/
	rm -rf dist
	$(BIN)/python -m build

test-wheel: wheel ## install the wheel, with the server, in a new environment, and run the command there
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet "$$(echo dist/*.whl)[server]"
	cd $(WHEEL) && bin/twinscope --help > help.txt && bin/twinscope doctor && bin/twinscope demo --out demo-out

# Without PLATFORM, the wheels are for this machine and its Python version.
wheelhouse: $(STAMP) ## make wheels to install Twinscope without a network (PLATFORM=win_amd64, PLATFORM_PYTHON=3.12, EXTRAS=plots)
	rm -rf $(WHEELHOUSE)
	$(BIN)/python -m build --wheel --outdir $(WHEELHOUSE)
ifeq ($(PLATFORM),)
	$(BIN)/python -m pip download --quiet --dest $(WHEELHOUSE) --only-binary :all: \
		"$$(echo $(WHEELHOUSE)/twinscope-*.whl)[$(EXTRAS)]"
else
	$(BIN)/uv pip compile --quiet --no-annotate --no-header --only-binary :all: --python-platform $(PLATFORM_SYSTEM) \
		--python-version $(PLATFORM_PYTHON) $(addprefix --extra ,$(subst $(COMMA), ,$(EXTRAS))) \
		--output-file $(WHEELHOUSE)/requirements.txt pyproject.toml
	$(BIN)/python -m pip download --quiet --dest $(WHEELHOUSE) --only-binary :all: --no-deps \
		$(PLATFORM:%=--platform %) --python-version $(PLATFORM_PYTHON) --requirement $(WHEELHOUSE)/requirements.txt
endif
	for file in deploy/offline/*; do sed 's/@EXTRAS@/$(EXTRAS)/' "$$file" > "$(WHEELHOUSE)/$${file##*/}"; done

lint: $(STAMP) ## check style, formatting and spelling, and check the files in .github with schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.citation-file-format --default-filetype yaml CITATION.cff

format: $(STAMP) ## correct style and formatting with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP) ## check the types with mypy
	$(BIN)/mypy

breaking: $(STAMP) ## check the style of the wire contract, and its compatibility with the first and the last release
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/v1-baseline.binpb
	$(BIN)/buf breaking --against proto/descriptor.binpb

bench: $(STAMP) ## measure the speed, compared with other programs (ARGUMENTS=--quick: a short run)
	$(BIN)/python benchmarks/speed.py $(ARGUMENTS)

growth: $(STAMP) ## measure time and memory for stores of different sizes
	$(BIN)/python benchmarks/growth.py $(ARGUMENTS)

load: $(STAMP) ## measure the server under load
	$(BIN)/python benchmarks/load.py $(ARGUMENTS)

truth: $(STAMP) ## count twins found and false labels on real micrographs (../shared), with and without a server
	$(BIN)/python benchmarks/real_twins.py
	$(BIN)/python benchmarks/remote.py

answers: $(STAMP) ## record all answers in benchmarks/out/answers.jsonl (BEFORE=file: compare with an earlier record)
	mkdir -p benchmarks/out
	$(BIN)/python benchmarks/answers.py record benchmarks/out/answers.jsonl --micrographs $(MICROGRAPHS) $(ARGUMENTS)
	$(if $(BEFORE),$(BIN)/python benchmarks/answers.py compare $(BEFORE) benchmarks/out/answers.jsonl)

evaluate: $(STAMP) ## measure recall and false labels after 45 transforms of real micrographs (MICROGRAPHS=folder: of your images)
	$(BIN)/python benchmarks/accuracy.py $(MICROGRAPHS) --overlaps benchmarks/overlapping_scenes.tsv --groups A B C R

reference: $(STAMP) ## generate pages of docs/ again: thresholds, command, wire, vendors
	$(BIN)/python docs/thresholds_table.py > docs/thresholds.md
	$(BIN)/python docs/command_page.py > docs/command.md
	$(BIN)/python docs/wire_page.py > docs/wire.md
	$(BIN)/python docs/vendor_pages.py

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP) ## build the documentation site in build/site; warnings are errors
	$(BIN)/mypy --follow-imports silent docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove everything that these targets made
	rm -rf $(VENV) $(LOWEST) $(WHEEL) $(WHEELHOUSE) $(DEMO) benchmarks/out .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	rm -rf clients/node/dist clients/node/build clients/node/node_modules clients/node/src/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find proto -name '*_pb2*' -delete
