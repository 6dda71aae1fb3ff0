# Everything starts here: `make demo` and `make test` need git, make and Python 3.11 or newer, nothing else.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: install demo test slow check lock bench web clean

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; name one with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: $(READY)
	$(BIN)/siimdet demo --out demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 3600

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --config .importlinter
	$(BIN)/pyright

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --all-extras --python-version 3.11 \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

bench: $(READY)
	@for script in tools/bench_*.py; do $(BIN)/python $$script || exit 1; done

# The viewer of `siimdet serve`; without it the server answers all the same.
web:
	@node --version 2>&1 | grep -Eq '^v(20\.(19|[2-9][0-9])|2[2-9]|[3-9][0-9])' && command -v npm >/dev/null || { \
	  echo "make: the viewer is built by Node.js 20.19 or newer and its npm; found" \
	    "node $$(node --version 2>/dev/null || echo missing), npm $$(npm --version 2>/dev/null || echo missing)"; exit 2; }
	cd siimdet/serve/web && npm ci --ignore-scripts --loglevel error && npm run build

clean:
	rm -rf .venv demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist \
	  siimdet/serve/static siimdet/serve/web/node_modules
