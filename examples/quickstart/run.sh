#!/usr/bin/env bash
# bastion-audit at work on this machine: a Kubernetes control plane and a daemon on loopback, two operators with
# different roles, one allowed and one forbidden command, and an auditor who replays them.
#
#   examples/quickstart/run.sh          shows that, leaves it running for you to try; Ctrl-C stops everything
#   examples/quickstart/run.sh --once   shows that and stops everything
#
# For Debian and Ubuntu with cargo and Go. Other packages that are missing are installed with apt-get. Nothing is
# asked, nothing listens beyond loopback, nothing is left behind but what was built. Root is not needed.
#
#   BASTION_AUDIT   a daemon that is already built, to be shown instead of the one of this checkout
set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
once=
dir=
cluster=
daemon=

main() {
    case "$*" in
        '') ;;
        --once) once=yes ;;
        *) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2 ;;
    esac
    install_what_is_missing
    build
    trap 'ended $?' EXIT
    trap 'exit 130' INT TERM HUP
    # Sessions run under OS uids of their own when we are root: they must be able to pass, and to see nothing.
    dir=$(mktemp -d /tmp/bastion-quickstart.XXXXXX)
    chmod 711 "$dir"
    start_cluster
    configure
    start_daemon
    demonstrate
    if [[ -z $once ]]; then stay; fi
}

# --- before anything is started

