#!/usr/bin/env bash
# Prints where clients of others are, a line for each that is named, and builds or fetches first what is not there yet.
# Everything else goes to standard error.
#
#   helm         helm 4, from its Go module
#   matrix       the program in matrix/, on golang.org/x/crypto/ssh
#   informers    the program in informers/, on client-go
#   old-kubectl  one from before 1.30, which speaks SPDY: Debian's kubernetes-client, fetched and not installed
#   node         a directory with the npm packages `ssh2` and `oidc-provider`, for a `node` that is there, and beside it provider.js, which is
#                provider/main.js
#   python       a python3 that has the packages `kubernetes`, `jwt`, `paramiko` and `ssh_audit`
#
#   BASTION_TEST_OLD_KUBECTL   an old kubectl to take instead, where apt has none
#   BASTION_TEST_CACHE         where to keep what is built (default: ${XDG_CACHE_HOME:-~/.cache}/bastion-audit)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tests/cluster/building.sh
source ../cluster/building.sh
old_kubectl='1.20.*'

main() {
    local name
    for name in "$@"; do
        case $name in
            helm) helm ;;
            informers) informers ;;
            matrix) matrix ;;
            old-kubectl) old_kubectl ;;
            node) node_modules ;;
            python) python ;;
            *) fail "no client is called $name" ;;
        esac
    done
}

helm() {
    local directory
    directory=$cache/helm-$(hash_of go.sum go.mod)
    once "$directory" "helm (about 90 s)" compile_helm
    printf '%s\n' "$directory/helm"
}

compile_helm() {
    local version
    version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4)
    compile helm.sh/helm/v4/cmd/helm 1450 "-X helm.sh/helm/v4/internal/version.version=$version"
    mv "$building/program" "$building/helm"
}

informers() {
    local directory
    directory=$cache/informers-$(hash_of go.sum go.mod informers/*.go)
    once "$directory" "the client-go program" compile ./informers 700 ""
    printf '%s\n' "$directory/program"
}

matrix() {
    local directory
    directory=$cache/matrix-$(hash_of go.sum go.mod matrix/*.go)
    once "$directory" "the x/crypto/ssh program" compile ./matrix 150 ""
    printf '%s\n' "$directory/program"
}

old_kubectl() {
    if [[ -n ${BASTION_TEST_OLD_KUBECTL:-} ]]; then
        realpath "$BASTION_TEST_OLD_KUBECTL"
        return
    fi
    local directory=$cache/kubectl-${old_kubectl%.*}
    once "$directory" "Debian's kubectl ${old_kubectl%.*}" fetch_old_kubectl
    printf '%s\n' "$directory/kubectl"
}

fetch_old_kubectl() {
    local package
    command -v apt-get >/dev/null || fail "no apt-get: set BASTION_TEST_OLD_KUBECTL to a kubectl from before 1.30"
    (cd "$building" && apt-get -qq -o APT::Sandbox::User= download "kubernetes-client=$old_kubectl" >&2) ||
        fail "apt has no kubernetes-client $old_kubectl (is 'apt-get update' due?): or set BASTION_TEST_OLD_KUBECTL"
    package=$(echo "$building"/*.deb)
    dpkg -x "$package" "$building/package"
    mv "$building/package/usr/bin/kubectl" "$building/kubectl"
    rm -r "$package" "$building/package"
}

node_modules() {
    local directory
    directory=$cache/node-$(hash_of package-lock.json provider/main.js)
    once "$directory" "the npm packages ssh2 and oidc-provider" fill_node
    printf '%s\n' "$directory/node_modules"
}

# Nothing that is compiled or run when it is installed.
fill_node() {
    cp package.json package-lock.json "$building"
    cp provider/main.js "$building/provider.js"
    npm ci --prefix "$building" --omit=optional --ignore-scripts --no-audit --no-fund --silent >&2 || fail "npm ci failed"
}

python() {
    local directory
    directory=$cache/python-$(hash_of requirements.txt)
    once "$directory" "a Python with the packages kubernetes, jwt, paramiko and ssh_audit" fill_python
    printf '%s\n' "$directory/bin/python3"
}

# A virtual environment may be moved as long as nothing but its python3 is used.
fill_python() {
    python3 -m venv "$building" >&2 || fail "python3 -m venv failed: is python3-venv installed?"
    "$building/bin/python3" -m pip -q --disable-pip-version-check install -r requirements.txt >&2 ||
        fail "pip install failed"
}

main "$@"
