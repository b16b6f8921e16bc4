# What the scripts share that build programs for the tests: a cache, and one build at a time of each thing in it.
# Sourced, never run.
#
#   BASTION_TEST_CACHE   where to keep what is built (default: ${XDG_CACHE_HOME:-~/.cache}/bastion-audit)
# shellcheck shell=bash

# Files sort the same everywhere, no toolchain comes over the network unasked, no C compiler is needed, and no flag of
# the caller's changes the result.
export LC_ALL=C GOTOOLCHAIN=local CGO_ENABLED=0 GOWORK=off GOFLAGS=

speaker=${PWD##*/}
cache=${BASTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastion-audit}
mkdir -p "$cache"
cache=$(realpath "$cache")

# hash_of FILES: 16 hex digits that change with what is in them.
hash_of() { cat -- "$@" | sha256sum | cut -c1-16; }

# once DIRECTORY WHAT COMMAND...: has COMMAND fill $building, which then becomes DIRECTORY; never twice, whoever asks.
once() {
    local directory=$1 what=$2 lock=$1.lock
    shift 2
    if [[ -d $directory ]]; then return; fi
    exec 9>"$lock"
    if ! flock --nonblock 9; then
        say "waiting for another build of $what"
        flock 9
    fi
    if [[ ! -d $directory ]]; then
        say "building $what"
        building=$(mktemp -d "$cache/building.XXXXXX")
        trap 'abandon' EXIT
        trap 'exit 1' INT TERM HUP
        "$@"
        chmod 755 "$building"
        mv -T "$building" "$directory"
        trap - EXIT INT TERM HUP
    fi
    exec 9>&-
}

abandon() {
    if [[ -n ${compiler:-} ]]; then kill "$compiler" 2>/dev/null || true; fi
    rm -rf "$building"
}

# compile PACKAGE PACKAGES LDFLAGS: a Go package of the module here, which takes so many, as $building/program.
compile() {
    local package=$1 packages=$2 ldflags=$3 began=$SECONDS last=$SECONDS log=$building/log
    check_go
    go build -v -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$building/program" "$package" >"$log" 2>&1 9>&- &
    compiler=$!
    while kill -0 "$compiler" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - last >= 10)); then
            last=$SECONDS
            # Modules that have yet to be downloaded are lines of the log too: the count is a hint, no promise.
            say "  $((SECONDS - began)) s, $(grep -c / "$log" || true) of at most $packages packages"
        fi
    done
    if ! wait "$compiler"; then
        compiler=
        tail -n 30 "$log" >&2
        fail "go build $package failed"
    fi
    compiler=
    rm "$log"
    say "built in $((SECONDS - began)) s"
}

check_go() {
    local wanted have
    wanted=$(sed -n 's/^go //p' go.mod)
    command -v go >/dev/null || fail "go is not installed: Go $wanted or newer is needed to build this"
    # Asked outside of the module: an older go would refuse to answer in it.
    have=$(cd / && go env GOVERSION)
    have=${have#go}
    if [[ $(printf '%s\n' "$wanted" "${have%% *}" | sort -V | head -n 1) != "$wanted" ]]; then
        fail "go is $have; go.mod asks for $wanted or newer. It is not downloaded for you (GOTOOLCHAIN=local): please install it"
    fi
}

say() { printf 'tests/%s: %s\n' "$speaker" "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
