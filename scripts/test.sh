#!/bin/bash
# All tests: one build, one profile, one target folder. Root tests run through sudo unless this is root already;
# without either they fail.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
triple=$(as_builder rustc --version --verbose | sed -n 's/^host: //p')
runner="CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUNNER"
as_builder env "$runner=$root/scripts/run-test.sh" \
    cargo test --workspace --features portlease/sim --no-fail-fast
as_builder cargo test --package portlease --no-default-features --features loom --lib loom_
give_back
