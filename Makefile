# Needs only Python 3.11 or newer and make: everything else is installed into .venv, in the tested versions.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEMO_ENV := InvertedPendulum-v5
DEMO_RUNS := runs/demo
DEMO_SIZE := --hidden-sizes 64 64 --batch-size 128 --learning-rate 1e-3 --eval-every 2000
DEMO_LATEST := $(DEMO_RUNS)/iterative-sac/$(DEMO_ENV)/latest
# The modules of estep whose annotations `make long` checks. The Protocol in inference/named.py cannot be checked.
OPTIMISERS := $(addprefix inference.,cem closed_form direct gradient importance iterative starts stein)
ANNOTATED := core families priors likelihoods $(OPTIMISERS) e_steps m_steps nets

.PHONY: demo test long browser fuzz matrix lint types ci freeze clean

# Trains until the environment is solved, evaluates the policy, draws the curves and prints where they are.
demo: $(INSTALLED)
	$(BIN)/estep train iterative-sac --env $(DEMO_ENV) --steps 30000 --stop-at 950 --out $(DEMO_RUNS) $(DEMO_SIZE)
	$(BIN)/estep eval $(DEMO_LATEST)
	$(BIN)/estep inspect $(DEMO_LATEST) --only improvement gap

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The slow tests: learning to known optima, and many programs to compile. Then all contracts of
# tests/test_contracts.py once more (about five minutes), with every annotation checked, shapes included.
long: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_contracts.py \
		--jaxtyping-packages="$$(printf 'estep.%s,' $(ANNOTATED))beartype.beartype"

# The report of a run in a real browser. It needs chromium and chromedriver.
browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group browser
	$(BIN)/python -m pytest -n 0 -m long tests/report/test_browser.py

# Ten minutes for each parser of what others may have written, and 20,000 mutants of a checkpoint: about 80 minutes.
# The corpus is kept in .fuzz.
fuzz: $(INSTALLED)
	$(BIN)/python tests/helpers/fuzz.py --seconds 600 --mutants 20000 --corpus .fuzz

# A short list of tests with each supported Python on PATH and with the oldest and the newest JAX of the range.
matrix:
	$(PYTHON) .ci/matrix.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

ci: lint types test

# The stamp is written last, so an interrupted installation starts again.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Making a virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	@echo "Installing estep and the libraries it needs, in the tested versions: a minute or two, about 1 GB ..."
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable . --group test ruff mypy
	@touch $(INSTALLED)
	@echo "Installed."

# Writes the installed versions as the tested versions. pip is in the list because old versions of pip lack --group.
freeze: $(INSTALLED)
	echo "# The versions this project is tested with. Regenerate with 'make freeze' after changing a dependency." > constraints.new
	$(BIN)/python -m pip freeze --all --exclude-editable --exclude setuptools >> constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv .matrix .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
