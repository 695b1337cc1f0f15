# make demo    the whole job on the embedded digits: no network, no server
# make test    every test but those of make e2e, in two processes: five minutes
# make e2e     slow tests, and a real server, worker, browser, PostgreSQL, Ray: half an hour
# make bench   speed against fastai, peers and the limit; needs photos and minutes
# make lint    ruff, mypy, and the website built strictly
# make docs    the website, into build/site
# make notebook    executes docs/tutorial.md into examples/tutorial.ipynb
#
# Each makes its own .venv and installs the versions of constraints.txt into it;
# a second call finds .venv/installed and goes straight to work.
PYTHON ?= python3
BIN := .venv/bin
# A wheel with CPU-only torch is smaller: UV_TORCH_BACKEND=cpu make demo

# Machine images often set this. Then each process compiles a thousand modules again: 20 seconds.
unexport PYTHONDONTWRITEBYTECODE

# tarfile.data_filter came with 3.11.4; a .venv of an older Python, or of one that is gone, is made anew.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11, 4) and "visionflows needs Python 3.11.4 or newer: make PYTHON=python3.12 …")

.PHONY: demo test e2e lint docs notebook format install venv bench clean

demo: install
	$(BIN)/visionflows demo

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		-m "not slow" --ignore=tests/e2e $(ARGS)

e2e: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow --ignore=tests/e2e
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/e2e $(ARGS)

bench: install
	$(BIN)/python bench/model.py ../shared/data/cats-dogs.tgz --store store
	$(BIN)/python bench/score.py --model bench --store store --photos store/datasets $(BENCH)

lint: install docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python -m zensical build --clean --strict

notebook: install
	$(BIN)/python examples/make_notebook.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

venv:
	@$(PYTHON) -c '$(NEW_ENOUGH)'
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || $(PYTHON) -m venv --clear .venv

.venv/installed: pyproject.toml constraints.txt
	$(MAKE) --no-print-directory venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build demo store *.egg-info
