# Needs Python 3.11 or newer with pip, and make. Everything else goes into .venv. Where Python is newer than Ray has
# packages for, uv finds or fetches an older one.
PYTHON ?= python3
UV := .venv/tools/bin/uv
CHOOSE := import sys; print(sys.executable if sys.version_info < (3, 14) else ">=3.11,<3.14")
.DEFAULT_GOAL := run
.PHONY: run test lint test-local-mode lock

run: .venv/installed
	.venv/bin/python jobs/train_drc.py

test: .venv/installed lint
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The last Ray with local_mode, in an environment of its own: the map-reduce engine and a sweep. It warns of itself.
test-local-mode: .venv-local-mode/installed
	.venv-local-mode/bin/python -m pytest tests/clustering tests/tuning -m local_mode -W default

.venv/tools/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .venv/tools "uv>=0.9"

# Bytecode is compiled once here, or each of Ray's processes compiles what it imports.
.venv/installed: requirements.lock pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c '$(CHOOSE)')" .venv
	$(UV) pip sync --quiet --compile-bytecode --python .venv/bin/python requirements.lock
	$(UV) pip install --quiet --no-deps --python .venv/bin/python --editable .
	touch $@

.venv-local-mode/installed: requirements.lock pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c '$(CHOOSE)')" .venv-local-mode
	grep -v '^ray==' requirements.lock > .venv-local-mode/requirements.txt
	echo 'ray==2.54.1' >> .venv-local-mode/requirements.txt
	$(UV) pip sync --quiet --compile-bytecode --python .venv-local-mode/bin/python .venv-local-mode/requirements.txt
	$(UV) pip install --quiet --no-deps --python .venv-local-mode/bin/python --editable .
	touch $@

lock: | $(UV)
	$(UV) pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --upgrade \
	  --group pyproject.toml:dev --output-file requirements.lock pyproject.toml
