# shellcheck shell=bash
# Functions for all scripts; sourced from the project's top folder. A script whose file name is not its task's sets `program`.
program=${0##*/}

# What went wrong, in one sentence.
die() {
    echo "$program: $*" >&2
    exit 1
}

# Which argument is wrong, in one sentence. Nothing has happened yet.
wrong() {
    echo "$program: $*" >&2
    exit 64
}

# value FLAG VALUE: refuses a flag without its value.
value() {
    [ -n "${2-}" ] || wrong "$1 needs a value; see --help"
}

# understood PROGRAM ARGUMENT ...: returns if a Python program accepts its arguments; else exits like the program, as for --help.
understood() {
    local code=0
    command -v python3 >/dev/null || die "python3 is missing: './dev need python3' installs it"
    ARGUMENTS_ONLY=3 python3 -B "$@" || code=$?
    [ "$code" = 3 ] || exit "$code"
}

need_linux() {
    [ "$(uname -s)" = Linux ] || die "this needs Linux, and this is $(uname -s): use a Linux machine, or a virtual one"
}

# need_space FOLDER MEGABYTES WAY: refuses to start a task that would fill the disk, and prints WAY, the solution.
need_space() {
    local free
    mkdir -p "$1" 2>/dev/null || die "cannot create $1: $3"
    free=$(($(df -Pk "$1" | awk 'END { print $4 }') / 1024))
    [ "$free" -ge "$2" ] || die "$1 has $free MB free and needs $2 MB: $3"
}

# The folder of built tools and file systems that are kept between runs.
cache() {
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/dob-api"
}

# The folder for files to deliver.
dist() {
    echo "${CARGO_TARGET_DIR:-target}/dist"
}

# The version that Cargo.toml states.
version() {
    sed -n '/^\[package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml
}
