#!/usr/bin/env bash
# Starts a cluster, does with it what the tests rely on, and stops it. Needs jq, expect and util-linux.
#   KUBECTL   which kubectl to try (default: the one that was built)
set -euo pipefail

assets=$("$(dirname "${BASH_SOURCE[0]}")"/build.sh)
work=$(mktemp -d)
fifo=$work/stdin
mkfifo "$fifo"
"$assets/test-cluster" up --dir "$work/cluster" --stdin-eof <"$fifo" >"$work/up.json" &
cluster=$!
exec 8>"$fifo" # closing it is how the cluster is told to stop
finish() {
    exec 8>&-
    wait "$cluster" || true
    rm -rf "$work"
}
trap finish EXIT

began=$(date +%s%N)
until [[ -s $work/up.json ]]; do
    kill -0 "$cluster" || exit 1
    sleep 0.05
done
printf 'ready after %d ms\n' $((($(date +%s%N) - began) / 1000000))
export KUBECONFIG=$(jq -r .kubeconfig "$work/up.json")
audit=$(jq -r .auditLog "$work/up.json")
kubectl=${KUBECTL:-$assets/kubectl}
k() { timeout 60 "$kubectl" "$@"; }
"$kubectl" version | tr '\n' ' '
echo

failures=0
check() { # check NAME WANTED GOT
    if [[ $2 == "$3" ]]; then
        printf 'ok    %s\n' "$1"
    else
        printf 'FAIL  %s: wanted %q, got %q\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}
code() { local rc=0; "$@" >/dev/null 2>&1 || rc=$?; echo "$rc"; }

k run p --image=none --restart=Never >/dev/null
k wait --for=condition=Ready pod/p >/dev/null
check "exec, stdout" "out" "$(k exec p -- sh -c 'echo out; echo err >&2' 2>/dev/null)"
check "exec, stderr" "err" "$(k exec p -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"
check "exec, exit 0" 0 "$(code k exec p -- true)"
check "exec, exit 7" 7 "$(code k exec p -- sh -c 'exit 7')"
check "exec, killed" 137 "$(code k exec p -- sh -c 'kill -9 $$')"
check "exec, no such command" 1 "$(code k exec p -- /no/such)"
check "exec -i ends with stdin" "3" "$(printf 'a\nb\nc\n' | k exec -i p -- wc -l)"
head -c 20000000 /dev/urandom >"$work/random"
sum=$(sha256sum <"$work/random")
check "exec -i, 20 MB there and back" "$sum" "$(k exec -i p -- cat <"$work/random" | sha256sum)"
check "a slow reader loses nothing" "$sum" "$(k exec -i p -- sh -c 'cat > big'  <"$work/random"; k exec p -- cat big | (sleep 2; sha256sum))"
check "a child that holds stdout is not waited for" "x" "$(timeout 10 "$kubectl" exec p -- sh -c 'sleep 55 & echo x')"
check "the environment is the pod's own" "p" "$(k exec p -- sh -c 'echo $HOSTNAME$SSH_AUTH_SOCK$KUBECONFIG')"

cat >"$work/tty.exp" <<'EXPECT'
set timeout 20
set stty_init "rows 33 cols 101"
log_user 0
spawn $env(K) exec -it p -- sh -c "stty size; trap 'stty size' WINCH; echo go; while :; do sleep 0.05; done"
expect "33 101" {} timeout { puts "no first size"; exit 1 }
expect "go"
stty rows 44 cols 122 < $spawn_out(slave,name)
exec kill -WINCH [exp_pid]
expect "44 122" {} timeout { puts "no resize"; exit 1 }
send "\003"
expect eof
puts resized
exit [lindex [wait] 3]
EXPECT
check "exec -it: size, resize, ^C" "resized 130" "$(K=$kubectl expect "$work/tty.exp" | tr '\n' ' ' || true)$(K=$kubectl code expect "$work/tty.exp")"

k cp "$work/random" p:up.bin >/dev/null
check "cp to the pod" "$sum" "$(k exec p -- sha256sum up.bin | sed 's/up.bin/-/')"
k cp p:up.bin "$work/down.bin" >/dev/null 2>&1
check "cp from the pod" "$sum" "$(sha256sum <"$work/down.bin")"

k run ticker --image=none --restart=Never -- sh -c 'i=0; while [ $i -lt 40 ]; do echo tick $i; i=$((i+1)); sleep 0.2; done' >/dev/null
k wait --for=condition=Ready pod/ticker >/dev/null
check "logs" "tick 0" "$(k logs ticker | head -n 1)"
check "logs -f" "tick 20" "$(timeout 20 "$kubectl" logs -f ticker | sed -n '21p')"
check "logs --tail" 2 "$(k logs --tail=2 ticker | wc -l)"
check "Succeeded" Succeeded "$(k wait --for=jsonpath='{.status.phase}'=Succeeded pod/ticker >/dev/null; k get pod ticker -o 'jsonpath={.status.phase}')"

check "run -i attaches" "got hello" "$(echo hello | k run asker -i --rm -q --image=none --restart=Never -- sh -c 'read a; sleep 1; echo got $a' 2>/dev/null)"
k run back --image=none --restart=Never -- sh -c 'while :; do echo beat; sleep 0.2; done' >/dev/null
k wait --for=condition=Ready pod/back >/dev/null
check "attach" "beat" "$(timeout 3 "$kubectl" attach back 2>/dev/null | head -n 1 || true)"

port=$(k run web --image=none --restart=Never -- python3 -u -c '
import http.server, os
open("here", "w").write("served")
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(s.server_port, flush=True); s.serve_forever()' >/dev/null
    k wait --for=condition=Ready pod/web >/dev/null
    until k logs web | grep -qE '^[0-9]+$'; do sleep 0.2; done
    k logs web | head -n 1)
"$kubectl" port-forward --address 127.0.0.1 pod/web ":$port" >"$work/pf" 2>&1 &
forward=$!
until grep -q Forwarding "$work/pf"; do sleep 0.1; done
local_port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' "$work/pf" | head -n 1)
check "port-forward" "served served" "$(curl -s "127.0.0.1:$local_port/here") $(curl -s "127.0.0.1:$local_port/here")"
kill "$forward"
wait "$forward" 2>/dev/null || true

check "debug" "debugged" "$(echo 'echo debugged; exit' | timeout 30 "$kubectl" debug p -q -i --image=none --container=dbg -- sh 2>/dev/null | tail -n 1)"

check "whoami" "admin" "$(k auth whoami -o 'jsonpath={.status.userInfo.username}')"
k create secret generic session-1 >/dev/null
token=$(k create token default --bound-object-kind=Secret --bound-object-name=session-1)
server=$(jq -r .server "$work/up.json")
asks() { curl -s -o /dev/null -w '%{http_code}' --cacert "$(jq -r .ca "$work/up.json")" -H "Authorization: Bearer $token" "$server$1"; }
check "a token is somebody, and may nothing" 403 "$(asks /api/v1/pods)"
k create clusterrolebinding viewer --clusterrole=view --serviceaccount=default:default >/dev/null
sleep 0.5
check "with view it may" 200 "$(asks /api/v1/pods)"
k delete secret session-1 >/dev/null
sleep 11 # the API server's cache of good tokens
check "without its Secret it is nobody" 401 "$(asks /api/v1/pods)"
check "the audit log has the exec" true "$(jq -s 'any(.objectRef.subresource == "exec" and .user.username == "admin")' "$audit")"
check "ValidatingAdmissionPolicy is served" 0 "$(code k get validatingadmissionpolicies)"
check "the kubelet wants a certificate" 56 "$(code curl -sk "https://127.0.0.1:$(k get node test-node -o 'jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}')/healthz")"

k delete pod p back --grace-period=5 >/dev/null
check "a deleted pod is gone" 1 "$(code k get pod p)"

pids=$(jq -r '.pids[]' "$work/up.json")
began=$(date +%s%N)
exec 8>&-
wait "$cluster" || check "exit status" 0 "$?"
printf 'stopped after %d ms\n' $((($(date +%s%N) - began) / 1000000))
left=0
for pid in $pids; do if [[ -d /proc/$pid ]]; then left=$((left + 1)); fi; done
check "no component is left" 0 "$left"
check "no process of a pod is left" 0 "$(grep -lz "^PWD=$work/cluster/pods" /proc/[0-9]*/environ 2>/dev/null | wc -l)"
exit $((failures > 0))
