# Two commands do everything: `make demo` draws a page of sketches, `make test` proves the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One torch thread for each process: two on a busy core are far slower than one.
THREADS = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint fuzz package docs bench pictures gallery weights clean

demo: $(VENV)/.run
	$(BIN)/sketchknitter sample -n 30 --seed 7 -o demo.png
	$(BIN)/sketchknitter sample cat -n 6 --seed 1 -o demo.svg
	@echo "look at demo.png and demo.svg"

test: $(VENV)/.dev lint
	$(THREADS) $(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# 30,000 hostile files for every reader; the same for the same SEED, minutes
fuzz: $(VENV)/.dev
	$(THREADS) $(BIN)/python tools/fuzz.py -n 30000 --seed $(or $(SEED),0)

# sdist and wheel, and a drawing by the wheel alone, far from the source
package: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --outdir dist
	$(THREADS) $(BIN)/python tools/check_package.py dist

# the documentation site, in site/; a broken link or reference fails
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/.run
	$(BIN)/python -m bench

# regenerates the pictures and figures of README.md and the model card;
# DATA, if given, is the folder of the archives: .../quickdraw
pictures: $(VENV)/.run
	$(BIN)/python docs/make_pictures.py $(if $(DATA),--data $(DATA))

# the pictures of docs/gallery.md; DATA is the folder of the archives: .../quickdraw
gallery: $(VENV)/.run
	$(BIN)/python docs/make_gallery.py --data $(DATA)

# trains the shipped weights anew (hours); kill it and call it again: it goes on;
# DATA is the folder that holds quickdraw/ and ndjson/
weights: $(VENV)/.run
	exec env $(THREADS) $(BIN)/python tools/make_weights.py --data $(DATA)  # no shell to outlive make

# constraints.txt pins the version of torch; which build is taken is pip's choice
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo.png demo.svg .pytest_cache .mypy_cache .ruff_cache
