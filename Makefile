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

# Every target has its line here: what stands behind the two hashes.
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

demo: $(STAMP) ## the whole job on synthetic micrographs, into demo-out/; needs nothing but Python 3.11 or newer
	rm -rf $(DEMO)
	$(BIN)/twinscope demo --out $(DEMO)

test: $(STAMP) ## all fast tests (TESTS=tests/client: some of them)
	$(BIN)/python -m pytest $(TESTS)

test-slow: $(STAMP) ## the tests marked slow
	$(BIN)/python -m pytest -m slow $(TESTS)

test-interop: $(STAMP) ## Node, buf and grpcurl against a real server, and the first client for Node against this one
	$(BIN)/python -m pytest -m interop $(TESTS)

test-examples: $(STAMP) ## the workflow and the notebook of examples/, with Snakemake in an environment of its own
	$(BIN)/python -m pip install --quiet --editable '.[notebook]'
	$(BIN)/python -m pytest -m slow tests/test_examples.py

test-node: $(STAMP) ## the client for Node alone
	cd clients/node && npm ci && npm run build && TWINSCOPE_COMMAND=$(abspath $(BIN)/twinscope) npm test

# The lowest versions are those of pyproject.toml; there is no second list of them.
test-lowest: $(STAMP) ## the fast tests with the lowest versions that pyproject.toml allows, on Python 3.11
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

# Without PLATFORM, the wheels are for the machine and the Python that make them.
wheelhouse: $(STAMP) ## wheels to install Twinscope without a network (PLATFORM=win_amd64, PLATFORM_PYTHON=3.12, EXTRAS=plots)
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

lint: $(STAMP) ## ruff, formatting, spelling, and the files in .github against their schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.citation-file-format --default-filetype yaml CITATION.cff

format: $(STAMP) ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP) ## mypy, strict
	$(BIN)/mypy

breaking: $(STAMP) ## the wire contract: its style, and what clients of the first and of the last release rely on
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/v1-baseline.binpb
	$(BIN)/buf breaking --against proto/descriptor.binpb

bench: $(STAMP) ## speed against what people use today, a table with targets (ARGUMENTS=--quick: in short)
	$(BIN)/python benchmarks/speed.py $(ARGUMENTS)

growth: $(STAMP) ## curves of time and memory over the size of the store
	$(BIN)/python benchmarks/growth.py $(ARGUMENTS)

load: $(STAMP) ## the server under load
	$(BIN)/python benchmarks/load.py $(ARGUMENTS)

truth: $(STAMP) ## twins found and false labels on real micrographs (../shared), embedded and by a server
	$(BIN)/python benchmarks/real_twins.py
	$(BIN)/python benchmarks/remote.py

answers: $(STAMP) ## record every answer in benchmarks/out/answers.jsonl (BEFORE=file: compare with an earlier record)
	mkdir -p benchmarks/out
	$(BIN)/python benchmarks/answers.py record benchmarks/out/answers.jsonl --micrographs $(MICROGRAPHS) $(ARGUMENTS)
	$(if $(BEFORE),$(BIN)/python benchmarks/answers.py compare $(BEFORE) benchmarks/out/answers.jsonl)

evaluate: $(STAMP) ## recall and false labels after 45 transforms of real micrographs (MICROGRAPHS=folder: of yours)
	$(BIN)/python benchmarks/accuracy.py $(MICROGRAPHS) --overlaps benchmarks/overlapping_scenes.tsv --groups A B C R

reference: $(STAMP) ## write again the pages of docs/ that are generated: thresholds, command, wire, vendors
	$(BIN)/python docs/thresholds_table.py > docs/thresholds.md
	$(BIN)/python docs/command_page.py > docs/command.md
	$(BIN)/python docs/wire_page.py > docs/wire.md
	$(BIN)/python docs/vendor_pages.py

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP) ## the documentation site, into build/site; warnings are errors
	$(BIN)/mypy --follow-imports silent docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove everything that the above made
	rm -rf $(VENV) $(LOWEST) $(WHEEL) $(WHEELHOUSE) $(DEMO) benchmarks/out .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	rm -rf clients/node/dist clients/node/build clients/node/node_modules clients/node/src/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find proto -name '*_pb2*' -delete
