#!/bin/bash
# Runs cargo as the user whose checkout this is, also under sudo.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
as_builder cargo "$@"
