# expcache: everything one does with the repository. `make help` prints the comments behind `##`.
#
# Another server than the distribution's redis-server:   make run SERVER=/path/to/valkey-server
# (or EXPCACHE_SERVER in the environment; the tests and the benchmarks take it from there too)

SHELL   := /bin/bash
CARGO   ?= cargo
PYTHON  ?= python3
PREFIX  ?= /usr/local
SERVER  ?= $(or $(EXPCACHE_SERVER),redis-server)
TARGET  := $(abspath $(or $(CARGO_TARGET_DIR),target))
MODULE  := $(TARGET)/release/libexpcache.so
SERVERS := $(TARGET)/servers
# The matrix tries all on these; on those between, the module, but for what is long and depends on the server least.
NEWEST  := redis-8.6|valkey-9.1
LONG    := leak:: model:: race:: bombs:: rules::readers
# What `make top` looks at, and how often.
URL      ?= redis://127.0.0.1:6379
INTERVAL ?= 1s
# How often `make soak` runs the tests.
ROUNDS   ?= 10
# How long `make fuzz` goes on with each subject.
FUZZ     ?= 900
# How much `make check-client` reads, and after how long all must have heard of an invalidation.
READS    ?= 1000000
LAG_MS   ?= 100

export EXPCACHE_SERVER := $(SERVER)
export EXPCACHE_MODULE ?= $(MODULE)
# most of what a test does is to wait
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
# a shell that was open when rustup ran does not know cargo yet
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps build run demo top picture test soak fuzz check-client advise lint bench attack matrix install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing to build and run (Debian, Ubuntu; elsewhere it says what)
	@contrib/deps '$(SERVER)'

build: ## build the module: target/release/libexpcache.so
	@echo "build: cargo build --release"
	@$(CARGO) build --release
	@echo "build: $(MODULE)"

run: deps build ## start a server with the module on a free port, tell the story, stay up until Ctrl-C
	@$(PYTHON) demo/demo.py --serve

demo: deps build ## the same story, without staying up
	@$(PYTHON) demo/demo.py

top: ## watch a server, live: make top URL=redis://host:port INTERVAL=2s
	@$(CARGO) run --release --quiet --package expcache-top -- --url '$(URL)' --interval '$(INTERVAL)'

picture: deps build ## take the README's picture of `make top` anew: docs/top.svg
	@$(CARGO) build --release --package expcache-top
	@$(PYTHON) demo/traffic.py --picture $(TARGET)/release/expcache-top >docs/top.svg.new
	@mv docs/top.svg.new docs/top.svg

test: deps build ## run all tests: units, and the module in real servers that the tests start
	@echo "test: cargo test --workspace, in $(SERVER) with $(EXPCACHE_MODULE)"
	@$(CARGO) test --workspace

soak: deps build ## all tests ten times beside two busy loops a core: make soak ROUNDS=10
	@contrib/soak $(ROUNDS)

fuzz: deps ## hostile and random input for a quarter of an hour each subject: make fuzz FUZZ=seconds
	@echo "fuzz: core/tests/fuzz, $(FUZZ) s each"
	@EXPCACHE_FUZZ_SECONDS=$(FUZZ) $(CARGO) test --release --package expcache-core --test fuzz -- --nocapture

check-client: deps build ## the client's random checker: a million reads, two processes, faults: make check-client READS=1000000
	@echo "check-client: $(READS) reads; what others invalidated is seen within $(LAG_MS) ms"
	@EXPCACHE_CHECKER_READS=$(READS) EXPCACHE_CHECKER_LAG_MS=$(LAG_MS) \
	  $(CARGO) test --release --package expcache-client --test client checker -- --nocapture

advise: ## how well ADVISE and WARM do, against exact simulations of ten generated workloads: a minute
	@$(CARGO) run --release --quiet --package expcache-core --example replay

lint: ## formatting, clippy and the docs of the code, warnings denied; licences of what it is built from
	@echo "lint: cargo fmt --check"
	@$(CARGO) fmt --all --check
	@echo "lint: cargo clippy --workspace --all-targets -- -D warnings"
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@for what in '--workspace' '-p expcache-client --no-default-features' '-p expcache-client --all-features'; do \
	  echo "lint: cargo doc --no-deps $$what"; \
	  RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --quiet --no-deps $$what || exit 1; \
	done
	@echo "lint: contrib/licences"
	@contrib/licences

bench: deps build ## measure the module against the server's own commands
	@echo "bench: benches/bench.py in $(SERVER)"
	@$(PYTHON) benches/bench.py

attack: deps build ## let one client do harm, and measure what another notices of it
	@echo "attack: benches/attack.py in $(SERVER)"
	@$(PYTHON) benches/attack.py

matrix: deps build ## run the integration tests in every other server that contrib/servers brings, all and the client's in the newest
	@mkdir -p $(SERVERS)
	@echo "matrix: bringing the servers to $(SERVERS)"
	@contrib/servers $(SERVERS) >$(SERVERS)/list \
	  || echo "matrix: NOT ALL SERVERS COULD BE HAD (see above); going on with the others" >&2
	@status=0; tried=0; summary=''; \
	while read -r name version path; do \
	  echo "matrix: $$name ($$version)"; \
	  tried=$$((tried + 1)); outcome=passed; \
	  case $$name in \
	    $(NEWEST)) tests='--test it --test client' ;; \
	    *) tests='--test it -- $(addprefix --skip ,$(LONG))' ;; \
	  esac; \
	  EXPCACHE_SERVER="$$path" $(CARGO) test --workspace $$tests </dev/null || { outcome=FAILED; status=1; }; \
	  summary+="matrix: $$name $$version $$outcome"$$'\n'; \
	done <$(SERVERS)/list; \
	printf '%s' "$$summary"; \
	[ $$tried -gt 0 ] || echo "matrix: NO OTHER SERVER WAS TRIED" >&2; \
	exit $$status

install: ## copy the built module to $(PREFIX)/lib/redis/modules
	@[ -f $(MODULE) ] || { echo "install: not built yet: make build" >&2; exit 1; }
	install -D -m 755 $(MODULE) $(DESTDIR)$(PREFIX)/lib/redis/modules/libexpcache.so
	@echo "install: load it with: loadmodule $(PREFIX)/lib/redis/modules/libexpcache.so"

clean: ## remove what was built and fetched
	@echo "clean: cargo clean"
	@$(CARGO) clean
