# Two commands matter: `make book` runs the paper, `make test` checks it. `make help` lists the rest.
PROFILE ?= smoke
PROFILES := $(basename $(notdir $(wildcard profiles/*.yml)))
override PROFILE := $(strip $(PROFILE))
ifneq ($(words $(PROFILE)) $(filter $(PROFILES),$(PROFILE)),1 $(PROFILE))
$(error PROFILE must be one of $(PROFILES), got "$(PROFILE)")
endif
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$p" && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
INSTALLED := .venv/.installed

export SALIB_PROFILE := $(PROFILE)
# Training allocates and frees large blocks; without these glibc hands each one back to the kernel.
export MALLOC_MMAP_THRESHOLD_ ?= 4294967296
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592
export MALLOC_TOP_PAD_ ?= 268435456

.DEFAULT_GOAL := help
.PHONY: help book test mutants kills lint serve clean

help: ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@echo "  PROFILE=smoke (default), laptop, gpu or paper picks profiles/<name>.yml"

book: $(INSTALLED) ## run the notebooks that changed and build the book
	@$(PY) -m doit
	@echo "$(CURDIR)/build/_build/html/index.html"

test: $(INSTALLED) ## run the tests (browser tests look at the book built last)
	$(PY) -m pytest -n 2 --dist loadfile

mutants: $(INSTALLED) ## change the meaning of the code piece by piece; the tests must notice
	$(PY) tests/mutants.py

kills: $(INSTALLED) ## kill commands at random moments; the same command again must end in the same files
	$(PY) tests/kills.py

lint: $(INSTALLED) ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb
	$(PY) -m pyright

serve: ## show the built book on http://127.0.0.1:8000
	$(PY) -m http.server --bind 127.0.0.1 --directory build/_build/html 8000

clean: ## remove the book, the executed pages and what the profile computed
	rm -rf build book/notebooks book/_generated runs/$(PROFILE)
	[ "$(PROFILE)" != smoke ] || rm -rf results/smoke

# The stamp is written last, so an interrupted installation is taken up again.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with venv must be on PATH (or: make PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --ignore-requires-python geobench==1.1.0
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
