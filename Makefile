# Two commands: make demo runs the embedded study, make test passes the tests; both set up what they need first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
REPORT := results/report/digits/index.html
# Tests side by side: one process a core, at most 8.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
WORKERS ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count())")
# Figures 7, 10 and 13 need what only a study that was collected here has.
LACKING := $(if $(wildcard results/digits_samples.npz),,figure_07) $(if $(wildcard results/digits_log.csv),,figure_13) $(if $(wildcard results/sampling_compute.csv),,figure_10)
NOTEBOOKS := $(patsubst %,results/notebooks/%.html,$(filter-out $(LACKING),$(basename $(notdir $(wildcard analysis/notebooks/[a-z]*.py)))))
TABLES := $(wildcard results/*.csv results/*.npz results/measured/*.csv results/published/*.csv)

# Idle threads that spin slow down whoever else is on the machine: measured 2 times and more on two cores.
export OMP_WAIT_POLICY = passive

# make gpu and gpu-bench install nothing: torch with CUDA is the machine's own.
GPU_PYTHON ?= $(PYTHON)
HERE := PYTHONPATH=.$(if $(PYTHONPATH),:$(PYTHONPATH))
WHEELS ?= build/wheels
DIT ?=
FAST_DIT ?=
SIT ?=

.PHONY: demo compare laws help test test-fast test-slurm chaos lint bench gpu gpu-bench wheels notebooks docs install clean

demo: install  ## trains, scores and draws the digits study: minutes the first time, seconds after that
	$(BIN)/harness plan digits
	$(BIN)/harness run digits --workers $(WORKERS)
	$(BIN)/harness collect digits
	@$(MAKE) --no-print-directory --silent $(REPORT)
	@echo "report: $(REPORT)"

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

$(REPORT): results/digits.csv
	$(BIN)/harness report digits

compare: install  ## families of networks at equal Gflops on the digits, and their report: minutes
	$(BIN)/harness run compare_digits --workers $(WORKERS)
	$(BIN)/harness collect compare_digits
	$(BIN)/harness report compare_digits

laws: install  ## runs of equal compute on the digits, with muP and without, their laws and reports: 10 to 15 minutes on two quiet cores
	for study in digits_laws digits_laws_mup; do \
	  $(BIN)/harness run $$study --workers $(WORKERS) && $(BIN)/harness collect $$study \
	  && $(BIN)/harness laws $$study && $(BIN)/harness report $$study || exit 1; done

test: install  ## the default suite
	$(BIN)/pytest $(PARALLEL)

test-fast: install  ## what takes seconds: identity, plan, store, randomness, costs, statistics
	$(BIN)/pytest -m 'not slow and not slurm and not chaos'

test-slurm: install  ## on a real Slurm of four virtual nodes, installed from Debian's packages; skipped where there are none
	$(PYTHON) tests/slurm/lab.py install
	$(BIN)/pytest -n 2 --dist worksteal -m slurm -rs tests/slurm

chaos: install  ## the long storms of kills, every disk fault, thousands of damaged files and strange inputs, the soak
	CHAOS=1 $(BIN)/pytest -n 2 --dist load -m 'not slurm' -rA tests/chaos

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## everything that is timed: ratios against peers, side by side
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

gpu:  ## the laws of one device, with GPU_PYTHON and its torch: minutes on a GPU; without one the CPU stands in for it
	$(HERE) $(GPU_PYTHON) -m pytest -o addopts="" -W default::DeprecationWarning -q -rs -m 'gpu or everywhere' --durations 5 tests/gpu

gpu-bench:  ## how fast this GPU is, into results/measured and docs/gpu.md; DIT, FAST_DIT, SIT = checkouts to compare with
	$(HERE) $(GPU_PYTHON) tests/benchmarks/gpu_rows.py
	$(HERE) $(GPU_PYTHON) tests/benchmarks/gpu_peers.py --compile $(if $(DIT),--dit $(DIT)) $(if $(FAST_DIT),--fast-dit $(FAST_DIT)) $(if $(SIT),--sit $(SIT))
	$(HERE) $(GPU_PYTHON) docs/speed_table.py

wheels:  ## gathers in WHEELS what make gpu needs beside torch and numpy, for a machine without a network
	$(PYTHON) -m pip wheel --quiet --no-deps -c constraints.txt -w $(WHEELS) -r tests/gpu/wheels.txt

notebooks: install $(NOTEBOOKS)  ## executed notebooks and their HTML in results/notebooks

results/notebooks/%.html: analysis/notebooks/%.py $(TABLES)
	mkdir -p results/notebooks
	$(BIN)/jupytext --quiet --to ipynb --output results/notebooks/$*.ipynb $<
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace results/notebooks/$*.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to html results/notebooks/$*.ipynb

docs: install  ## the documentation as a site, in build/site
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python docs/architecture.py
	$(BIN)/python docs/speed_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the site: build/site/index.html"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV): 2 GB with PyTorch for CPUs, 6 GB with CUDA; minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,notebooks]"
	touch $@

clean:  ## what was made, but for the store and its measurements
	rm -rf $(VENV) build results/report results/notebooks *.egg-info
