#!/usr/bin/env bash
# Prints the path of a directory with etcd, kube-apiserver, kube-controller-manager, kubectl and test-cluster,
# and builds first what is not there yet. Everything else goes to standard error.
#
#   KUBEBUILDER_ASSETS   component binaries found here are taken as they are
#   BASTION_TEST_CACHE   where to keep what is built (default: ${XDG_CACHE_HOME:-~/.cache}/bastion-audit)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tests/cluster/building.sh
source building.sh
components=(etcd kube-apiserver kube-controller-manager kubectl)

main() {
    local stand_in given=() control_plane=
    stand_in=$cache/test-cluster-$(hash_of go.sum go.mod kubelet/*.go up/*.go)
    if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
        for name in "${components[@]}"; do
            if [[ -x $KUBEBUILDER_ASSETS/$name ]]; then given+=("$(realpath "$KUBEBUILDER_ASSETS")/$name"); fi
        done
    fi
    if ((${#given[@]} < ${#components[@]})); then
        control_plane=$cache/cluster-$(hash_of go.sum go.mod controlplane/*.go)
        once "$control_plane" "the control plane (about 4 minutes the first time, on 2 cores)" versioned ./controlplane 2750
    fi
    once "$stand_in" "test-cluster" versioned ./up 1050
    assemble "$control_plane" "$stand_in" "${given[@]}"
}

# versioned PACKAGE PACKAGES: compiled to say the version of Kubernetes that it is.
versioned() {
    local version
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    compile "$1" "$2" "-X k8s.io/component-base/version.gitVersion=$version"
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

main "$@"
