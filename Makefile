# `make run` starts the app, `make check` is for every commit, `make test` runs every check. They need only Python 3.11 or newer and make.

VENV := .venv
BIN := $(VENV)/bin
# Nothing by the scripts in $(BIN), and the packages from here: both name the folder that the clone had then, and it may have been moved.
NEURONSCOPE := $(BIN)/python -m neurons.cli.start
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
PYTHONS := python3.11 python3.12 python3.13 python3 python
# Percent of lines and branches that `make test` demands, of neurons/ with traces/ and of pages/.
ENGINE_COVERED := 92
PAGES_COVERED := 88
# Several workers, each with a home and one thread of its own. A worker takes whole files: what a file sets up is set up once.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Programs that look at the product and are no part of it.
TOOLS := build/tools
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: run check fast test covered model lint format docs atlas detectors bench lock sbom audit torture clean

run: $(VENV)/.installed
	@$(NEURONSCOPE) run $(ARGS)

# Lint, types and the fast tests, side by side: under 90 seconds on two cores once mypy has its cache.
check: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory -j 2 --output-sync=target lint fast ARGS="$(ARGS)"

fast: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m fast $(SIDE_BY_SIDE) --ignore tests/browser --ignore tests/pages --ignore tests/cli $(ARGS)

# Every test, then how much of the code they ran: branches count. Some of the tests (ARGS="tests/traces") say nothing of that.
test: lint model
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m $(if $(ARGS),,coverage run -m )pytest $(SIDE_BY_SIDE) $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory covered)

covered:
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --include 'neurons/*,traces/*' --fail-under $(ENGINE_COVERED)
	$(BIN)/python -m coverage report --include 'pages/*' --fail-under $(PAGES_COVERED)

model: $(VENV)/.installed
	@$(NEURONSCOPE) models fetch

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m codespell_lib neurons pages traces tests bench scripts docs *.md *.py *.toml *.yml Makefile
	$(BIN)/python -m mypy
	$(BIN)/python scripts/cli_docs.py --check

format: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# docs/cli.md, then all of docs/ as a site in build/docs that opens from the disk.
docs: $(VENV)/.installed-docs
	$(BIN)/python scripts/cli_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# The atlas that ships: hours on a laptop. One's own model: `neuronscope atlas build`.
atlas: $(VENV)/.installed model
	$(BIN)/python scripts/ship_atlas.py $(ARGS)

# The detectors of named concepts that ship, after the lexicon or the method changed: about a quarter of an hour.
detectors: $(VENV)/.installed model
	$(BIN)/python scripts/ship_detectors.py $(ARGS)

bench: $(VENV)/.installed-bench model
	for script in bench/*.py; do $(BIN)/python $$script $(ARGS) || exit 1; done

# Every version as it is now in .venv; torch without the local part that names its build. Then the same with the hashes of all files.
lock: $(TOOLS)/.installed $(VENV)/.installed-dev $(VENV)/.installed-docs
	$(BIN)/python -m pip list --format=freeze --exclude-editable | sed -e 's/+[A-Za-z0-9.]*$$//' -e '/^neuronscope==/d' > constraints.txt
	$(BIN)/python scripts/hashed_lock.py $(TOOLS)/bin/uv

# What the installed product consists of, as CycloneDX.
sbom: $(VENV)/.installed $(TOOLS)/.installed
	@mkdir -p build
	$(TOOLS)/bin/python -m cyclonedx_py environment --output-format JSON --output-file build/sbom.json $(BIN)/python
	@echo "build/sbom.json"

# Known problems of the pinned versions. It asks a public database, so it needs a network.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python -m pip_audit --require-hashes --disable-pip -r requirements.lock

# Kills, a failing disk, changed bits, fuzzing, load and memory by the thousand, two parts side by side. ARGS="--only kills" runs a part.
torture: $(VENV)/.installed-dev model
	OMP_NUM_THREADS=1 $(BIN)/python scripts/torture.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info

# A virtual environment that was cut off before pip was in it is finished here.
$(VENV)/.created:
	@for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if $(BIN)/python -m pip --version >/dev/null 2>&1; then touch $@; exit 0; fi; \
	if [ -z "$$found" ]; then echo "error: Neuronscope needs Python 3.11 or newer, and there is none on PATH" >&2; exit 1; fi; \
	echo "creating $(VENV) with $$found"; \
	"$$found" -m venv --clear $(VENV) || { rm -rf $(VENV); echo "error: $$found has no venv module; install it (python3-venv on Debian)" >&2; exit 1; }; \
	touch $@

# Each stamp is written last: an installation that was cut off goes on at the next call.
$(VENV)/.installed: constraints.txt pyproject.toml | $(VENV)/.created
	$(INSTALL) --upgrade pip
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) -e '.[bench]'
	@touch $@

$(TOOLS)/.installed: | $(VENV)/.created
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@
