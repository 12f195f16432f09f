# SPDX-License-Identifier: GPL-2.0-or-later
#
# What can be done here; `make` alone lists it. Only Go, git and make are assumed on a Debian system; whatever else a
# target needs it installs by itself when run as root (.ci/need), and says so.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DESTDIR   ?=
PREFIX    ?= /usr/local
TESTFLAGS ?=
FUZZTIME  ?= 20s

PROGRAMS := ddtb ddtbctl tspc tspbench
LDFLAGS  := -s -w -X main.version=$(VERSION)

# Commands the tests, the demo and the benchmarks run beside our own, with the Debian package of each.
TOOLS := ip:iproute2 nft:nftables ping:iputils-ping ethtool:ethtool
BENCHTOOLS := $(TOOLS) iperf3:iperf3

LINTER_VERSION := v2.15.0
LINTER := bin/golangci-lint-$(LINTER_VERSION)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: PREFIX DESTDIR TESTFLAGS FUZZTIME VERSION GO'

.PHONY: build
build: need-go ## build the programs into bin/ (static, reproducible)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: test
test: need-go ## run all tests; those in network namespaces only as root
	@if [ "$$(id -u)" -eq 0 ]; then .ci/need $(TOOLS); \
	elif [ -n "$$CI" ]; then echo 'make test: CI must run as root, for the tests in network namespaces' >&2; exit 1; \
	else echo 'make test: not root: tests named TestRoot... are skipped; run them with: sudo make test-root'; fi
	$(GO) test -count=1 -timeout=20m $(TESTFLAGS) ./...

.PHONY: test-root
test-root: need-go need-root ## run only the tests in network namespaces
	@.ci/need $(TOOLS)
	$(GO) test -count=1 -timeout=20m -run='^TestRoot' $(TESTFLAGS) ./...

.PHONY: demo
demo: need-go need-root ## show the whole system at work in a small Internet of namespaces
	@.ci/need $(TOOLS)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 $(GO) build -o bin/demo ./cmd/ddtb/e2e/demo
	@bin/demo -bin bin

.PHONY: bench
bench: need-go need-root ## measure everything: a table, and lines "result NAME VALUE UNIT"
	@.ci/need $(BENCHTOOLS)
	@$(MAKE) --no-print-directory build
	bin/tspbench all

.PHONY: bench-quick
bench-quick: need-go need-root ## the core of bench, in under 45 seconds
	@.ci/need $(BENCHTOOLS)
	@$(MAKE) --no-print-directory build
	bin/tspbench quick

.PHONY: fuzz
fuzz: need-go ## run every fuzz target for FUZZTIME
	GO='$(GO)' .ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: need-go $(LINTER) ## gofmt, vet, golangci-lint, shellcheck
	@.ci/need shellcheck:shellcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-clean:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	$(LINTER) run
	shellcheck $$(git ls-files | xargs grep -lE '^#!.*\b(sh|bash)$$')

$(LINTER): | need-go
	@echo 'building golangci-lint $(LINTER_VERSION) (once; takes minutes)'
	@mkdir -p bin/.lint
	CGO_ENABLED=0 GOBIN=$(CURDIR)/bin/.lint GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER_VERSION)
	mv bin/.lint/golangci-lint $@
	rmdir bin/.lint

.PHONY: generate
generate: need-go ## remake the generated files (eBPF objects); they are committed, so building needs no clang
	@.ci/need clang-14:clang-14 llvm-strip-14:llvm-14 /usr/include/bpf/bpf_helpers.h:libbpf-dev /usr/include/linux/bpf.h:linux-libc-dev
	$(GO) generate ./...

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin dist

.PHONY: need-go
need-go:
	@command -v $(GO) >/dev/null || { echo '$(GO) not found: install Go (https://go.dev/dl/), any version from 1.21 fetches the right one by itself' >&2; exit 1; }

.PHONY: need-root
need-root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'this needs root, for network namespaces and eBPF: run it in a root shell' >&2; exit 1; }
