# One command list; `make help` prints it.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
GO_STAMP := $(VENV)/.go
GO_MONITOR := tests/protocol/go
GO_CLUSTER := tests/cluster/controlplane
GO_CHART := tests/chart/tools
GO_PLUGIN := tests/plugin/go
GO_SSH := examples/plugin-go-ssh
GO_API := proto/go
GO_MODULES := $(GO_MONITOR) $(GO_CLUSTER) $(GO_CHART) $(GO_PLUGIN) $(GO_SSH) $(GO_API)
VERSION = $$($(PY) -c 'import rayscaler; print(rayscaler.__version__)')
LOCK_PART := $(VENV)/bin/uv pip compile --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --constraint requirements.lock -q
export RAY_USAGE_STATS_ENABLED = 0
export PYTHONHASHSEED = 0

.PHONY: help demo test cluster-up cluster-down e2e e2e-up e2e-down image lint fmt gen gen-check baseline docs manifests lock bench bench-k8s bench-plan soak verify deflake clean
help:            ## print this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml rayscaler/planner/mix/native.c
	@test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# A monitor in Go, plugins, a Kubernetes and helm are among the tests: the machine's own Go if it is new enough for every go.mod, else one beside
# the Python of $(VENV).
$(GO_STAMP): $(STAMP) $(GO_MONITOR)/toolchain.lock $(GO_MODULES:%=%/go.mod) $(GO_MODULES:%=%/go.sum)
	@export GOTOOLCHAIN=local GOWORK=off PATH=$(CURDIR)/$(VENV)/bin:$$PATH; \
	each() { for module in $(GO_MODULES); do (cd $$module && "$$@") || return 1; done; }; \
	each go list -m >/dev/null 2>&1 || \
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(GO_MONITOR)/toolchain.lock || \
	  { echo "the tests build a monitor, plugins and a Kubernetes in Go: install Go as new as $(GO_CLUSTER)/go.mod says"; exit 1; }; \
	each go mod download
	@touch $@

demo: $(STAMP)   ## run the main job on this machine: a real Ray head, demand, workers, scale-down
	$(VENV)/bin/rayscaler demo $(ARGS)

test: $(STAMP) $(GO_STAMP) ## set up everything and run the tests, but those of e2e
	@$(PY) -m tests.protocol.go_monitor >/dev/null  # some minutes with Go's own cache empty, which no test should take
	@$(PY) -m tests.plugin.go_plugin >/dev/null    # likewise
	@$(PY) -m tests.cluster.binary >/dev/null      # likewise
	@$(PY) -m tests.chart.tools >/dev/null         # likewise
	@$(PY) -m tests.plugin.fleet >/dev/null        # likewise
	$(PY) -m tests.lanes $(ARGS)

e2e: $(STAMP) $(GO_STAMP) ## run the tests on a real node, which needs root: kubelet, containerd, real images
	@$(PY) -m tests.e2e prepare
	$(PY) -m pytest tests/e2e $(ARGS)

e2e-up: $(STAMP) $(GO_STAMP) ## run a Kubernetes with a real node to play with; prints how to use it
	@$(PY) -m tests.e2e up

e2e-down: $(STAMP) ## end it
	@$(PY) -m tests.e2e down

cluster-up: $(STAMP) $(GO_STAMP) ## run a Kubernetes with 20 simulated nodes to play with; prints how to use it
	@$(PY) -m tests.cluster up

cluster-down: $(STAMP) ## end it
	@$(PY) -m tests.cluster down

lint: $(STAMP)   ## ruff, mypy strict, import contracts, buf lint and breaking
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/buf lint
	$(VENV)/bin/buf breaking --against proto/baseline.binpb

fmt: $(STAMP)    ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix-only --quiet .

gen: $(STAMP) $(GO_STAMP) ## generate rayscaler/api and proto/go from proto/
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(PY) -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. \
	  $$(find proto -name '*.proto' | sort)
	$(PY) proto/go/generate.py

gen-check: gen   ## fail when the committed generated code is stale
	@git diff --exit-code --stat -- rayscaler/api proto/go || { echo "rayscaler/api or proto/go is stale: run make gen and commit"; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard rayscaler/api proto/go)" || { echo "rayscaler/api or proto/go has uncommitted files"; exit 1; }

baseline: $(STAMP) ## take proto/ as it is now for what `make lint` compares it with later: at a release
	$(VENV)/bin/buf build --exclude-source-info -o proto/baseline.binpb

docs: $(STAMP)   ## write docs/reference.md from schema and code
	$(PY) docs/generate.py

manifests: $(STAMP) $(GO_STAMP) ## render deploy/rayscaler.yaml from the chart
	$(PY) -m tests.chart.manifests

lock: $(STAMP)   ## refresh requirements.lock, and what the images have of it
	$(VENV)/bin/uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 \
	  --extra dev --no-emit-package rayscaler -q pyproject.toml -o requirements.lock
	$(LOCK_PART) pyproject.toml -o deploy/requirements.lock
	printf 'ray\ngrpcio\n' | $(LOCK_PART) - -o tests/e2e/ray.lock

image: $(STAMP)  ## build the service's image as an archive, without a container engine: NAME=, OUT=
	$(PY) -m deploy.image --name $(or $(NAME),rayscaler:$(VERSION)) --out $(or $(OUT),build/rayscaler-$(VERSION).tar)

bench: $(STAMP) $(GO_STAMP) ## benchmarks: ours, the anchor's, the ratio; exit 1 on a missed ratio, 2 without an anchor
	$(PY) -m tests.bench $(ARGS)

bench-k8s: $(STAMP) $(GO_STAMP) ## the same on a real API server: bursts of pods against bare creates, a task to its pod, idle requests, memory
	@$(PY) -m tests.cluster.binary >/dev/null
	$(PY) -m tests.bench --k8s $(ARGS)

bench-plan: $(STAMP) ## planning alone, in fresh processes: cost beside a lower bound, seconds, memory, Ray's planner; and a chart
	$(PY) -m tests.bench --plan $(ARGS)

soak: $(STAMP)   ## kill heads, services and monitors again and again, and do in full what the gate does less of: SEED=, MINUTES=, OUT= (goes on where it stopped), ONLY=
	$(PY) -m tests.soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),60) --out $(or $(OUT),build/soak.jsonl) --only "$(ONLY)"

verify: gen-check lint test e2e ## the gate: generated code, lint, tests, a clean tree
	@test -z "$$(git status --porcelain)" || { git status --short; echo "verify left the tree dirty"; exit 1; }

deflake: $(STAMP) $(GO_STAMP) ## run the tests (ARGS selects) until one fails
	while $(PY) -m pytest $(ARGS); do :; done

clean:           ## remove what the other targets made
	@test ! -e build/cluster-keeper.json || $(PY) -m tests.cluster down
	@test ! -e build/e2e-keeper.json || $(PY) -m tests.e2e down
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
