#!/bin/bash
# Installs the Debian packages that are missing for what is named: build, rigs, interop, ebpf, peers. Asks nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

declare -A packages=(
    [build]="gcc make m4 pkg-config clang libclang-dev libelf-dev zlib1g-dev"
    [rigs]="iproute2 ethtool nftables tcpdump tshark procps"
    [interop]="kea-dhcp4-server kea-dhcp6-server kea-admin python3-scapy"
    [ebpf]="llvm"
    [peers]="kea-dhcp4-server kea-dhcp6-server kea-admin"
)

missing=()
for group in "${@:-build}"; do
    if [ -z "${packages[$group]:-}" ]; then
        echo "setup.sh knows ${!packages[*]}, but not $group" >&2
        exit 2
    fi
    for package in ${packages[$group]}; do
        status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing+=("$package")
    done
done
[ ${#missing[@]} = 0 ] && exit 0

echo "installing ${missing[*]}"
install="DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A list of packages that was never fetched, or is old, makes the first try fail.
if ! as_root bash -c "$install" >"$log" 2>&1; then
    as_root apt-get update --quiet >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    as_root bash -c "$install" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
