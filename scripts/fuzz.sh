#!/bin/bash
# Fuzzes for so many seconds: one target if it is named, else all of them, one after the other with a share each.
# Installs cargo-fuzz into the target folder if it is not there. New inputs go to userspace/fuzz/corpus.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root/userspace"
seconds=${1:-600}
target=${2:-}
version=0.13.2
tools=$root/target/tools
if ! "$tools/bin/cargo-fuzz" --version 2>/dev/null | grep -q " $version\$"; then
    as_builder cargo install cargo-fuzz --locked --quiet --version "$version" --root "$tools"
fi
fuzz() { as_builder env "PATH=$tools/bin:$PATH" cargo fuzz "$@"; }
if [ -n "$target" ]; then targets=$target; else targets=$(fuzz list); fi
count=$(wc -w <<<"$targets")
for one in $targets; do
    echo "fuzzing $one for $((seconds / count)) s"
    as_builder mkdir -p "fuzz/corpus/$one"
    # What is fuzzed has no unsafe code: no sanitizer is needed, and so no nightly compiler.
    fuzz run --sanitizer none "$one" "fuzz/corpus/$one" "fuzz/regressions/$one" -- \
        "-max_total_time=$((seconds / count))" -max_len=4096 -print_final_stats=1
done
