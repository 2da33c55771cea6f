# Each target installs what it needs. Run as a user with sudo, as root, or through sudo: what is built is the user's.
#
#   make test          everything that must hold, on this machine, in less than 20 minutes
#   make demo          a hundred clients share an address, through XDP and over a crash: a story of two minutes
#   make conformance   each case of the protocol's checklist, against engine, daemon and client: the matrix
#   make crash N=50    N kills under load; nothing that was acknowledged may be lost
#   make bench         how long a piece takes; with QUICK=1 a quick look
#   make bench-compare BASE=commit    which pieces have become slower since then
#   make rig           how fast the server is, next to Kea and to what the machine can do: docs/PERFORMANCE.md;
#                      QUICK=1 takes less than eight minutes, SCENARIO=dora is one part of it
#   make fuzz TIME=60  a minute of hostile octets for every parser; TARGET=wire_query for one of them
#   make verify-ebpf   rebuilds the XDP program and compares it with the committed one
#   make lint          formatting, clippy, licenses

N ?= 50
TIME ?= 600
QUICK ?=
SCENARIO ?=

.PHONY: demo test conformance crash bench bench-compare rig fuzz verify-ebpf lint setup

setup:
	scripts/setup.sh build rigs

test: setup
	scripts/setup.sh interop
	scripts/test.sh

conformance: setup
	scripts/setup.sh interop
	scripts/conformance.sh

demo: setup
	scripts/rig.sh demo

crash: setup
	scripts/rig.sh crash --kills $(N)

rig: setup
	scripts/setup.sh peers
	QUICK="$(QUICK)" SCENARIO="$(SCENARIO)" scripts/measure.sh

bench:
	scripts/setup.sh build
	scripts/bench.sh

bench-compare:
	scripts/setup.sh build
	scripts/cargo.sh run --quiet --release --package benches --bin bench-compare -- $(if $(BASE),--base $(BASE)) $(ARGS)

fuzz:
	scripts/setup.sh build
	scripts/fuzz.sh $(TIME) $(TARGET)

verify-ebpf:
	scripts/setup.sh build ebpf
	xdp-ebpf/verify.sh

lint:
	scripts/setup.sh build
	scripts/cargo.sh fmt --all --check
	scripts/cargo.sh clippy --workspace --all-targets --features portlease/sim -- -D warnings
	scripts/cargo.sh clippy --package portlease --no-default-features --all-targets -- -D warnings
	scripts/deny.sh
