# make build     the five commands, static, into bin/
# make test      everything that decides whether a change is good: formatting, vet, and
#                all tests under the race detector, and the sample of make e2e; installs
#                the Debian packages they need
# make deb       Debian packages of them for amd64 and arm64, into .cache/deb
# make demo      a real Debian, updated over A/B slots by the real agent (needs root)
# make e2e       virtual machines, updated for real: E2E="-all" for every case, and see
#                go run ./internal/e2e -h
# make debian    a real Debian from a package list to a machine that updates itself (needs
#                root for the images); DEBIAN="-write-log" looks at what power cuts would
#                leave of its update
# make bench     the figures of docs/BENCHMARKS.md
# make bench-delta PAIRS=esbuild,os12   deltas beside other tools; docs/bench-tables.md
# make fuzz      every fuzz target for FUZZTIME, two at a time; a part of make test
# make proof     random histories, planted bugs and crash states, and docs/PROOF.md of them
# make campaign  the long random runs: CHECKS histories of each property, EXECUTIONS of
#                fuzz targets. The histories, the longest of them, are make histories:
#                SITTING="-for 2h" ends them after two hours, and the next one goes on where
#                docs/campaign.json says that they ended; so do the cases of the virtual
#                machines, by docs/machines.json
GO       ?= go
FUZZTIME ?= 20s
EXECUTIONS ?= 20000000
CHECKS   ?= 5000
HISTORIES ?= 20000
COMMANDS := twinkeel twinkeeld twinkeel-shim twinkeel-server twinkeel-init
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: all build check lint test fuzz demo e2e images images-check apps quickstart deb debian bench bench-delta proof histories campaign clean
all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ $(COMMANDS:%=./cmd/%)

check:
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	cd packaging && $(GO) vet ./...

# The race detector needs a C compiler; nothing that is shipped does. Histories, a publisher
# that dies, and measures of deltas have one goroutine and nothing for it to look for: with it a
# sample of their faults is taken, or none, and the second run takes every one without it. Keys made
# from passphrases would take most of its time, so that it is not built into golang.org/x/crypto.
RACE  := -race -gcflags='golang.org/x/crypto/...=-race=false'
ALONE := PlantedBug|KilledAtAnyEffect|NoLargerThanFullImages|AlignedWithWhatTheyComeFrom|MemoryFollowsTheChange
test:
	.ci/install test
	.ci/install e2e
	$(MAKE) --no-print-directory check
	CGO_ENABLED=1 $(GO) test $(RACE) -timeout 40m -skip '$(ALONE)' ./...
	CGO_ENABLED=0 $(GO) test -timeout 40m ./agent ./deltas/diff ./internal/sim/... ./server
	.ci/install deb
	cd packaging && CGO_ENABLED=0 $(GO) test -timeout 10m ./...
	.ci/fuzz $(FUZZTIME)
	$(MAKE) --no-print-directory e2e E2E="-prefixes 3 -torn 2"

# staticcheck is run at a fixed version without being a dependency.
lint: check
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

fuzz:
	@.ci/fuzz $(FUZZTIME)

deb:
	cd packaging && $(GO) run . -out ../.cache/deb

debian: build deb
	@.ci/install demo
	@.ci/install e2e
	examples/debian/build.sh .cache/debian
	$(GO) run ./examples/debian -bin bin $(DEBIAN)

demo: build images
	$(GO) run ./examples/demo -bin bin -images .cache/demo/current -work .cache/demo/run

images:
	@.ci/install demo
	@echo "Debian images:"
	@mkdir -p .cache/demo && examples/demo/images.sh .cache/demo

apps:
	@.ci/install test
	@mkdir -p .cache && examples/apps/layouts.sh .cache/apps

images-check: images
	@examples/demo/images.sh --check .cache/demo

quickstart: build
	$(GO) run ./examples/quickstart -bin bin

e2e:
	@.ci/install e2e
	CGO_ENABLED=0 $(GO) run ./internal/e2e $(E2E)

bench: build
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./...

bench-delta: build
	@.ci/install bench
	$(GO) run ./internal/bench -bin bin -corpus .cache/bench -pairs '$(PAIRS)'

proof:
	CGO_ENABLED=0 $(GO) run ./internal/proof -histories $(HISTORIES) $(PROOF)

# A profile of a few histories makes the many that follow a fifth cheaper.
histories:
	@mkdir -p .cache
	cd internal/sim/histories && CGO_ENABLED=0 $(GO) test -run 'TestHunt$$' -count=1 -o ../../../.cache/histories.test -cpuprofile ../../../.cache/histories.pgo . -sim.hunt 2000
	CGO_ENABLED=0 $(GO) build -trimpath -pgo .cache/histories.pgo -o .cache/proof ./internal/proof
	.cache/proof -live -histories 2000000 -seed 1000000 $(SITTING)

# The layouts of applications and the tools of other file systems, without which tests are skipped.
campaign: histories
	$(MAKE) --no-print-directory apps
	$(MAKE) --no-print-directory proof PROOF="-states 1000 -all-file-systems -two-cuts"
	CGO_ENABLED=1 TWINKEEL_LONG=1 $(GO) test $(RACE) -count=1 -timeout 6h ./...
	CGO_ENABLED=1 $(GO) test -count=1 -timeout 6h \
		$$(git grep -lE '^[[:space:]]+"pgregory.net/rapid"$$' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,') -rapid.checks=$(CHECKS)
	.ci/fuzz 2m $(EXECUTIONS) docs/FUZZ.md
	.ci/install e2e-full
	$(MAKE) --no-print-directory e2e E2E="-all -cuts 300 -prefixes 1000000 -torn 60 -seed 4242 -progress docs/machines.json $(SITTING)"
	$(MAKE) --no-print-directory debian DEBIAN=-write-log

clean:
	rm -rf bin .cache
