#!/bin/bash
# All benches, or what the arguments for cargo select. The XDP program is measured as root, if that can be had.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
triple=$(as_builder rustc --version --verbose | sed -n 's/^host: //p')
runner="CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUNNER"
as_builder cargo bench --quiet --package benches --no-run
trap give_back EXIT
if [ "$(id -u)" = 0 ]; then
    home=$(getent passwd "$(builder)" | cut -d: -f6)
    env "HOME=$home" "PATH=$(dirname "$(find_cargo)"):$PATH" cargo bench --package benches "$@"
elif command -v sudo >/dev/null; then
    as_builder env "$runner=$root/scripts/run-test.sh" cargo bench --package benches "$@"
else
    as_builder cargo bench --package benches "$@"
fi
