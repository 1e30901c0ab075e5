# weft: `make demo` shows it, `make test` tests it; both do all set-up. `make help` lists the rest.

HOST   := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where the programs are: statically linked, so that they run on any host and in any container.
BIN    := $(TARGET)/dist

.PHONY: help demo test test-long bench-attach bench-run bench-unpack bench-overlay bench-scale bench-policy bench-path bench-services lint fuzz build setup-demo setup-test clean

help:
	@echo "make demo          install what it needs, build, and show the main job (about two minutes after the build)"
	@echo "make test          install what it needs and run all tests"
	@echo "make test-long     the same with soaks, full seeds and fuzzing (hours)"
	@echo "make bench-attach  measure attaching beside other network plugins; the table is in docs/benchmarks.md"
	@echo "make bench-run     measure weft run beside podman and docker; the table is in docs/benchmarks.md"
	@echo "make bench-unpack  measure unpacking of layers beside tar; the table is in docs/benchmarks.md"
	@echo "make bench-overlay measure paths between two hosts, by hand and by weft; docs/benchmarks.md"
	@echo "make bench-scale   plan 5,000 hosts, put 1,000 into a real kernel, follow them as they come and go; docs/benchmarks.md"
	@echo "make bench-policy  what policy costs, packets and changes, beside a rule per peer; docs/benchmarks.md"
	@echo "make bench-path    the way between two containers of one host beside a wire; docs/benchmarks.md"
	@echo "make bench-services what services cost a connection, a load and a change, beside kube-proxy's shapes of rules"
	@echo "make build         the programs, in $(BIN)"
	@echo "make lint          format, clippy, and what is known of the dependencies"

setup-demo:
	@scripts/setup demo
setup-test:
	@scripts/setup demo test
setup-bench:
	@scripts/setup demo test bench

build:
	@echo "building the programs (the first time takes some minutes)"
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile plugin --target $(HOST) -p weft-cni
	@mkdir -p $(BIN)
	@install -m 755 $(TARGET)/$(HOST)/release/weft $(TARGET)/$(HOST)/plugin/weft-cni $(BIN)/

demo: setup-demo build
	@scripts/demo $(BIN)
	@scripts/demo-hosts $(BIN)
	@scripts/demo-policy $(BIN)

test: setup-test build
	@WEFT_BIN=$(abspath $(BIN)) scripts/test

test-long: setup-test build
	@WEFT_BIN=$(abspath $(BIN)) WEFT_FULL=1 scripts/test
	@scripts/fuzz 600

bench-attach: setup-bench build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches
	WEFT_BIN=$(abspath $(BIN)) $(TARGET)/$(HOST)/release/bench-attach $(ARGS)

bench-run: setup-bench build
	@scripts/bench-run $(BIN) $(ARGS)

bench-unpack: setup-bench
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-unpack
	$(TARGET)/$(HOST)/release/bench-unpack $(ARGS)

bench-overlay: setup-bench build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-hosts
	$(TARGET)/$(HOST)/release/bench-hosts overlay $(abspath $(BIN))/weft

bench-scale: setup-bench build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-hosts
	$(TARGET)/$(HOST)/release/bench-hosts scale $(abspath $(BIN))/weft

bench-policy: setup-bench
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-policy
	$(TARGET)/$(HOST)/release/bench-policy policy $(ARGS)

bench-path: setup-bench build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-policy
	$(TARGET)/$(HOST)/release/bench-policy path --weft $(abspath $(BIN))/weft $(ARGS)

bench-services: setup-bench
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(HOST) -p weft-benches --bin bench-services
	$(TARGET)/$(HOST)/release/bench-services $(ARGS)

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

clean:
	cargo clean
