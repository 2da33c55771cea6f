#!/bin/bash
# Builds the XDP program for the kernel with the pinned compiler and writes the stripped object to the given file
# (default: steer.o beside this script, the committed one), and beside it the names of the compiler and the linker.
# Needs the toolchain's rust-src component, bpf-linker 0.10.3 (or its path in BPF_LINKER) and the llvm tools;
# verify.sh installs them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/steer.o}
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$here/../rust-toolchain.toml")
linker=${BPF_LINKER:-bpf-linker}
target=${CARGO_TARGET_DIR:-$here/../target}/ebpf

# A released compiler builds `core` from source only if told that it is a nightly one.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$target
# The linker makes BTF out of debug information. Paths of this machine do not belong into the object.
separator=$'\x1f'
export CARGO_ENCODED_RUSTFLAGS="-Clinker=$linker${separator}-Clink-arg=--btf${separator}-Cdebuginfo=2\
${separator}--cfg=bpf_target_arch=\"x86_64\"${separator}--remap-path-prefix=$(cd "$here/.." && pwd)=."

cd "$here"
cargo "+$toolchain" build --locked --release -Z build-std=core --target bpfel-unknown-none \
    --package xdp-ebpf --features bpf --bin steer
llvm-objcopy --strip-debug --strip-unneeded "$target/bpfel-unknown-none/release/steer" "$output"
echo "$(rustc "+$toolchain" --version), $("$linker" --version)" >"$output.compiler"
