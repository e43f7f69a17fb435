# shellcheck shell=bash
# What the scripts of this folder share; sourced from the project's top folder.

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# need_space FOLDER MEGABYTES WAY: refuses to start what would fill the disk, and names the WAY out.
need_space() {
    local free
    mkdir -p "$1" 2>/dev/null || die "cannot create $1: $3"
    free=$(df --output=avail -BM "$1" | tail -n1 | tr -dc 0-9)
    [ "$free" -ge "$2" ] || die "$1 has $free MB free and needs $2 MB: $3"
}

# Where built tools and file systems are kept between runs.
cache() {
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/dob-api"
}

# Where what is delivered goes.
dist() {
    echo "${CARGO_TARGET_DIR:-target}/dist"
}

# The version that Cargo.toml states.
version() {
    sed -n '/^\[package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml
}
