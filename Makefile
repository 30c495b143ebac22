# The front door. `make` lists what it can do; Meson does the building (meson.build).
# Every build has its own folder under build/; build/maitred is the release.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON := /usr/bin/python3
FUZZ_SECONDS ?= 60
SIM_MINUTES ?= 60

# The thread sanitizer cannot place its shadow where the kernel randomises more than it expects.
no_aslr := $(shell setarch -R true 2>/dev/null && echo "setarch -R")
NO_ASLR := $(if $(no_aslr),--wrapper='$(no_aslr)')

sources = $$(find src tests fuzz bench -name '*.[ch]' 2>/dev/null)
say = @printf '\n== %s\n'
pytest = $(PYTHON) -B -m pytest -q --tb=short -p no:cacheprovider
# They mostly wait, for a client, a server or a deadline: several at a time, a file each.
amqp = -n 4 --dist loadfile tests/system/test_amqp_*.py tests/system/test_management.py
# A browser's tests are about the page; under a sanitizer they would only be slow.
not_sanitized = --ignore=tests/system/test_dashboard.py
# What those of the tour and the demo check takes its time on a machine of two cores: by themselves, and as released.
stories = tests/system/test_tour.py tests/system/test_demo.py
alone = -n 2 --dist loadfile $(stories)
# These wait most of all, for what lasts some seconds before it is called a bottleneck, or for workers to come and go: a test each.
patient = -n 10 tests/system/test_bottleneck_*.py tests/system/test_workers*.py
# ...and while they wait, those of AMQP have the machine.
patient_and_amqp = \
	$(pytest) $(patient) >build/patient.log 2>&1 & patient=$$!; \
	$(pytest) $(amqp) && status=0 || status=$$?; \
	wait $$patient || status=$$?; \
	cat build/patient.log; exit $$status
others = -n 3 --dist loadfile tests/system --ignore-glob='*/test_amqp_*' --ignore=tests/system/test_management.py \
	--ignore-glob='*/test_bottleneck_*' --ignore-glob='*/test_workers*' $(stories:%=--ignore=%)

.PHONY: help run build test bench deb fuzz mutate sim reference format clean
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## installs what is missing, builds, and shows the thing working (examples/diner)
	@tools/setup run
	@$(MAKE) --no-print-directory build
	@exec build/maitred demo

build: build/release/build.ninja ## builds build/maitred
	@ninja -C build/release maitred
	@ln -sfn release/maitred build/maitred

test: ## installs what is missing and runs every check and test (about 25 minutes on 2 cores)
	@tools/setup test
	@$(MAKE) --no-print-directory check-includes check-sources check-format check-reference test-tools \
		test-release test-asan test-tsan test-system test-system-asan test-system-tsan check-tidy check-aarch64
	$(say) "everything passed"

bench: ## measures against nginx, HAProxy, RabbitMQ and Redis on this machine
	@tools/setup bench
	@$(MAKE) --no-print-directory build
	@ninja -C build/release
	@exec bench/run --out docs/benchmarks.md

deb: ## builds the Debian package: build/maitred_VERSION_ARCH.deb
	@tools/deb

