#!/bin/bash
# All tests: one build, one profile, one target folder. Root tests run through sudo unless this is root already;
# without either they fail.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
triple=$(as_builder rustc --version --verbose | sed -n 's/^host: //p')
runner="CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUNNER"
as_builder cargo test --workspace --no-run
trap give_back EXIT
if [ "$(id -u)" = 0 ]; then
    # All of them as root, with the builder's cargo, which has nothing left to build.
    home=$(getent passwd "$(builder)" | cut -d: -f6)
    env "HOME=$home" "PATH=$(dirname "$(find_cargo)"):$PATH" cargo test --workspace --no-fail-fast
else
    as_builder env "$runner=$root/scripts/run-test.sh" cargo test --workspace --no-fail-fast
fi
as_builder cargo test --package portlease --no-default-features --features loom --lib loom_
