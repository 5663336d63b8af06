# What a change has to pass, and the tools for it. `make help` lists the targets.
# Needs bash and GNU make, which the BSDs call gmake.

SHELL := bash
GO ?= go
BIN := $(CURDIR)/bin

# .ci is not part of ./..., because its name begins with a dot.
PACKAGES := ./... ./.ci/skipcheck
# Modules of their own that hold Go code.
NESTED := $(patsubst %/go.mod,%,$(wildcard bench/go.mod))
# linux/386 stands for every platform where a 64-bit field may be aligned to 4 bytes.
PLATFORMS ?= darwin/amd64 darwin/arm64 freebsd/amd64 windows/amd64 linux/arm64 linux/386
# Time for each fuzz target, and which benchmarks to run.
FUZZTIME ?= 10s
BENCH ?= .
# How long the soak goes on.
SOAK ?= 10m

# With SKIPS=.ci/skips a skipped test that is not in that file fails the run, as in CI.
SKIPS ?=
ifneq ($(SKIPS),)
JSON := -json
FILTER := | $(GO) run ./.ci/skipcheck -allow $(SKIPS)
endif
# $(call test,FLAGS) tests every module.
test = set -o pipefail; { $(GO) test $(JSON) $(1) $(PACKAGES) \
	$(foreach module,$(NESTED),&& $(GO) -C $(module) test $(JSON) $(1) ./...); } $(FILTER)
# $(call each,COMMAND) runs a go command in every module.
each = $(GO) $(1) $(PACKAGES) $(foreach module,$(NESTED),&& $(GO) -C $(module) $(1) ./...)

# The tools are built once for each version of tools/go.mod and of Go.
TOOLS := $(BIN)/.tools-$(shell $(GO) env GOVERSION)

# Says when a part of the check began.
stamp = @printf '[%s] %s\n' "$$(date +%T)" $@

.PHONY: help check test race vet lint fmt fmt-check tidy-check cross test-386 fuzz bench bench-library soak notes build tools clean
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: fmt-check tidy-check vet lint cross race ## everything that a change has to pass

test: ## the tests
	@$(call test,)

race: ## the tests with the race detector, in random order
	$(stamp)
	@$(call test,-race -shuffle=on)

vet: ## go vet
	$(stamp)
	$(call each,vet)

lint: $(TOOLS) ## golangci-lint; on the other platforms its import order alone
	$(stamp)
	$(BIN)/golangci-lint run $(PACKAGES)
	@set -e; for module in $(NESTED); do (cd $$module && $(BIN)/golangci-lint run -c $(CURDIR)/.golangci.yml ./...); done
	@set -e; for os in darwin freebsd windows; do \
		GOOS=$$os CGO_ENABLED=0 $(BIN)/golangci-lint run --enable-only depguard ./...; done

fmt: $(TOOLS) ## format the Go code
	$(BIN)/gofumpt -w .

fmt-check: $(TOOLS)
	$(stamp)
	@files=$$($(BIN)/gofumpt -l .) || exit 1; \
	if [ -n "$$files" ]; then printf 'not formatted (make fmt does it):\n%s\n' "$$files"; exit 1; fi

tidy-check:
	$(stamp)
	$(GO) mod tidy -diff
	@set -e; for module in $(NESTED); do $(GO) -C $$module mod tidy -diff; done

cross: ## build and vet for the other platforms
	$(stamp)
	@set -e; export CGO_ENABLED=0; for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		echo "build and vet for $$platform"; \
		$(GO) build ./...; $(GO) vet ./...; done

test-386: ## run the tests as a 32-bit program (Linux on amd64)
	GOARCH=386 CGO_ENABLED=0 $(GO) test ./...

fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e -o pipefail; \
	grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file name; do \
		echo "$$(dirname $$file) $${name#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)" </dev/null; done

bench: ## compare with other servers and relays, into docs/BENCHMARKS.md (a quarter of an hour)
	$(GO) -C bench run ./cmd/compare -o ../docs/BENCHMARKS.md

bench-library: ## Conn against the libraries used bare; BENCH=regexp chooses
	$(GO) -C bench test -run '^$$' -bench '$(BENCH)' -timeout 60m ./...

soak: ## relays under verify while system calls fail, for SOAK (10m)
	$(GO) test ./internal/verify -run '^TestSoak$$' -count 1 -v -soak $(SOAK) -timeout 0

# Status 77 says that a privilege or a kernel feature is missing.
notes: ## run the kernel experiments under docs/notes
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) build -o "$$dir/" ./docs/notes/...; failed=0; \
	for program in "$$dir"/*; do \
		echo "== $${program##*/}"; status=0; "$$program" || status=$$?; \
		case $$status in 0) ;; 77) echo "skipped" ;; *) echo "failed: status $$status"; failed=1 ;; esac; \
	done; exit $$failed

build: ## build the command as bin/anysock, which needs no library of the system
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/anysock ./cmd/anysock

tools: $(TOOLS) ## build the pinned tools into bin/

$(TOOLS): tools/go.mod tools/go.sum
	@mkdir -p $(BIN) && rm -f $(BIN)/.tools-*
	$(GO) build -C tools -trimpath -o $(BIN)/ tool
	@touch $@

clean: ## remove what was built
	rm -rf $(BIN)
