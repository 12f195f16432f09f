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
TESTTOOLS := $(TOOLS) freeradius:freeradius radclient:freeradius-utils slapd:slapd ldapadd:ldap-utils redis-server:redis-server redis-cli:redis-tools \
	bird:bird2 /usr/lib/frr/zebra:frr
BENCHTOOLS := $(TOOLS) iperf3:iperf3 redis-server:redis-server freeradius:freeradius radclient:freeradius-utils slapd:slapd ldapadd:ldap-utils

VMTOOLS := $(TOOLS) gcc:gcc /usr/include/stdio.h:libc6-dev qemu-system-x86_64:qemu-system-x86 /bin/busybox:busybox-static cpio:cpio depmod:kmod xz:xz-utils gcc-12:gcc-12 tc:iproute2 flock:util-linux redis-server:redis-server

# What builds modules and kernels (kmod/scripts/kernels).
KMODTOOLS := gcc-12:gcc-12 /usr/include/stdio.h:libc6-dev sparse:sparse flex:flex bison:bison bc:bc xz:xz-utils modinfo:kmod pahole:pahole perl:perl \
	/usr/include/libelf.h:libelf-dev /usr/include/openssl/ssl.h:libssl-dev

LINTER_VERSION := v2.15.0
LINTER := bin/golangci-lint-$(LINTER_VERSION)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: PREFIX DESTDIR TESTFLAGS FUZZTIME VERSION GO KERNELS TEST RUN TIMEOUT'

.PHONY: build
build: need-go ## build the programs into bin/ (static, reproducible)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: test
test: need-go ## run all tests; those in network namespaces only as root
	@if [ "$$(id -u)" -eq 0 ]; then .ci/need $(TESTTOOLS); \
	elif [ -n "$$CI" ]; then echo 'make test: CI must run as root, for the tests in network namespaces' >&2; exit 1; \
	else echo 'make test: not root: tests named TestRoot... are skipped; run them with: sudo make test-root'; fi
	$(GO) test -count=1 -timeout=20m $(TESTFLAGS) ./...

.PHONY: test-root
test-root: need-go need-root ## run only the tests in network namespaces
	@.ci/need $(TESTTOOLS)
	$(GO) test -count=1 -timeout=20m -run='^TestRoot' $(TESTFLAGS) ./...

.PHONY: test-vm
test-vm: need-go ## test the kernel module, the driver and the whole system in QEMU (KERNELS TEST RUN TIMEOUT)
	@.ci/need $(VMTOOLS)
	GO='$(GO)' TEST='$(TEST)' RUN='$(value RUN)' TIMEOUT='$(TIMEOUT)' kmod/tests/vm/run $(KERNELS)

.PHONY: test-vm-install
test-vm-install: need-go ## install all on a Debian 12 with systemd and DKMS in QEMU, as the READMEs say, and use it (TIMEOUT)
	@.ci/need $(VMTOOLS) debootstrap:debootstrap mke2fs:e2fsprogs
	TIMEOUT='$(TIMEOUT)' kmod/tests/system/run

.PHONY: kmod
kmod: ## build the kernel module, for the running kernel or KDIR
	$(MAKE) -C kmod $(if $(KDIR),KDIR='$(KDIR)') modules

.PHONY: kmod-check
kmod-check: ## build the module for Debian's 6.1 and 6.12 without a warning (W=1, sparse), checkpatch --strict
	@.ci/need $(KMODTOOLS)
	kmod/scripts/check

