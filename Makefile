# `make test` and `make demo` set up all they need in .venv; see README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
EDITABLE := --no-build-isolation -Cbuild-dir=build/editable -e .
PACKAGES := tumortrace export/tumortrace_export runtime/tumortrace_runtime
NATIVE := $(wildcard runtime/native/include/tumortrace/*.hpp runtime/bindings/*.?pp tests/native/*.?pp)
# Editable installs note where each package is, so a package that comes or goes asks for a new one.
INSTALLED := pyproject.toml runtime/tumortrace_runtime/version.py $(shell find $(PACKAGES) -name __init__.py) \
             $(shell find runtime/native runtime/bindings cmake runtime/CMakeLists.txt -type f)
STEPS := lint types test-native test-arm test-python gate test-wheel

.PHONY: help venv lint types test-native test-arm test-python test-wheel test-arm-python test gate wheel wheel-arm demo format stub clean

help:
	@echo 'make test    lint, types, C++ tests here and on Arm, Python tests, gate, wheel'
	@echo 'make demo    train, export and segment phantoms; DATA=/path/to/kaggle_3m for real scans'
	@echo 'make wheel   dist/tumortrace-….whl for this CPU and the Python that PYTHON names; make wheel-arm: for Arm'
	@echo 'make gate    a short benchmark on phantoms, held against this device'"'"'s baseline'
	@echo 'make venv    .venv with everything pinned, the packages editable'
	@echo 'make format  put Python and C++ in the style that lint checks'
	@echo 'make stub    write the type stub of the native module anew'
	@echo 'make clean   remove .venv and everything that was built'

venv: .venv/native

.venv/packages: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt pip
	$(PIP) install -c constraints.txt --group dev
	$(PIP) install -c constraints.txt $(EDITABLE)[all]
	touch $@

# NVIDIA's parser and builder, which work without a GPU, for tests alone: its licence is no dependency's.
.venv/tensorrt-rtx: .venv/packages
	$(PIP) install tensorrt-rtx==1.7.1.116 && touch $@ || echo 'tensorrt-rtx: not to be had here; its tests will skip'

# A peer that wants an older OpenCV, which draws other phantoms; what it is timed at takes this one, too.
.venv/model-api: .venv/packages
	$(PIP) install --no-deps openvino-model-api==0.4.7
	touch $@

.venv/native: .venv/packages $(INSTALLED)
	$(PIP) install --no-deps $(EDITABLE)
	touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

types: venv
	$(BIN)/mypy

# Builds the C++ tests in build/native-NAME, with options, and runs them: $(call test_native,NAME,OPTIONS).
define test_native
	$(BIN)/cmake -S runtime -B build/native-$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$$PWD/$(BIN)/ninja \
	  -DTUMORTRACE_TESTS=ON --log-level=WARNING $(2)
	$(BIN)/cmake --build build/native-$(1)
	$(BIN)/ctest --test-dir build/native-$(1) --output-on-failure
endef

# Once as it ships, and once with each family of sanitizers.
test-native: .venv/packages
	$(call test_native,plain)
	$(call test_native,address,-DTUMORTRACE_SANITIZE=address)
	$(call test_native,thread,-DTUMORTRACE_SANITIZE=thread)

# Once for Jetson Orin, and once as wheels ship, for every 64-bit Arm CPU.
ARM := -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/cmake/aarch64.cmake
ARM_TOOLS := $(and $(shell command -v aarch64-linux-gnu-g++),$(shell command -v qemu-aarch64-static))
ifneq ($(ARM_TOOLS),)
test-arm: .venv/packages
	$(call test_native,arm-orin,$(ARM))
	$(call test_native,arm-any,$(ARM) -DTUMORTRACE_ARM_ARCH=armv8-a -DTUMORTRACE_ARM_CPU=cortex-a53)
else
test-arm:
	@echo 'test-arm: SKIPPED: it takes aarch64-linux-gnu-g++ and qemu-aarch64-static (see .ci/run)'
endif

test-python: venv .venv/tensorrt-rtx .venv/model-api
	$(BIN)/python -m pytest -n 2

test-wheel: venv wheel
	$(BIN)/python tests/wheel/check.py --python $(PYTHON) build/wheel/$(MACHINE)/*-$(SYSTEMS)_$(MACHINE).whl

# Slow, and no part of `make test`: Python itself under qemu.
ifneq ($(and $(ARM_TOOLS),$(shell command -v apt-get),$(shell command -v dpkg)),)
test-arm-python: venv wheel-arm
	$(BIN)/python tests/wheel/arm.py --cache build/arm-python build/wheel/aarch64/*-$(SYSTEMS)_aarch64.whl
else
test-arm-python:
	@echo 'test-arm-python: SKIPPED: it takes what test-arm takes, and the apt-get and dpkg of Debian'
endif

test: venv
	@for step in $(STEPS); do \
	  echo "== $$step"; start=$$SECONDS; $(MAKE) --no-print-directory $$step; echo "== $$step: $$((SECONDS - start)) s"; \
	done; echo "== all: $$SECONDS s"

# Accuracy, latency, memory and size on phantoms, against this device's baseline.
gate: venv
	$(BIN)/python benchmarks/gate.py check

# The systems that wheels are for: Linux with this glibc or a later one.
SYSTEMS := manylinux_2_34
MACHINE := $(shell uname -m)
BUILDER := build/wheel/$(notdir $(PYTHON))
BUILDER_PIP := $(BUILDER)/bin/pip --disable-pip-version-check --quiet

# What builds wheels, and no more: other Pythons' take no second .venv.
$(BUILDER)/packages: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BUILDER)
	$(BUILDER_PIP) install -c constraints.txt pip
	$(BUILDER_PIP) install -c constraints.txt --group build
	touch $@

# Builds a wheel, and refuses it where auditwheel names other systems than SYSTEMS that can load it:
# $(call wheel,MACHINE,OPTIONS,ENVIRONMENT).
define wheel
	rm -rf build/wheel/$(1)
	$(3) $(BUILDER_PIP) wheel --no-deps --no-build-isolation -w build/wheel/$(1)/raw \
	  -Cbuild-dir=build/wheel/$(1)/cmake -Ccmake.define.TUMORTRACE_PORTABLE=ON $(2) .
	$(BUILDER)/bin/auditwheel repair --patcher none -w build/wheel/$(1) build/wheel/$(1)/raw/*.whl
	mkdir -p dist
	cp build/wheel/$(1)/*-$(SYSTEMS)_$(1).whl dist || { $(BUILDER)/bin/auditwheel show build/wheel/$(1)/raw/*.whl; false; }
endef

wheel: $(BUILDER)/packages
	$(call wheel,$(MACHINE))

# The headers are those of this CPU's Python, which for another 64-bit CPU differ in nothing that a module sees.
wheel-arm: $(BUILDER)/packages
	$(call wheel,aarch64,-Ccmake.toolchain-file=$(CURDIR)/cmake/aarch64.cmake -Ccmake.define.TUMORTRACE_ARM_ARCH=armv8-a,\
	  _PYTHON_HOST_PLATFORM=linux-aarch64 \
	  SETUPTOOLS_EXT_SUFFIX=$$($(BUILDER)/bin/python -c \
	    'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX").replace("$(MACHINE)", "aarch64"))'))

demo: venv
	rm -rf demo
	$(BIN)/python -m tumortrace.demo $(if $(DATA),--data $(DATA)) -o demo

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

# The type stub is kept in the tree, so that type checkers need no build; a test holds it to the module.
stub: venv
	$(BIN)/python -m nanobind.stubgen -q -m tumortrace_runtime._native -o runtime/tumortrace_runtime/_native.pyi

clean:
	rm -rf .venv build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
