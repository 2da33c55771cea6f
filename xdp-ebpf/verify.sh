#!/bin/bash
# Rebuilds the XDP program and compares it with the committed object. Installs what is missing, and never skips.
#
# Debug and type information carry names of the machine that built them; what the kernel runs must be the same to the
# octet: the program with its relocations, the maps, the license.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../scripts/lib.sh"
bpf_linker=0.10.3

"$here/../scripts/setup.sh" build ebpf
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$here/../rust-toolchain.toml")
as_builder rustup component add --toolchain "$toolchain" rust-src
linker=$(as_builder bash -c 'command -v bpf-linker' || true)
if ! "$linker" --version 2>/dev/null | grep -q " $bpf_linker\$"; then
    linker=$root/target/tools/bin/bpf-linker
    if ! "$linker" --version 2>/dev/null | grep -q " $bpf_linker\$"; then
        as_builder cargo "+$toolchain" install bpf-linker --locked --quiet --version "$bpf_linker" \
            --root "$root/target/tools"
    fi
fi

rebuilt=$root/target/ebpf/steer.o
as_builder mkdir -p "$root/target/ebpf"
as_builder env "BPF_LINKER=$linker" "$here/build.sh" "$rebuilt"

# What the kernel runs, as text: the octets of a section, and where which symbol goes.
essence() {
    {
        llvm-objdump --section=.text --section=xdp --disassemble --reloc --no-leading-addr "$1"
        llvm-objdump --section=maps --section=license --full-contents "$1"
        llvm-objdump --syms "$1" | awk '/(xdp|maps|license|\.text)/ { print $1, $(NF - 1), $NF }'
    } | grep -v 'format elf64-bpf'
}

if ! diff "$here/steer.o.compiler" "$rebuilt.compiler" >&2; then
    echo "xdp-ebpf/steer.o was made by another compiler: run xdp-ebpf/build.sh and commit" >&2
    exit 1
fi
if ! diff <(essence "$here/steer.o") <(essence "$rebuilt") >&2; then
    echo "xdp-ebpf/steer.o is not what its source makes: run xdp-ebpf/build.sh and commit" >&2
    exit 1
fi
echo "xdp-ebpf/steer.o is what its source makes: $(cat "$rebuilt.compiler")"