.PHONY: test-uml
test-uml: ## run the module's KUnit tests and its own scripts in User-Mode Linux (the first time builds that: half an hour)
	@.ci/need $(KMODTOOLS) $(TOOLS)
	for script in kmod/tests/kunit/run kmod/tests/*.sh; do echo "=== $$script"; kmod/scripts/uml $$script || exit; done

.PHONY: test-vm-debug
test-vm-debug: need-go ## the same, KUnit and a torture under a kernel with KASAN, lockdep, kmemleak... (the first time builds that: an hour)
	@.ci/need $(VMTOOLS) $(KMODTOOLS)
	GO='$(GO)' TEST='$(TEST)' RUN='$(value RUN)' TIMEOUT='$(or $(TIMEOUT),14400)' kmod/tests/vm/run debug

.PHONY: demo
demo: need-go need-root ## show the whole system at work in a small Internet of namespaces
	@.ci/need $(TOOLS)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 $(GO) build -o bin/demo ./cmd/ddtb/e2e/demo
	@bin/demo -bin bin

.PHONY: lab
lab: need-go need-root ## the same with an ISP: RADIUS, LDAP, Redis, BIRD, two tunnel servers, and what happens when one of them dies
	@.ci/need $(TESTTOOLS)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 $(GO) build -o bin/demo ./cmd/ddtb/e2e/demo
	@bin/demo -play lab -bin bin

.PHONY: bench
bench: need-go need-root ## measure everything: a table, and lines "result NAME VALUE UNIT"
	@.ci/need $(BENCHTOOLS)
	@$(MAKE) --no-print-directory build
	bin/tspbench all

.PHONY: bench-quick
bench-quick: need-go need-root ## the core of bench, in under 45 seconds
	@.ci/need $(BENCHTOOLS)
	@$(MAKE) --no-print-directory build
	bin/tspbench all --quick

.PHONY: bench-vm
bench-vm: ## measure the kernel module in QEMU, by instructions, the same on any host: ten minutes (KERNELS TEST TIMEOUT)
	@.ci/need $(VMTOOLS) wg:wireguard-tools
	@TEST='$(TEST)' TIMEOUT='$(TIMEOUT)' kmod/tests/bench/run $(KERNELS)

.PHONY: fuzz
fuzz: need-go ## run every fuzz target for FUZZTIME
	GO='$(GO)' .ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: need-go $(LINTER) ## gofmt, vet, golangci-lint, shellcheck
	@.ci/need shellcheck:shellcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-clean:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	$(LINTER) run
	shellcheck -x -P SCRIPTDIR $$(git ls-files | xargs grep -lE '^#!.*\b(sh|bash)$$')

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

SBIN     = $(DESTDIR)$(PREFIX)/sbin
UNITS    = $(DESTDIR)$(PREFIX)/lib/systemd/system
MAN      = $(DESTDIR)$(PREFIX)/share/man
EXAMPLES = $(DESTDIR)$(PREFIX)/share/doc/ddtb
BASH     = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH      = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH     = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
ETC      = $(DESTDIR)/etc

.PHONY: install
install: build ## install programs, units, manual, completions below DESTDIR/PREFIX; a configuration only if there is none
	install -d $(SBIN) $(UNITS) $(MAN)/man5 $(MAN)/man8 $(EXAMPLES) $(BASH) $(ZSH) $(FISH) $(ETC)/ddtb $(ETC)/tspc
	install -m 755 $(PROGRAMS:%=bin/%) $(SBIN)
	install -m 644 contrib/man/*.5 $(MAN)/man5
	install -m 644 contrib/man/*.8 $(MAN)/man8
	for unit in contrib/systemd/*.service; do \
		sed 's#/usr/local/#$(PREFIX)/#g' $$unit >$(UNITS)/$${unit##*/} && chmod 644 $(UNITS)/$${unit##*/} || exit; done
	install -m 644 CHANGELOG.md LICENSE contrib/*/*.toml contrib/bird/* contrib/frr/* contrib/grafana/* contrib/iproute2/* contrib/nftables/* contrib/prometheus/* contrib/sysctl/* $(EXAMPLES)
	for program in $(PROGRAMS); do \
		bin/$$program completion bash >$(BASH)/$$program && \
		bin/$$program completion zsh >$(ZSH)/_$$program && \
		bin/$$program completion fish >$(FISH)/$$program.fish || exit; done
	[ -e $(ETC)/ddtb/ddtb.toml ] || install -m 640 contrib/ddtb/ddtb.toml $(ETC)/ddtb
	[ -e $(ETC)/tspc/tspc.toml ] || install -m 600 contrib/tspc/tspc.toml $(ETC)/tspc

.PHONY: uninstall
uninstall: ## remove what install put there, but for configuration and state
	rm -f $(PROGRAMS:%=$(SBIN)/%) $(PROGRAMS:%=$(BASH)/%) $(PROGRAMS:%=$(ZSH)/_%) $(PROGRAMS:%=$(FISH)/%.fish)
	rm -f $(patsubst contrib/systemd/%,$(UNITS)/%,$(wildcard contrib/systemd/*.service))
	rm -f $(patsubst contrib/man/%,$(MAN)/man5/%,$(wildcard contrib/man/*.5)) $(patsubst contrib/man/%,$(MAN)/man8/%,$(wildcard contrib/man/*.8))
	rm -rf $(EXAMPLES)
	@echo 'left: $(ETC)/ddtb, $(ETC)/tspc and what ddtb keeps in /var/lib/ddtb; tunnels in the kernel end with "ddtb remove"'

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin dist

.PHONY: need-go
need-go:
	@command -v $(GO) >/dev/null || { echo '$(GO) not found: install Go (https://go.dev/dl/), any version from 1.21 fetches the right one by itself' >&2; exit 1; }

.PHONY: need-root
need-root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'this needs root, for network namespaces and eBPF: run it in a root shell' >&2; exit 1; }
