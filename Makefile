# Very Deep: the book and its checks. `make` alone lists what there is.
# Every path is relative and console scripts are not used (their first line cannot hold a
# space), so a clone works wherever it lies.

PORT ?= 8000
NB ?= notebooks/*.ipynb
# requirements.lock: the same pins with those of what they need, each file by its hash.
REQUIREMENTS ?= requirements.txt
PY = .venv/bin/python
GRADER = PYTHONPATH=grader $(PY)
# PYTHON: the interpreter for .venv; if it is not given, the best that the machine has.

INSTALLED = .venv/installed.stamp
BUILT = _build/book.stamp
STUDENTS = _build/students
# SOLUTIONS: hidden (folded, the default) or none.
SOLUTIONS ?= hidden
BOOK_hidden = $(BUILT)
BOOK_none = $(STUDENTS)/_build/book.stamp
BOOK = $(or $(BOOK_$(SOLUTIONS)),$(error SOLUTIONS is "hidden" or "none", not "$(SOLUTIONS)"))
PDF = $(dir $(BOOK))very-deep.pdf
BOOK_SOURCES = _config.yml _toc.yml CITATION.cff tools/imports.py \
	$(shell find book vgglib -type f -not -name '*.pyc') \
	$(wildcard notebooks/*.ipynb benchmarks/recorded/*.json)

# One process of tests a core, each with one thread; conftest.py says what runs where.
WORKERS ?= auto
CHECK = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --maxprocesses=4 \
	--dist loadfile --no-loadscope-reorder
CHAPTERS = --nbval --nbval-current-env --nbval-cell-timeout=1200

.PHONY: help setup book students pdf machine test quick test-all records notebooks claims assignments grade slides serve lint types format mutants hooks lock links address clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## list these targets
	@echo 'usage: make TARGET'
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1\t\2/p' Makefile | expand -t 14

setup: $(INSTALLED)  ## make .venv and install what is missing

book: $(BOOK)  ## build the book into _build/html; SOLUTIONS=none: without answers, for students
	@echo "The book is built. Landing page: $(dir $(BOOK))html/index.html"

students: $(INSTALLED)  ## a repository for a class, without answers: OUT=../my-course ADDRESS=me/my-course [COLAB_AI=off]
	@$(GRADER) tools/withhold.py "$(OUT)" --address "$(ADDRESS)" --colab-ai "$(or $(COLAB_AI),on)"

pdf: $(PDF)  ## the book as one PDF, _build/very-deep.pdf (needs Chromium or Chrome); SOLUTIONS=none too
	@echo "The PDF: $(PDF)"

test: machine $(INSTALLED)  ## package, chapters executed and compared, the built book, the grader
	@$(PY) tools/machine.py tests
	$(CHECK) $(CHAPTERS) -m "not long"

quick: $(INSTALLED)  ## the package and the rules of the notebooks, in a minute or two
	$(CHECK) --quick tests

test-all: machine $(INSTALLED)  ## all of `make test`, and what is slow and seldom fails
	@$(PY) tools/machine.py tests
	$(CHECK) $(CHAPTERS)

# Before there is an environment, so that a machine that lacks something is told at once.
machine:
	@python3 tools/machine.py tests

records: $(INSTALLED)  ## make recorded runs that are missing, one core each time it is started; RECORDS=--list shows them
	$(PY) benchmarks/record.py $(RECORDS)

notebooks: $(INSTALLED)  ## re-execute chapters in place: all, or NB=notebooks/01_architecture.ipynb
	$(PY) tools/execute.py $(NB)
	$(MAKE) --no-print-directory claims

claims: $(INSTALLED)  ## write the tables of claims, results, architecture and status pages
	$(PY) tools/claims.py
	$(PY) tools/results.py
	$(PY) tools/imports.py
	$(PY) tools/status.py

assignments: $(INSTALLED)  ## write the student versions of the assignments into _build/assignments
	$(GRADER) tools/assignments.py

grade: $(INSTALLED)  ## grade a folder of submissions: SUBMISSIONS=dir OUT=dir [JOBS=2 GRADE=options]
	$(GRADER) -m very_deep_grader --jobs $(or $(JOBS),2) $(GRADE) "$(SUBMISSIONS)" "$(OUT)"

slides: $(INSTALLED)  ## write the lecturer's slides of each chapter into _build/slides
	$(PY) tools/make_slides.py

serve: $(BUILT)  ## show the built book at http://127.0.0.1:8000 (or PORT=...)
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lint: $(INSTALLED)  ## check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(INSTALLED)  ## check the package's types
	$(PY) -m mypy

format: $(INSTALLED)  ## put code into the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

mutants: $(INSTALLED)  ## do the tests notice wrong lines of the core? [MODULES="model augment" JOBS=2]
	$(PY) tools/mutants.py $(if $(JOBS),--jobs $(JOBS)) $(MODULES)

hooks: $(INSTALLED)  ## check each commit before it is made; show notebooks' changes cell by cell
	$(PY) -m pre_commit install
	git config diff.jupyternotebook.command '$(PY) -m nbdime.vcs.git.diffdriver diff'
	git config merge.jupyternotebook.driver '$(PY) -m nbdime.vcs.git.mergedriver merge %O %A %B %L %P'
	git config merge.jupyternotebook.name 'notebooks, cell by cell'

lock: $(INSTALLED)  ## pin everything that requirements.txt brings along, by hash
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip compile --quiet --upgrade --generate-hashes --no-annotate --python-version 3.11 \
		--python-platform linux --custom-compile-command 'make lock' requirements.txt -o requirements.lock

links: $(INSTALLED)  ## ask every address outside of the book whether it still answers
	$(PY) .venv/bin/jupyter-book build . -n --all --builder linkcheck

address: $(INSTALLED)  ## notebooks install this version's tag; of another repository: URL=https://github.com/me/fork
	$(PY) tools/set_address.py "$(URL)"

clean:  ## remove the built book (the environment stays)
	rm -rf _build

$(INSTALLED): requirements.txt pyproject.toml grader/pyproject.toml
	@echo "Installing into .venv; the first time takes a few minutes."
	test -x $(PY) || python3 tools/machine.py environment $(PYTHON)
	$(PY) -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	$(PY) -m pip install --quiet --disable-pip-version-check -e . -e ./grader
	touch $@

# A chart is drawn anew if its script has changed, not if only its numbers have: away with the old.
$(BUILT): $(INSTALLED) $(BOOK_SOURCES)
	rm -rf _build/plot_directive
	$(PY) .venv/bin/jupyter-book build . -W --keep-going -n --all
	touch $@

# The same book as a single page (built beside the other), printed by a browser.
$(PDF): $(BOOK) tools/pdf.py
	$(PY) .venv/bin/jupyter-book build $(BOOK:%_build/book.stamp=%.) -W --keep-going -n --all \
		--builder custom --custom-builder singlehtml
	$(PY) tools/pdf.py $(dir $(BOOK))singlehtml $@

# The same options; the sources are a copy that lacks the answers.
$(STUDENTS)/_build/book.stamp: $(INSTALLED) $(BOOK_SOURCES) tools/withhold.py
	$(GRADER) tools/withhold.py $(STUDENTS)
	rm -rf $(STUDENTS)/_build/plot_directive
	$(PY) .venv/bin/jupyter-book build $(STUDENTS) -W --keep-going -n --all
	touch $@
