# make demo   install into .venv, then run the whole pipeline on the demo corpus
# make test   install into .venv, then run the whole test suite
# make check  lint, format, types
# make faults  install into .venv, then stop runs of a tiny pipeline at 50 moments and in other ways (11 minutes on two cores)
# make soak   10,000 batches of the joint stage: does memory grow, do files stay open? (some minutes)
# make fuzz   install into .venv, then feed every reader mutated files, 1,000,000 in all, guided by coverage

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check install faults soak fuzz

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

faults: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

soak: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

fuzz: install
	$(BIN)/pip install --quiet --editable '.[demo,dev,fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz
