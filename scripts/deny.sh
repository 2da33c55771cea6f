#!/bin/bash
# Licenses, sources and bans of all dependencies. Installs cargo-deny into the target folder if it is not there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
version=0.20.2
tools=$root/target/tools
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q " $version\$"; then
    as_builder cargo install cargo-deny --locked --quiet --version "$version" --root "$tools"
fi
as_builder "$tools/bin/cargo-deny" check bans licenses sources
