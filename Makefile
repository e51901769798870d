# SPDX-License-Identifier: Apache-2.0
#
# `make demo` and `make test` need Go, make, git, and root or sudo. They build as you are and run as
# root. What compiles the kernel side (generate, check) needs clang-14 too: see CONTRIBUTING.md.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
PREFIX ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD := build
BINARY := $(BUILD)/looptrace
GOFLAGS_BUILD := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

# Root runs things as they are; others through sudo. `make SUDO=doas …` takes another.
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)
TEST_EXEC := $(if $(SUDO),-exec '$(SUDO) env CI=$(CI)')

C_FILES := $(wildcard bpf/*.[ch] bpf/headers/*.h bpf/test/*.[ch] tracer/testdata/*.c .ci/bench/crowd/*.c)
# Packages without a kernel under them: these are tested with the race detector, which needs cgo.
PURE := ./tracer/flow/... ./output/... ./cmd/...

GOLANGCI_VERSION := v2.15.0
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/looptrace/golangci-lint-$(GOLANGCI_VERSION)

COLLECTOR_VERSION := v0.162.0
COLLECTOR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/looptrace/otel-collector-$(COLLECTOR_VERSION)
LOKI_VERSION := v3.7.8
LOKI := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/looptrace/loki-$(LOKI_VERSION)
OBJECTS_VERSION := v1.2.0
OBJECTS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/looptrace/objects-$(OBJECTS_VERSION)
VICTORIALOGS_VERSION := v1.52.1
VICTORIALOGS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/looptrace/victorialogs-$(VICTORIALOGS_VERSION)

export CGO_ENABLED = 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## trace a small scene on real sockets (root or sudo)
	$(SUDO) $(BINARY) demo

.PHONY: build
build: ## build build/looptrace
	$(GO) build $(GOFLAGS_BUILD) -o $(BINARY) ./cmd/looptrace

.PHONY: test
# -p 1: the tests of cmd trace the whole host, so another package's load would be theirs too.
test: ## run all tests: built as you are, run as root
	$(GO) test -count=1 -p 1 -timeout 20m $(TEST_EXEC) ./...

.PHONY: test-kernels
test-kernels: ## run the kernel tests on the kernels of .ci/kernels/list, emulated (KERNELS="amd64-6.1 …", RUN=PATTERN, UPDATE=1)
	RUN='$(RUN)' UPDATE='$(UPDATE)' .ci/kernels/run $(KERNELS)

.PHONY: test-hosts
test-hosts: ## what doctor says on hosts that lack something, emulated (UPDATE=1)
	UPDATE='$(UPDATE)' .ci/kernels/hosts/run

# The oldest, the newest and the other architecture. Of the tests, those that differ most between kernels.
.PHONY: test-kernels-some
test-kernels-some: ## a few kernel tests on three kernels, emulated
	RUN='^TestKernel(Story|UDP|Snapshot|PortsUsedUp|QueueFull|Verifier)$$' .ci/kernels/run amd64-5.10 amd64-7.x arm64-6.12

.PHONY: random
random: ## the randomized scene: 20 seeds of 20,000 operations, each record held against the truth
	$(GO) test -count=1 -timeout 12m $(TEST_EXEC) ./tracer -run TestKernelRandom -seeds 20 -ops 20000

.PHONY: test-collector
test-collector: build $(COLLECTOR) ## the OpenTelemetry Collector, killed five times during 100,000 connections (root or sudo)
	$(GO) test -c -o $(BUILD)/fleet.test ./.ci/fleet
	$(SUDO) $(BUILD)/fleet.test -test.v -test.run Collector -looptrace $(BINARY) -collector $(COLLECTOR)

.PHONY: test-fleet
test-fleet: build $(COLLECTOR) $(LOKI) $(OBJECTS) $(VICTORIALOGS) ## three hosts, the OpenTelemetry Collector, Loki, VictoriaLogs: what they answer is what happened (root or sudo; UPDATE=1 writes docs/fleet.md's figures)
	$(GO) test -c -o $(BUILD)/fleet.test ./.ci/fleet
	$(SUDO) $(BUILD)/fleet.test -test.v -test.run 'Fleet|VictoriaLogs|Sizing' -test.parallel 4 $(if $(UPDATE),-update) -looptrace $(BINARY) -collector $(COLLECTOR) -loki $(LOKI) -objects $(OBJECTS) -victorialogs $(VICTORIALOGS)

.PHONY: test-ls
test-ls: build ## looptrace ls against ss and lsof on the same 10,000 sockets: no difference without a reason (root or sudo)
	$(GO) build -o $(BUILD)/ls ./.ci/ls
	$(SUDO) $(BUILD)/ls $(BINARY)

.PHONY: test-manifests
test-manifests: build ## alert rules, dashboard and Kubernetes manifests: parsed, and the pod run by runc (root or sudo)
	cd .ci/manifests && $(GO) vet . && $(GO) test -c -o ../../$(BUILD)/manifests.test .
	cd .ci/manifests && $(SUDO) env CI=$(CI) ../../$(BUILD)/manifests.test -test.v -looptrace ../../$(BINARY) | grep -v '^ *\(=== \|--- PASS\)'

.PHONY: generate
generate: ## compile the kernel side, for both architectures (needs clang-14, llvm-14, libbpf-dev)
	$(GO) generate ./tracer

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## format Go and C
	$(TOOLS)/golangci-lint fmt
	clang-format-14 -i $(C_FILES)

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## vet, golangci-lint with gofumpt, clang-format, shellcheck
	$(GO) vet ./...
	$(TOOLS)/golangci-lint run
	clang-format-14 --dry-run --Werror $(C_FILES)
	$(GO) vet ./.ci/kernels/report ./.ci/kernels/least ./.ci/fleet ./.ci/ls ./.ci/bench ./.ci/flood
	shellcheck .ci/run .ci/bench/guests .ci/kernels/{run,boot,fetch,init,hosts/run,hosts/guest,hosts/talk}
	shellcheck packaging/build packaging/scripts/* packaging/test/{root,install,contents}

# TestKill is about what is in the store within a second: the detector makes the writer ten times as slow.
.PHONY: race
race: ## test the packages without a kernel under them with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -count=1 -skip '^TestKernel|^TestKill$$' $(PURE)

# They go beyond what this kind of machine can do untraced: there the load is as fast as it goes.
RATES := 2000,5000,10000,15000,20000,25000,30000,40000

# What is measured goes to docs/bench.json, and what is written of that to docs/bench.md and docs/bench.svg.
BENCH_PROGRAM := $(BUILD)/bench

.PHONY: bench
bench: build bench-build ## what tracing costs, beside each peer that is installed (BENCH="-load churn -rounds 1 -seconds 1")
	$(SUDO) $(BENCH_PROGRAM) $(BENCH) $(BINARY)

.PHONY: bench-offered
bench-offered: build bench-build ## throughput kept and losses at one rate and another, as a plot (RATES=2000,…)
	$(SUDO) $(BENCH_PROGRAM) -offered $(RATES) $(BENCH) $(BINARY)

.PHONY: bench-growth
bench-growth: build bench-build ## costs beside up to 100,000 connections and 10,000 processes (needs a C compiler)
	$(CC) -O1 -static -Wall -o $(BUILD)/crowd .ci/bench/crowd/crowd.c
	$(SUDO) $(BENCH_PROGRAM) -growth $(BENCH) $(BINARY)

.PHONY: bench-long
bench-long: build bench-build ## ten million connections: losses, and whether memory grows
	$(SUDO) $(BENCH_PROGRAM) -long 10000000 $(BENCH) $(BINARY)

.PHONY: bench-guests
bench-guests: bench-build ## what other kernels' programs do for a connection, emulated (KERNELS="amd64-6.1 …")
	BENCH_PROGRAM=$(BENCH_PROGRAM) .ci/bench/guests $(KERNELS)

.PHONY: bench-page
bench-page: bench-build ## write docs/bench.md and docs/bench.svg anew, of what was measured
	$(BENCH_PROGRAM) -page

.PHONY: bench-build
bench-build:
	$(GO) build -o $(BENCH_PROGRAM) ./.ci/bench

.PHONY: bench-ls
bench-ls: build ## how long looptrace ls, ss and lsof take for 50,000 sockets (BENCH="-sockets N -rounds N")
	$(GO) build -o $(BUILD)/ls ./.ci/ls
	$(SUDO) $(BUILD)/ls -bench $(BENCH) $(BINARY)

# 10 million records are 14 GB, and take some minutes to be made: STORE keeps them.
STORE ?= $(BUILD)/history-bench/history.db
.PHONY: bench-history
bench-history: build ## how long explain takes over a store of 10 million records (STORE=PATH, ROWS=N)
	$(GO) test -c -o $(BUILD)/history.test ./output/history
	$(SUDO) $(BUILD)/history.test -test.run '^TestBusyHost$$' -test.timeout 1h -rows $(or $(ROWS),10000000) -store $(STORE) -looptrace $(BINARY)

.PHONY: test-flood
test-flood: build ## what looptrace record keeps of a flood, held against what happened (FLOOD="-ports N -seconds N")
	$(GO) build -o $(BUILD)/flood ./.ci/flood
	$(SUDO) $(BUILD)/flood $(FLOOD) $(BINARY)

.PHONY: test-kill
test-kill: ## kill -9 the store's writer 50 times: nothing acknowledged is lost
	$(GO) test -count=1 -v ./output/history -run '^TestKill$$' -kills 50

.PHONY: microbench
microbench: ## run the Go benchmarks, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem $(TEST_EXEC) ./...

.PHONY: arch
arch: ## build for both architectures
	GOARCH=amd64 $(GO) build $(GOFLAGS_BUILD) -o $(BUILD)/looptrace-amd64 ./cmd/looptrace
	GOARCH=arm64 $(GO) build $(GOFLAGS_BUILD) -o $(BUILD)/looptrace-arm64 ./cmd/looptrace
	GOARCH=arm64 $(GO) vet ./...

.PHONY: fresh
fresh: generate bench-page ## fail if generated files are not what their sources make
	git diff --exit-code -- tracer docs/bench.md docs/bench.svg
	$(GO) mod tidy -diff

.PHONY: vagrant
vagrant: ## check the Vagrantfile
	home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; \
	VAGRANT_HOME=$$home VAGRANT_CHECKPOINT_DISABLE=1 vagrant validate --ignore-provider

.PHONY: check
check: fresh lint race arch vagrant test test-ls test-manifests test-collector test-fleet random test-kernels-some ## all that CI runs

.PHONY: man
man: build ## write build/looptrace.8
	$(BINARY) man >$(BUILD)/looptrace.8

# Under sudo what was built is installed: root often has no Go, and what root builds is root's for ever.
BUILD_FIRST := $(if $(and $(SUDO_UID),$(wildcard $(BINARY))),,build)

.PHONY: install
install: $(BUILD_FIRST) ## install the program, its man page and completions (PREFIX, DESTDIR)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/looptrace
	page=$$(mktemp); trap 'rm -f "$$page"' EXIT; \
	put() { install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/$$1"; }; \
	$(BINARY) man >"$$page"; put man/man8/looptrace.8; \
	$(BINARY) completion bash >"$$page"; put bash-completion/completions/looptrace; \
	$(BINARY) completion zsh >"$$page"; put zsh/site-functions/_looptrace; \
	$(BINARY) completion fish >"$$page"; put fish/vendor_completions.d/looptrace.fish

.PHONY: packages
packages: ## build/packages: deb, rpm, apk and archlinux for amd64 and arm64, and their SBOMs
	packaging/build '$(VERSION)'

# Built twice: the same commit has to give the same bytes.
.PHONY: test-packages
test-packages: packages ## what is in the packages; install, trace and remove the deb on a clean Debian (root)
	cd $(BUILD)/packages && sha256sum * >../packages.sha256
	packaging/build '$(VERSION)' >/dev/null
	cd $(BUILD)/packages && sha256sum --quiet --check ../packages.sha256
	packaging/test/contents
	$(SUDO) packaging/test/install

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD)

# Built once a version: it takes two minutes.
$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

# Built once a version: it takes a minute and a half.
$(COLLECTOR):
	cd .ci/fleet/collector && $(GO) build -ldflags '-s -w' -o $(COLLECTOR) .

# Built once a version: it takes seven minutes of one core.
$(LOKI):
	cd .ci/fleet/loki && $(GO) build -trimpath -ldflags '-s -w' -o $(LOKI) github.com/grafana/loki/v3/cmd/loki

$(OBJECTS):
	cd .ci/fleet/objects && $(GO) build -ldflags '-s -w' -o $(OBJECTS) .

$(VICTORIALOGS):
	cd .ci/fleet/victorialogs && $(GO) build -trimpath -ldflags '-s -w' -o $(VICTORIALOGS) github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs
