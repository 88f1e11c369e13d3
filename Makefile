# make demo   install into .venv, then run the whole pipeline on the demo corpus
# make test   install into .venv, then run the whole test suite
# make check  lint, format, types
# make site   install into .venv, then build the documentation into site/
# make faults  install into .venv, then stop runs of a tiny pipeline at 50 moments and in other ways (11 minutes on two cores);
#              SEED=7 takes other moments
# make soak   10,000 batches of the joint stage: does memory grow, do files stay open? (some minutes)
# make fuzz   install into .venv, then feed every reader mutated files, 1,000,000 in all, guided by coverage
# make lock   write constraints.txt anew: the newest versions that pyproject.toml allows (minutes)
# make newest  install those into .venv-newest, import every module, run the fast tests, name what is newer than the lock

PYTHON ?= python3
BIN := .venv/bin
NEWEST := .venv-newest/bin
# The second holds the build to the file too, for pip from 25.3 on; before, the first does.
LOCKED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
FAST_TESTS := tests/unit

.PHONY: demo site test check install faults soak fuzz lock newest

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(LOCKED) $(BIN)/pip install --quiet --editable '.[demo,dev]'
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

site: install
	$(LOCKED) $(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

faults: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.robustness.faults $(if $(SEED),--seed $(SEED))

soak: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

fuzz: install
	$(LOCKED) $(BIN)/pip install --quiet --editable '.[demo,dev,fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.robustness.fuzz

lock:
	$(PYTHON) .ci/lock.py

newest:
	$(PYTHON) -m venv --clear .venv-newest
	$(NEWEST)/pip install --quiet --editable '.[demo,huggingface,dev]'
	@echo "not as in constraints.txt:"; $(NEWEST)/pip freeze --exclude-editable | grep -vxFf constraints.txt || echo nothing
	OMP_NUM_THREADS=1 $(NEWEST)/pytest -n 2 --dist loadfile $(FAST_TESTS)
