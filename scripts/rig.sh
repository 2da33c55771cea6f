#!/bin/bash
# Builds the release programs and runs one of the rigs as root: demo, crash.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
rig=$1
shift
as_builder cargo build --release --quiet --workspace --bins
status=0
as_root "$root/target/release/$rig" "$@" || status=$?
give_back
exit "$status"
