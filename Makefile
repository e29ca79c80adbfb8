# `make run` starts the app, `make check` is for every commit, `make test` runs every check. They need only Python 3.11 or newer and make.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.11 python3.12 python3.13 python3 python
# Percent of lines and branches that `make coverage` demands. The goals are 90 and 80; a whole run has not been measured yet, so it only prints.
ENGINE_COVERED := 0
PAGES_COVERED := 0
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: run check fast test coverage model lint format docs atlas detectors bench lock clean

run: $(VENV)/.installed
	@$(BIN)/neuronscope run $(ARGS)

# Lint, types and the fast tests, side by side: under 90 seconds on two cores once mypy has its cache.
check: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory -j 2 --output-sync=target lint fast ARGS="$(ARGS)"

fast: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m fast --ignore tests/browser --ignore tests/pages --ignore tests/cli $(ARGS)

test: lint model
	$(BIN)/python -m pytest $(ARGS)

# Every test, and how much of the code they run: branches count.
coverage: lint model
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --include 'neurons/*,traces/*' --fail-under $(ENGINE_COVERED)
	$(BIN)/python -m coverage report --include 'pages/*' --fail-under $(PAGES_COVERED)

model: $(VENV)/.installed
	@$(BIN)/neuronscope models fetch

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/codespell neurons pages traces tests bench scripts docs *.md *.py *.toml *.yml Makefile
	$(BIN)/mypy
	$(BIN)/python scripts/cli_docs.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# docs/cli.md, then all of docs/ as a site in build/docs that opens from the disk.
docs: $(VENV)/.installed-docs
	$(BIN)/python scripts/cli_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The atlas that ships: hours on a laptop. One's own model: `neuronscope atlas build`.
atlas: $(VENV)/.installed model
	$(BIN)/python scripts/ship_atlas.py $(ARGS)

# The detectors of named concepts that ship, after the lexicon or the method changed: about a quarter of an hour.
detectors: $(VENV)/.installed model
	$(BIN)/python scripts/ship_detectors.py $(ARGS)

bench: $(VENV)/.installed-bench model
	for script in bench/*.py; do $(BIN)/python $$script $(ARGS) || exit 1; done

# Every version as it is now in .venv; torch without the local part that names its build.
lock:
	$(BIN)/python -m pip list --format=freeze --exclude-editable | sed -e 's/+[A-Za-z0-9.]*$$//' -e '/^neuronscope==/d' > constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(VENV)/bin/python:
	@for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "error: Neuronscope needs Python 3.11 or newer, and there is none on PATH" >&2; exit 1; fi; \
	echo "creating $(VENV) with $$found"; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); echo "error: $$found has no venv module; install it (python3-venv on Debian)" >&2; exit 1; }

# Each stamp is written last: an installation that was cut off goes on at the next call.
$(VENV)/.installed: constraints.txt pyproject.toml | $(VENV)/bin/python
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
