# Sourced by the other scripts. Who owns this checkout, whose cargo builds it, and how to become root.
#
# The Makefile may be run by a user, by root, or by a user through sudo. Whatever is built belongs to the user.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The user whose checkout this is: who called sudo, or who runs this.
builder() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        echo "$SUDO_USER"
    else
        id -un
    fi
}

# The path of cargo: the builder's own rustup first, since sudo hides it.
find_cargo() {
    local home candidate
    home=$(getent passwd "$(builder)" | cut -d: -f6)
    for candidate in "${CARGO_HOME:-$home/.cargo}/bin/cargo" "$home/.cargo/bin/cargo" \
        "$(command -v cargo || true)" /usr/local/cargo/bin/cargo; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    echo "no cargo for $(builder): install Rust by rustup (rust-toolchain.toml names the version)" >&2
    return 1
}

# Runs a command as the builder, with cargo on the path.
as_builder() {
    local cargo
    cargo=$(find_cargo)
    if [ "$(id -un)" = "$(builder)" ]; then
        PATH="$(dirname "$cargo"):$PATH" "$@"
    else
        sudo --user "$(builder)" --set-home env "PATH=$(dirname "$cargo"):$PATH" "$@"
    fi
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --preserve-env=PORTLEASE,CARGO,RUST_BACKTRACE,CI,CONFORMANCE_MATRIX "$@"
    else
        echo "this needs root, and there is no sudo: $*" >&2
        return 1
    fi
}

# Gives back to the owner of the checkout what root has written into its target folder.
give_back() {
    local owner
    owner=$(stat -c %u:%g "$root")
    if [ "$owner" != 0:0 ] && [ -d "$root/target" ]; then
        as_root chown --recursive --from=0:0 "$owner" "$root/target"
    fi
}
