#!/bin/bash
# Runs the conformance cases, shows the matrix and writes it to docs/CONFORMANCE.md. Builds what `make test` builds.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
triple=$(as_builder rustc --version --verbose | sed -n 's/^host: //p')
runner="CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUNNER"
as_builder cargo test --workspace --no-run --quiet
trap give_back EXIT
matrix=$root/target/conformance.md
status=0
as_builder env "$runner=$root/scripts/run-test.sh" "CONFORMANCE_MATRIX=$matrix" \
    cargo test --workspace --test conformance || status=$?
if [ -f "$matrix" ]; then
    as_builder cp "$matrix" docs/CONFORMANCE.md
    as_root rm -f "$matrix"
fi
exit "$status"
