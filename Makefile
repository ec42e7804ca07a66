# Needs Python 3.11 or newer with pip, and make. Everything else goes into .venv. Where Python is newer than Ray has
# packages for, uv finds or fetches an older one.
PYTHON ?= python3
UV := .venv/tools/bin/uv
CHOOSE := import sys; print(sys.executable if sys.version_info < (3, 14) else ">=3.11,<3.14")
.DEFAULT_GOAL := run
.PHONY: run test lint test-local-mode lock audit

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

# Known holes in the locked versions. Without its database pip-audit finds none, and ends well: its exit says nothing.
AUDIT := import json, pathlib, sys; f = pathlib.Path(sys.argv[1]); \
  found = json.loads(f.read_text())["dependencies"] if f.exists() else []; \
  holes = [(d["name"], d["version"], v["id"], v["fix_versions"]) for d in found for v in d.get("vulns", [])]; \
  unknown = [d["name"] for d in found if "skip_reason" in d]; \
  [print(*hole) for hole in holes]; \
  print(f"{len(found) - len(unknown)} packages audited, {len(holes)} holes" if len(found) > len(unknown) \
    else "the database cannot be reached; the list in SECURITY.md was checked alone"); \
  sys.exit(bool(holes or 0 < len(unknown) < len(found)))

audit: .venv/installed
	.venv/bin/python -m pytest -q tests/test_security_versions.py
	rm -f .venv/audit.json
	-.venv/bin/pip-audit -r requirements.lock --no-deps --disable-pip --progress-spinner off --timeout 10 \
	  --format json --output .venv/audit.json 2>/dev/null
	.venv/bin/python -c '$(AUDIT)' .venv/audit.json

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
