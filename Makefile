# Needs only Python 3.11 or newer and make: everything else is installed into .venv, in the tested versions.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TOOLS := .tools
# The libraries are installed as sources alone, and compiled when they are first imported. Where an image forbids Python
# to keep that, each process of the tests would compile JAX again, for five seconds.
unexport PYTHONDONTWRITEBYTECODE
DEMO_ENV := InvertedPendulum-v5
DEMO_RUNS := runs/demo
DEMO_SIZE := --hidden-sizes 64 64 --batch-size 128 --learning-rate 1e-3 --eval-every 2000
DEMO_LATEST := $(DEMO_RUNS)/iterative-sac/$(DEMO_ENV)/latest
# The modules of estep whose annotations `make long` checks. The Protocol in inference/named.py cannot be checked.
OPTIMISERS := $(addprefix inference.,cem closed_form direct gradient importance iterative starts stein)
ANNOTATED := core families priors likelihoods $(OPTIMISERS) e_steps m_steps nets

.PHONY: demo test long browser fuzz kills power soak soak-long matrix lint types ci freeze hashes audit sbom clean

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

# The report of a run, a comparison and a video in a real browser. It needs chromium and chromedriver.
browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group browser
	$(BIN)/python -m pytest -n 0 -m long tests/report/test_browser.py

# Ten minutes for each parser of what others may have written, and 20,000 mutants of a checkpoint: about 80 minutes.
# The corpus is kept in .fuzz.
fuzz: $(INSTALLED)
	$(BIN)/python tests/helpers/fuzz.py --seconds 600 --mutants 20000 --corpus .fuzz

# A run is killed before every operation on the disk and at 1,000 random moments, and always goes on: half an hour.
kills: $(INSTALLED)
	PYTHONPATH=tests/helpers:experiments/tasks $(BIN)/python tests/helpers/kills.py --random 1000

# The disks that a loss of power can leave behind, of 20,000 drawn: a few minutes.
power: $(INSTALLED)
	PYTHONPATH=tests/helpers:experiments/tasks $(BIN)/python tests/helpers/power.py --samples 20000

# Whether memory, descriptors, threads, compilations and logs stop growing: 3 minutes an algorithm, or an hour.
soak: $(INSTALLED)
	PYTHONPATH=tests/helpers:experiments/tasks $(BIN)/python tests/helpers/soak.py --minutes 3 sac iterative-sac

soak-long: $(INSTALLED)
	PYTHONPATH=tests/helpers:experiments/tasks $(BIN)/python tests/helpers/soak.py --minutes 60 sac iterative-sac

# A short list of tests with each supported Python on PATH and with the oldest and the newest JAX of the range.
matrix:
	$(PYTHON) .ci/matrix.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

ci: lint types test

# The stamp is written last, so an interrupted installation starts again. Every file that is installed must have a hash
# of requirements.txt, and the build of estep itself may load nothing.
$(INSTALLED): pyproject.toml requirements.txt
	@echo "Making a virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv
	@echo "Installing the libraries that estep needs, in the tested versions: a minute or two, about 1 GB ..."
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)
	@echo "Installed."

# Writes the installed versions as the tested versions, and then their hashes.
freeze: $(INSTALLED)
	echo "# The versions this project is tested with. Regenerate with 'make freeze' after changing a dependency." > constraints.new
	$(BIN)/python -m pip freeze --all --exclude-editable --exclude setuptools >> constraints.new
	mv constraints.new constraints.txt
	$(MAKE) --no-print-directory hashes

# Writes requirements.txt and requirements-tools.txt: the versions of constraints.txt, for every system, with the hashes
# of all files of each release.
LOCK := $(TOOLS)/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes
LOCK += --no-annotate --custom-compile-command "make hashes"
hashes: $(TOOLS)/installed
	printf 'ruff\nmypy\neditables\npip\nhatchling==1.33.0\n' | \
		$(LOCK) --no-strip-extras --group test --constraint constraints.txt --output-file requirements.txt pyproject.toml -
	printf 'uv\npip-audit\ncyclonedx-bom\n' | $(LOCK) --output-file requirements-tools.txt -

# Known weaknesses of the pinned versions. It asks the advisory database of PyPI; the exit code is 1 if there are any.
audit: $(TOOLS)/installed
	$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

# The list of everything that is installed, as a bill of materials (CycloneDX): build/sbom.json.
sbom: $(TOOLS)/installed
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py requirements --output-reproducible --output-file build/sbom.json requirements.txt

$(TOOLS)/installed: requirements-tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --require-hashes --requirement requirements-tools.txt
	touch $(TOOLS)/installed

clean:
	rm -rf .venv .tools .matrix .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
