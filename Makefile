PYTHON ?= python3
OUT ?= build/iosxr
PORT ?= 8000
SPEED ?= 12

# onnxruntime's own wheels report to their maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

# Without compiled modules every process takes twice as long to start, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run demo test check train lock clean

help: ## Say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 15

run: .venv-service/installed ## Install the service and start it
	@.venv-service/bin/faultcube serve

demo: .venv-service/installed ## See incidents open and close: 12 recorded minutes of 11 routers in one
	@FAULTCUBE_LOG_LEVEL=warning .venv-service/bin/faultcube serve --port $(PORT) & service=$$!; \
	trap 'kill $$service' EXIT; trap 'exit 130' INT TERM; \
	echo "Look at it while it runs: http://127.0.0.1:$(PORT)"; \
	.venv-service/bin/faultcube replay training/data/cisco-iosxr/excerpt.parquet --speed $(SPEED) \
	    --wait 60 --url http://127.0.0.1:$(PORT)

test: .venv/installed ## Run every test; ARGS="-k name" picks some
	.venv/bin/python -m pytest -n auto --dist loadscope --no-loadscope-reorder --durations 10 $(ARGS)

check: .venv/installed ## Check format, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy models service training tests $(wildcard benchmarks)

train: .venv/installed ## Train the shipped model anew; OUT=folder must not exist yet
	.venv/bin/faultcube train --recipe training/iosxr.toml --out $(OUT)

# The versions of every extra, as a fresh environment gets them today.
lock: ## Renew constraints.txt
	@$(python_is_fit)
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; trap 'exit 130' INT TERM; \
	echo "Installing the newest faultcube[dev] into a fresh environment ..."; \
	$(PYTHON) -m venv "$$fresh/venv"; \
	"$$fresh/venv/bin/python" -m pip install $(pip) '.[dev]'; \
	"$$fresh/venv/bin/python" -m pip freeze --all --exclude pip --exclude faultcube >"$$fresh/all"; \
	{ echo "# Written by 'make lock'. Every version that is tested; pip install -c constraints.txt"; \
	sed 's/^\(torch==[^+]*\)+.*/\1/' "$$fresh/all"; } >"$$fresh/constraints.txt"; \
	cp "$$fresh/constraints.txt" constraints.txt

clean: ## Remove environments, builds and caches
	rm -rf .venv .venv-service build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find models service training tests -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: extra = dev
.venv-service/installed: extra = service

%/installed: pyproject.toml constraints.txt
	@$(python_is_fit)
	@rm -f $@
	@$*/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $*; $(PYTHON) -m venv $*; }
	@echo "Installing faultcube[$(extra)] into $* ..."
	@$*/bin/python -m pip install $(pip) -c constraints.txt -e '.[$(extra)]'
	@touch $@

# Python compiles what it imports; to compile all that is installed takes as long as the rest.
pip := -qq --disable-pip-version-check --no-input --no-compile

# Debian splits venv off; without it, `python3 -m venv` leaves half an environment behind.
define python_is_fit
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
{ echo "Faultcube needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
{ echo "$(PYTHON) lacks its venv module: apt-get install python3-venv" >&2; exit 1; }
endef
