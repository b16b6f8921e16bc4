#!/usr/bin/env bash
# Prints the path of a directory with etcd, kube-apiserver, kube-controller-manager, kubectl and test-cluster,
# and builds first what is not there yet. Everything else goes to standard error.
#
#   KUBEBUILDER_ASSETS   component binaries found here are taken as they are
#   BASTION_TEST_CACHE   where to keep what is built (default: ${XDG_CACHE_HOME:-~/.cache}/bastion-audit)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${BASTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bastion-audit}
components=(etcd kube-apiserver kube-controller-manager kubectl)

# Files sort the same everywhere, no toolchain comes over the network unasked, no C compiler is needed, and no flag of
# the caller's changes the result.
export LC_ALL=C GOTOOLCHAIN=local CGO_ENABLED=0 GOWORK=off GOFLAGS=

main() {
    mkdir -p "$cache"
    cache=$(realpath "$cache")
    local stand_in given=() control_plane=
    stand_in=$cache/test-cluster-$(hash_of go.sum go.mod kubelet/*.go up/*.go)
    if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
        for name in "${components[@]}"; do
            if [[ -x $KUBEBUILDER_ASSETS/$name ]]; then given+=("$(realpath "$KUBEBUILDER_ASSETS")/$name"); fi
        done
    fi
    if ((${#given[@]} < ${#components[@]})); then
        control_plane=$cache/cluster-$(hash_of go.sum go.mod controlplane/*.go)
        build "$control_plane" controlplane 2750 "the control plane (about 4 minutes the first time, on 2 cores)"
    fi
    build "$stand_in" up 1050 "test-cluster"
    assemble "$control_plane" "$stand_in" "${given[@]}"
}

# hash_of FILES: 16 hex digits that change with what is in them.
hash_of() { cat -- "$@" | sha256sum | cut -c1-16; }

# build DIRECTORY PACKAGE PACKAGES WHAT: the package's program, as DIRECTORY/program, once.
build() {
    local directory=$1 package=$2 packages=$3 what=$4 lock=$1.lock
    if [[ -x $directory/program ]]; then return; fi
    check_go
    exec 9>"$lock"
    if ! flock --nonblock 9; then
        say "waiting for another build of $what"
        flock 9
    fi
    if [[ ! -x $directory/program ]]; then
        say "building $what"
        building=$(mktemp -d "$cache/building.XXXXXX")
        trap 'abandon' EXIT
        trap 'exit 1' INT TERM HUP
        compile "$package" "$packages"
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

compile() {
    local package=$1 packages=$2 version began=$SECONDS last=$SECONDS log=$building/log
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    go build -v -trimpath -buildvcs=false \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
        -o "$building/program" "./$package" >"$log" 2>&1 9>&- &
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
        fail "go build ./$package failed"
    fi
    compiler=
    rm "$log"
    say "built in $((SECONDS - began)) s"
}

check_go() {
    local wanted have
    wanted=$(sed -n 's/^go //p' go.mod)
    command -v go >/dev/null || fail "go is not installed: Go $wanted or newer is needed to build the test cluster"
    # Asked outside of the module: an older go would refuse to answer in it.
    have=$(cd / && go env GOVERSION)
    have=${have#go}
    if [[ $(printf '%s\n' "$wanted" "${have%% *}" | sort -V | head -n 1) != "$wanted" ]]; then
        fail "go is $have; go.mod asks for $wanted or newer. It is not downloaded for you (GOTOOLCHAIN=local): please install it"
    fi
}

# assemble CONTROL_PLANE STAND_IN GIVEN...: one directory of links, named for what they lead to.
assemble() {
    local control_plane=$1 stand_in=$2 name directory links
    shift 2
    directory=$cache/assets-$(printf '%s\n' "$control_plane" "$stand_in" "$@" | hash_of -)
    if [[ ! -d $directory ]]; then
        links=$(mktemp -d "$cache/building.XXXXXX")
        chmod 755 "$links"
        ln -s "$stand_in/program" "$links/test-cluster"
        for name in "$@"; do ln -s "$name" "$links/"; done
        for name in "${components[@]}"; do
            if [[ ! -L $links/$name ]]; then ln -s "$control_plane/program" "$links/$name"; fi
        done
        mv -T "$links" "$directory" 2>/dev/null || rm -r "$links" # someone else was first
    fi
    printf '%s\n' "$directory"
}

say() { printf 'tests/cluster: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

main "$@"