install_what_is_missing() {
    local package packages=()
    [[ -n ${BASTION_AUDIT:-} ]] || has cargo || fail 'cargo is missing: https://rustup.rs has it'
    has go || fail 'go is missing: https://go.dev/dl has it'
    has ssh || packages+=(openssh-client)
    has bwrap || packages+=(bubblewrap)
    has jq || packages+=(jq)
    has cc || packages+=(build-essential)
    if ((${#packages[@]})); then
        has apt-get || fail "please install: ${packages[*]}"
        heading 'Installing what is missing'
        for package in "${packages[@]}"; do say "$package"; done
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"
    fi
    if can_sandbox; then return; fi
    # Ubuntu gives user namespaces to programs with an AppArmor profile only; the daemon's operators need them.
    if [[ $(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null) == 1 ]]; then
        heading 'Allowing bubblewrap its user namespaces'
        say 'installing examples/deploy/apparmor/bwrap as /etc/apparmor.d/bwrap'
        as_root install -m 0644 "$root/examples/deploy/apparmor/bwrap" /etc/apparmor.d/bwrap
        as_root apparmor_parser -r /etc/apparmor.d/bwrap
        if can_sandbox; then return; fi
    fi
    fail 'bubblewrap does not work here, and no command is run without a sandbox. It says:' "$(sandbox 2>&1 || true)"
}

has() { command -v "$1" >/dev/null; }

can_sandbox() { sandbox 2>/dev/null; }

# What the daemon needs of bubblewrap; as root it is asked for under another uid.
sandbox() {
    local other=()
    if ((EUID == 0)); then other=(setpriv --reuid 1900000000 --regid 1900000000 --clear-groups); fi
    "${other[@]}" bwrap --unshare-user --unshare-pid --unshare-net --ro-bind / / --proc /proc --dev /dev true
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        fail 'this needs root, and sudo would ask for a password. Please run as root, and then this script again:' "  $*"
    fi
}

build() {
    heading 'Building (some minutes the first time)'
    assets=$("$root/tests/cluster/build.sh")
    if [[ -z ${BASTION_AUDIT:-} ]]; then
        cargo build --locked --manifest-path "$root/Cargo.toml" --bin bastion-audit
        BASTION_AUDIT=$(cargo metadata --locked --no-deps --format-version 1 --manifest-path "$root/Cargo.toml" |
            jq -r .target_directory)/debug/bastion-audit
    fi
    say "$("$BASTION_AUDIT" --version), $("$assets/kubectl" version --client -o json | jq -r '"kubectl " + .clientVersion.gitVersion')"
}

# --- what is started

start_cluster() {
    heading 'A Kubernetes control plane, and what the bastion may do in it'
    mkfifo "$dir/stdin"
    # A session of its own: Ctrl-C is ours to pass on, in the right order. Its standard input ends with us.
    setsid "$assets/test-cluster" up --stdin-eof --dir "$dir/cluster" \
        <"$dir/stdin" >"$dir/cluster.json" 2>"$dir/cluster.log" &
    cluster=$!
    exec 7>"$dir/stdin"
    wait_for "$cluster" 120 test -s "$dir/cluster.json"
    KUBECONFIG=$(jq -r .kubeconfig "$dir/cluster.json")
    export KUBECONFIG
    say "$(jq -r '.server + ", Kubernetes " + .version' "$dir/cluster.json")"
    show 'kubectl apply -f examples/deploy'
    # Names are enough here: "validatingadmissionpolicy.admissionregistration.k8s.io/x created" is "validatingadmissionpolicy/x".
    kubectl apply -f "$root/examples/deploy" >"$dir/apply.log"
    sed 's/ .*//; s/\.[^/]*\//\//' "$dir/apply.log" | paste -sd ' ' | fold -sw 100
    show 'kubectl run web --image=nginx'
    kubectl run web --image=nginx
    kubectl wait --for=condition=Ready pod/web --timeout=60s >/dev/null
    # Policies and RBAC are in force some tenths of a second after they were applied.
    wait_for "$cluster" 60 policies_in_force
}

kubectl() { "$assets/kubectl" "$@"; }

policies_in_force() {
    ! kubectl create secret generic no-session -n bastion-editor --dry-run=server >/dev/null 2>&1
}

configure() {
    local name
    heading 'The configuration: who may take which role'
    mkdir -m 700 "$dir/keys"
    mkdir -m 755 "$dir/bin"
    for name in host operator-a operator-b auditor-a; do
        ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$dir/keys/$name"
    done
    # Where sessions see it; the original may lie where their uids cannot go.
    cp -L "$assets/kubectl" "$dir/bin/kubectl"
    (umask 077 && bastion_kubeconfig >"$dir/bastion.kubeconfig")
    port=$(free_port)
    documents >"$dir/bastion.yaml"
    ssh_config >"$dir/ssh"
    printf '[127.0.0.1]:%s %s\n' "$port" "$(cat "$dir/keys/host.pub")" >"$dir/known_hosts"
    show "grep -v apiVersion $dir/bastion.yaml"
    grep -v apiVersion "$dir/bastion.yaml" | sed 's/ AAAA[^ ]* / AAAA... /'
}

# The bastion's own credential: a token of its ServiceAccount, which has no right but to mint the two roles.
bastion_kubeconfig() {
    jq -n --arg server "$(jq -r .server "$dir/cluster.json")" --arg ca "$(jq -r .ca "$dir/cluster.json")" \
        --arg token "$(kubectl create token bastion --namespace bastion-audit --duration 24h)" '{
            apiVersion: "v1", kind: "Config", "current-context": "demo",
            clusters: [{name: "demo", cluster: {server: $server, "certificate-authority": $ca}}],
            users: [{name: "bastion", user: {token: $token}}],
            contexts: [{name: "demo", context: {cluster: "demo", user: "bastion"}}]
        }'
}

free_port() {
    local port=2222
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

documents() {
    cat <<YAML
apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {name: quickstart}
spec:
  listen: 127.0.0.1:$port
  advertise: 127.0.0.1:$port
  hostKeys: [keys/host]
  stateDir: state
  limits: {drain: 2s}
  sandbox: {tools: [bin/kubectl]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec: {kubeconfig: bastion.kubeconfig}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {name: operator-a}
spec: {groups: [support], keys: ["$(cat "$dir/keys/operator-a.pub")"]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {name: operator-b}
spec: {groups: [sre], keys: ["$(cat "$dir/keys/operator-b.pub")"], defaultRole: editor}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {name: auditor-a}
spec: {keys: ["$(cat "$dir/keys/auditor-a.pub")"]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: viewer}
spec:
  kubernetes:
    clusters: [demo]
    serviceAccount: {namespace: bastion-viewer, name: viewer}
  sessions: [shell, exec]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: editor}
spec:
  kubernetes:
    clusters: [demo]
    serviceAccount: {namespace: bastion-editor, name: editor}
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: auditor}
spec:
  audit: {clusters: ["*"], identities: ["*"]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: everybody-looks}
spec: {subjects: [{group: support}, {group: sre}], roles: [viewer], reason: daily work}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: sre-edits}
spec: {subjects: [{group: sre}], roles: [editor], reason: on call}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: auditors}
spec: {subjects: [{identity: auditor-a}], roles: [auditor], reason: review}
YAML
}

ssh_config() {
    cat <<CONFIG
Host bastion
    HostName 127.0.0.1
    Port $port
    IdentityFile $dir/keys/%r
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile $dir/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
    LogLevel ERROR
CONFIG
}

start_daemon() {
    heading 'The daemon'
    show "bastion-audit serve --config $dir/bastion.yaml"
    # Should this script be killed, the daemon is told to stop.
    setsid setpriv --pdeathsig TERM "$BASTION_AUDIT" serve --config "$dir/bastion.yaml" \
        >"$dir/daemon.out" 2>"$dir/daemon.log" 7>&- &
    daemon=$!
    wait_for "$daemon" 30 test -s "$dir/daemon.out"
    cat "$dir/daemon.out"
}

# --- what is shown

demonstrate() {
    heading 'operator-a is a viewer: looking is allowed'
    bastion operator-a kubectl get pods
    heading '... and deleting is refused, by Kubernetes'
    refused bastion operator-a kubectl delete pod web
    heading 'operator-b is an editor, and works in a shell'
    typed operator-b 'kubectl auth whoami | head -n 2' 'kubectl delete pod web --wait=false' exit
    heading 'An auditor looks at what happened, over the same ssh'
    bastion auditor-a bastion sessions
    bastion auditor-a bastion show latest
    heading 'What operator-b did, as it was on the screen'
    bastion auditor-a bastion replay latest
}

# bastion WHO COMMAND...: over real ssh, shown as typed.
bastion() {
    local who=$1
    shift
    show "ssh -F $dir/ssh $who@bastion $*"
    ssh -F "$dir/ssh" "$who@bastion" "$*" </dev/null
}

refused() {
    if "$@" 2>&1; then fail 'this must not work'; fi
}

# typed WHO LINE...: a shell at a terminal, a line at each prompt.
typed() {
    local who=$1
    shift
    show "ssh -F $dir/ssh $who@bastion"
    : >"$dir/screen"
    type_at_prompts "$@" | TERM=xterm ssh -tt -F "$dir/ssh" "$who@bastion" 2>&1 | tee -a "$dir/screen" |
        sed -u 's/\r//; s/\x1b\[?2004[hl]//g'
}

type_at_prompts() {
    local line prompts=0
    for line in "$@"; do
        prompts=$((prompts + 1))
        wait_for "$daemon" 20 prompted "$prompts"
        sleep 0.5 # for the eye
        printf '%s\n' "$line"
    done
}

prompted() { (($(grep -o '] ~\$ ' "$dir/screen" | wc -l) >= $1)); }

stay() {
    local ssh="ssh -F $dir/ssh"
    heading 'It is yours to try (from another terminal)'
    cat <<LINES
A shell as a viewer:            $ssh operator-a@bastion
A shell as an editor:           $ssh operator-b@bastion
What you may do, and why:       $ssh operator-a@bastion bastion roles
                                $ssh operator-a@bastion bastion explain
A credential for a kubectl of
your own (editors only):        $ssh operator-b@bastion bastion credential
What is on record:              $ssh auditor-a@bastion bastion sessions
The last session, with keys
(space, arrows, q):             $ssh -t auditor-a@bastion bastion replay latest
What is configured, and what the daemon's own credential may do in the cluster:
                                $BASTION_AUDIT check --cluster --config $dir/bastion.yaml
The daemon's audit log:         tail -f $dir/state/audit.jsonl | jq .
The cluster's administrator:    KUBECONFIG=$KUBECONFIG $assets/kubectl get pods -A

Ctrl-C stops everything.
LINES
    # Both are waited for: whichever ends first ends the other.
    wait -n "$daemon" "$cluster" || true
    fail 'it ended by itself'
}

# --- the end

ended() {
    local status=$1
    trap '' INT TERM HUP
    # Ctrl-C is how this is meant to end, once everything was shown.
    if ((status == 130)) && [[ -z $once ]]; then status=0; fi
    if ((status != 0)); then last_lines; fi
    printf '\n'
    stop "$daemon" 'the daemon'
    exec 7>&- || true
    stop "$cluster" 'the control plane'
    if ((status != 0)); then
        say "the logs are in $dir"
    elif [[ -n $dir ]]; then
        rm -rf "$dir"
    fi
    exit "$status"
}

stop() {
    local pid=$1 what=$2
    if [[ -z $pid ]]; then return; fi
    say "stopping $what"
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

last_lines() {
    local log
    for log in cluster daemon; do
        if [[ -s $dir/$log.log ]]; then
            printf '\n--- the last lines of %s\n' "$dir/$log.log"
            tail -n 15 "$dir/$log.log"
        fi
    done >&2
}

# wait_for PID SECONDS COMMAND...: until the command succeeds, for as long as the process lives.
wait_for() {
    local pid=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        kill -0 "$pid" 2>/dev/null || fail 'it ended by itself'
        ((SECONDS < deadline)) || fail "not within the time: $*"
        sleep 0.1
    done
}

heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$*"; }
fail() {
    printf '\nquickstart: %s\n' "$1" >&2
    if (($# > 1)); then printf '%s\n' "${@:2}" >&2; fi
    exit 1
}

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi

main "$@"
