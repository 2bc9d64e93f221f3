# Two commands on a fresh machine: `make run` serves, `make test` passes.

GO            ?= go
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NATS_SERVER   := github.com/nats-io/nats-server/v2@v2.15.2
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT     := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
COMMIT        ?= $(shell git rev-parse HEAD 2>/dev/null)
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME      ?= 30s
IMAGE         ?= stayafrica-messaging
BUILDER_IMAGE ?= docker.io/library/golang:1.26

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: build run test test-fast test-python demo race lint words licenses fmt fuzz bench bench-quick bench-comparisons bench-peers bench-compare bench-go bench-build bench-deps profile torture faults docker clean help test-deps

build: ## build bin/messaging
	$(GO) build -trimpath -ldflags '-s -w -X main.release=$(VERSION) -X main.commit=$(COMMIT)' -o bin/messaging ./cmd/messaging

run: build ## build, and serve on port 8765 with ./data
	@if bin/messaging config 2>/dev/null | grep -Eq '^DJANGO_API_URL .* default *$$'; then \
		echo "No Django given, so nothing is drained: DJANGO_API_URL=off (set DJANGO_API_URL to drain into one)"; \
		export DJANGO_API_URL=off; \
	fi; \
	exec bin/messaging serve

# The fault injection tests run alone, because they load the whole machine.
test: test-deps ## run all tests, including the end-to-end test with a real Django and the fault injection
	MESSAGING_TEST_PYTHON="$$(sh testdata/python.sh)" $(GO) test -count=1 -timeout 30m $$($(GO) list ./... | grep -v /bench/faultinjection)
	MESSAGING_TEST_TLS=1 $(GO) test -count=1 -timeout 30m ./http # the contract again, over TLS
	$(GO) test -count=1 -timeout 30m ./bench/faultinjection
	$(MAKE) --no-print-directory test-python

test-fast: ## run the tests that are quick, in 90 seconds: no rigs, no Django, no started program
	$(GO) test -timeout 5m -skip '^TestRig' $$($(GO) list ./... | grep -Ev '/(bench|cmd)(/|$$)')

test-python: build ## run the tests of the Python package, against the service, a browser and PostgreSQL
	@python="$$(sh testdata/pythontests.sh)" && MESSAGING_TEST_BINARY="$(CURDIR)/bin/messaging" sh testdata/testpython.sh "$$python"

demo: build ## the example project with the service: two who chat, and the admin, until Ctrl-C
	@python="$$(sh testdata/pythontests.sh)" && exec "$$python" python/example/demo.py --program bin/messaging

race: test-deps ## run all tests with the race detector
	MESSAGING_TEST_PYTHON="$$(sh testdata/python.sh)" CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 40m ./...

test-deps: ## bring what the tests need: Python with Django REST framework, tools to make disks with
	@sh testdata/python.sh >/dev/null
	@sh testdata/disks.sh

lint: words ## run the linter, the import arrows among its rules, find retired words and known vulnerabilities, and check the types of the Python package
	$(GO) run $(GOLANGCI_LINT) run ./...
	@GO="$(GO)" sh testdata/vulnerabilities.sh $(GOVULNCHECK)
	@python="$$(sh testdata/pythontests.sh)" && cd python && { "$$python" -c 'import mypy' 2>/dev/null || { echo "mypy is not installed: types are not checked"; exit 0; } && \
	"$$python" -m mypy; }

words: ## fail where a retired name or phrase is left (testdata/words.txt)
	@sh testdata/words.sh

licenses: ## write LICENSES/, the licenses of what is linked into the program
	@GO="$(GO)" sh testdata/licenses.sh

fmt: ## format the code
	$(GO) run $(GOLANGCI_LINT) fmt ./...

fuzz: ## fuzz each decoder for FUZZTIME (30s)
	@for target in $$(grep -rhoE '^func Fuzz[A-Za-z]+' --include='*_test.go' . | cut -c6- | sort -u); do \
		dir=$$(dirname $$(grep -rlE "^func $$target\(" --include='*_test.go' .)); \
		echo "== $$target in $$dir"; \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
	done

bench: bench-build ## measure the service against baselines: tables, an HTML report and raw results in bench/results (20 minutes)
	$(GO) run ./bench/suite

bench-quick: bench-build ## the same in two minutes
	$(GO) run ./bench/suite -quick

bench-comparisons: bench-build bench-deps ## compare the service with Redis, NATS, beanstalkd, PostgreSQL and RabbitMQ (40 minutes)
	$(GO) run ./bench/suite -comparisons

bench-peers: bench-comparisons # the old name

bench-compare: bench-build ## compare with another revision, BASE=<rev>; fails if this one is slower in every round
	BASE="$(BASE)" BENCHSTAT="$(GO) run $(BENCHSTAT)" sh bench/compare.sh

bench-go: ## run the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-build: build
	@sh testdata/wrk.sh
	$(GO) build -o bin/empty ./bench/empty

profile: ## profile the processor time of the service under load: a pprof file and a list (docs/explanation/performance.md)
	GO="$(GO)" sh bench/profile.sh

bench-deps: ## install the servers that the service is compared with: bin/nats-server, Debian packages of the others
	GOBIN=$(CURDIR)/bin $(GO) install $(NATS_SERVER)
	@sh testdata/peers.sh

torture: test-deps ## run one fault injection rig for many rounds: RIG=<name> ROUNDS=<n> SEED=<s> (docs/explanation/reliability.md)
	@files=$$(grep -rliE '^func TestRig$(RIG)\(' --include='*_test.go' .); \
	if [ -z "$(RIG)" ] || [ -z "$$files" ]; then \
		echo "RIG must be one of:" $$(grep -rhoE '^func TestRig[A-Za-z]+' --include='*_test.go' . | sed 's/.*TestRig//' | grep -v Catches | tr A-Z a-z | sort); \
		exit 2; \
	fi; \
	MESSAGING_TEST_PYTHON="$$(sh testdata/python.sh)" TORTURE_ROUNDS=$(or $(ROUNDS),1000) TORTURE_SEED=$(SEED) \
		$(GO) test -count=1 -v -timeout 0 -run "(?i)^TestRig$(RIG)$$" $$(dirname $$files)

faults: ## run the tests of faults that users saw on another revision, where each fails, and on this tree: BASE=<rev>
	$(GO) run ./bench/faults/compare -base "$(BASE)" $(if $(RUN),-run "$(RUN)")

docker: ## build the container image
	docker build --build-arg BUILDER_IMAGE=$(BUILDER_IMAGE) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t $(IMAGE) .

clean: ## remove what was built (not ./data)
	rm -rf bin .venv

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'