fuzz: ## runs each fuzz harness for FUZZ_SECONDS (60); findings go to build/fuzz/
	@tools/setup test
	@$(MAKE) --no-print-directory build/asan/build.ninja
	@ninja -C build/asan
	@find build/asan/fuzz -maxdepth 1 -type f -name 'fuzz_*' -executable | sort | while read -r harness; do \
		name=$${harness##*/fuzz_}; dictionary=fuzz/$$name.dict; \
		printf '\n== fuzz %s for %s s\n' "$$name" "$(FUZZ_SECONDS)"; \
		mkdir -p "build/fuzz/$$name"; \
		"$$harness" -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix="build/fuzz/$$name-" \
			$$([ ! -e "$$dictionary" ] || echo "-dict=$$dictionary") "build/fuzz/$$name" "fuzz/corpus/$$name"; \
	done

mutate: build/asan/build.ninja ## runs mutated AMQP conversations against the sanitized binary for FUZZ_SECONDS (60), from a new seed
	@ninja -C build/asan maitred
	@MAITRED_BINARY=$(CURDIR)/build/asan/maitred $(PYTHON) -B fuzz/mutate_amqp.py --seconds $(FUZZ_SECONDS)

sim: build/release/build.ninja ## runs the simulators of the log, the broker and the autoscaler for SIM_MINUTES (60), from new seeds on
	@ninja -C build/release tests/sim/log_sim tests/sim/broker_sim tests/sim/scale_sim
	@from=$$(date +%s)000000; while [ "$$SECONDS" -lt $$((60 * $(SIM_MINUTES))) ]; do \
		build/release/tests/sim/broker_sim --from "$$from" --seeds 50000; \
		build/release/tests/sim/log_sim --from "$$from" --seeds 50000; \
		build/release/tests/sim/scale_sim --from "$$from" --seeds 5000; \
		from=$$((from + 50000)); \
	done

reference: build ## writes docs/reference.md from the tables of options
	@build/maitred reference >docs/reference.md

format: ## lays out every C file with clang-format
	@clang-format -i $(sources)

clean: ## removes build/
	rm -rf build

# --- the builds ---------------------------------------------------------------------------------

build/release/build.ninja:
	@CC=gcc meson setup build/release -Dbench=true

build/asan/build.ninja:
	@CC=clang meson setup build/asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dfuzz=true \
		-Dtests=enabled

build/tsan/build.ninja:
	@CC=clang meson setup build/tsan -Db_sanitize=thread -Db_lundef=false -Doptimization=1 -Dtests=enabled

build/aarch64/build.ninja:
	@meson setup build/aarch64 --cross-file tools/aarch64.ini -Dtests=disabled \
		-Dc_args="-idirafter /usr/include/$$(gcc -print-multiarch)"

# --- the steps of `make test`, each also by its own name -----------------------------------------

.PHONY: check-includes check-sources check-format check-tidy check-aarch64
check-includes: ## includes point down a floor only
	$(say) "includes point down a floor only"
	@tools/check-includes

check-sources: ## every source and test is in a meson.build
	$(say) "every source and test is in a meson.build"
	@tools/check-sources

check-format: ## layout is what clang-format makes of it
	$(say) "layout is what clang-format makes of it"
	@clang-format --dry-run -Werror $(sources)

check-tidy: build/tsan/build.ninja ## clang-tidy finds nothing in src/
	$(say) "clang-tidy finds nothing in src/"
	@run-clang-tidy -quiet -p build/tsan "^$(CURDIR)/src/" >build/tidy.log 2>&1 || { cat build/tidy.log; exit 1; }

check-aarch64: build/aarch64/build.ninja ## everything compiles for aarch64 (it is not linked)
	$(say) "everything compiles for aarch64"
	@ninja --quiet -C build/aarch64 src/libmaitred_core.a maitred.p/src_main.c.o

.PHONY: check-reference
check-reference: build ## docs/reference.md is what the tables say
	$(say) "docs/reference.md is what the tables say"
	@build/maitred reference | diff -u docs/reference.md - || { echo "run \`make reference\`"; exit 1; }

.PHONY: test-tools test-release test-asan test-tsan test-system test-system-asan test-system-tsan
test-tools: ## tests of the scripts in tools/
	$(say) "tests of the scripts in tools/"
	@$(pytest) tests/tools

test-release: build ## unit tests and simulators: gcc, release
	$(say) "unit tests and simulators: gcc, release"
	@grep -q tests/unit/test_ build/release/build.ninja || meson configure build/release -Dtests=enabled
	@ninja --quiet -C build/release
	@meson test -C build/release --no-rebuild --print-errorlogs

test-asan: build/asan/build.ninja ## unit tests and fuzz corpora: clang, address and undefined sanitizers
	$(say) "unit tests and fuzz corpora: clang, address and undefined sanitizers"
	@ninja --quiet -C build/asan
	@meson test -C build/asan --no-rebuild --print-errorlogs

test-tsan: build/tsan/build.ninja ## unit tests of suite threads: clang, thread sanitizer
	$(say) "unit tests of suite threads: clang, thread sanitizer"
	@ninja --quiet -C build/tsan
	@meson test -C build/tsan --no-rebuild --print-errorlogs --suite threads $(NO_ASLR)

test-system: build ## system tests: the release binary
	$(say) "system tests: the release binary"
	@MAITRED_BINARY=$(CURDIR)/build/release/maitred $(pytest) $(others)
	@export MAITRED_BINARY=$(CURDIR)/build/release/maitred; $(patient_and_amqp)
	@MAITRED_BINARY=$(CURDIR)/build/release/maitred $(pytest) $(alone)

test-system-asan: build/asan/build.ninja ## system tests: the address and undefined sanitizers
	$(say) "system tests: the address and undefined sanitizers"
	@ninja --quiet -C build/asan
	@MAITRED_BINARY=$(CURDIR)/build/asan/maitred $(pytest) $(others) $(not_sanitized)
	@export MAITRED_BINARY=$(CURDIR)/build/asan/maitred; $(patient_and_amqp)

test-system-tsan: build/tsan/build.ninja ## system tests of several threads: the thread sanitizer
	$(say) "system tests of several threads: the thread sanitizer"
	@ninja --quiet -C build/tsan
	@MAITRED_BINARY=$(CURDIR)/build/tsan/maitred $(no_aslr) $(pytest) -n 3 --dist loadfile \
		tests/system/test_threads.py tests/system/test_admin_requests.py tests/system/test_tcp.py tests/system/test_reload.py tests/system/test_reload_under_load.py \
		tests/system/test_enqueue.py tests/system/test_push.py tests/system/test_queues_by_hand.py tests/system/test_durability.py \
		tests/system/test_amqp_many.py tests/system/test_amqp_consume.py tests/system/test_amqp_publish.py \
		tests/system/test_amqp_reload.py tests/system/test_amqp_and_http.py tests/system/test_amqp_bodies.py tests/system/test_workers.py \
		tests/system/test_workers_http.py
