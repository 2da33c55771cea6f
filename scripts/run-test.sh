#!/bin/bash
# Runs a test program for cargo: as root those that make network namespaces or load programs into the kernel, the
# others as whoever runs this. In those folders that the program's name does not tell, cargo's own runner would do.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
case $(basename "$1") in
    netns-* | crash-* | interop-* | ports-* | steer-* | steering-* | conformance-*)
        status=0
        as_root env "CARGO_MANIFEST_DIR=${CARGO_MANIFEST_DIR:-}" "QUICK=${QUICK:-}" "$@" || status=$?
        give_back
        exit "$status"
        ;;
    *) exec "$@" ;;
esac
