# Everything that is done here, by name. `make` alone lists it.
# Set-up happens by itself, once, into .venv; PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST ?= $(BIN)/pytest
PROTOS := $(wildcard proto/pacekeeper/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts proto proto-check vectors bench fuzz clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/installed-base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[jax]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-base
	$(BIN)/pip install --quiet -e '.[jax,dev]'
	touch $@

demo: $(VENV)/installed-base ## The main job on real training: labs attest, countries witness, an audit convicts
	$(BIN)/pacekeeper demo

test: lint types contracts proto-check ## Every check and test
	$(PYTEST)

lint: $(VENV)/installed-dev ## Style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-dev ## Static types, strict
	$(BIN)/mypy

contracts: $(VENV)/installed-dev ## Which room may import which
	$(BIN)/lint-imports

proto: $(VENV)/installed-dev ## Regenerate the wire code from the .proto files
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --grpc_python_out=proto \
		--mypy_out=quiet:proto --mypy_grpc_out=quiet:proto $(PROTOS) \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc

proto-check: $(VENV)/installed-dev ## Fail if the checked-in wire code is not what the .proto files generate
	rm -rf $(VENV)/proto-check && mkdir -p $(VENV)/proto-check
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(VENV)/proto-check --grpc_python_out=$(VENV)/proto-check \
		--mypy_out=quiet:$(VENV)/proto-check --mypy_grpc_out=quiet:$(VENV)/proto-check $(PROTOS) \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc
	cd $(VENV)/proto-check && for file in pacekeeper/v1/*; do cmp $$file $(CURDIR)/proto/$$file || exit 1; done

vectors: $(VENV)/installed-dev ## Rewrite the test vectors and generated documents from the code
	PACEKEEPER_WRITE_VECTORS=1 $(PYTEST) -q -k "vector or generated or drift or catalogue or example_of_the_specification"

bench: $(VENV)/installed-dev ## Measure, as ratios within one run
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/installed-dev ## Fuzz every parser of the network, coverage-guided (FUZZ_SECONDS each, 30 by default)
	$(BIN)/pip install --quiet 'atheris>=3'
	$(BIN)/python tests/fuzz --seconds $(or $(FUZZ_SECONDS),30)

clean: ## Remove what was installed and built
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
