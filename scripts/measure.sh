#!/bin/bash
# Builds the release programs and the benches, and measures servers side by side as root. With SCENARIO (names of files
# in bench-rigs/scenarios, commas between them) only those; with QUICK=1 shorter turns. A full run writes
# docs/PERFORMANCE.md, any other one target/rig/PERFORMANCE.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
as_builder cargo build --release --quiet --workspace --bins
command="make rig"
output=target/rig
arguments=()
if [ -n "${QUICK:-}" ] && [ "$QUICK" != 0 ]; then
    command+=" QUICK=$QUICK"
    arguments+=(--quick)
fi
if [ -n "${SCENARIO:-}" ]; then
    command+=" SCENARIO=$SCENARIO"
    arguments+=(--scenario "$SCENARIO")
fi
[ "$command" = "make rig" ] && output=docs
# The programs that cargo has built, by name.
programs=$(as_builder cargo bench --package benches --no-run --quiet --message-format json |
    sed -En 's/.*"kind":\["bench"\].*"name":"([^"]*)".*"executable":"([^"]*)".*/\1=\2/p')
for program in $programs; do
    arguments+=(--bench-program "$program")
done
status=0
as_root "$root/target/release/rig" --command "$command" --output "$output" "${arguments[@]}" || status=$?
give_back
owner=$(stat -c %u:%g "$root")
if [ "$output" = docs ] && [ "$owner" != 0:0 ]; then
    as_root chown --recursive --from=0:0 "$owner" "$root/docs"
fi
exit "$status"
