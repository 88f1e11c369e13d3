# make demo   install into .venv, then run the whole pipeline on the demo corpus
# make test   install into .venv, then run the whole test suite
# make check  lint, format, types
# make soak   10,000 batches of the joint stage: does memory grow, do files stay open? (a quarter of an hour)

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check install soak

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo,dev]'
	touch $@

demo: install
	$(BIN)/moe-lightning pipeline --mode quick

# Two processes, one thread each: the tests are many small models.
test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py
