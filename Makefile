# `make run` starts the app, `make test` runs every check. Both need only Python 3.11 or newer and make.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.11 python3.12 python3.13 python3 python
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: run test model lint format docs atlas detectors bench lock clean

run: $(VENV)/.installed
	@$(BIN)/neuronscope run $(ARGS)

test: lint model
	$(BIN)/python -m pytest $(ARGS)

model: $(VENV)/.installed
	@$(BIN)/neuronscope models fetch

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/cli_docs.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/cli_docs.py

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

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) -e '.[bench]'
	@touch $@
