# shellcheck shell=bash disable=SC2016,SC2094
# Every verb of kubectl that a control plane can serve, in $NS, where the pods box and web wait.
# Each says on a line what came of it. $OLD is `yes` for a kubectl from before 1.30.
set -u
cd "$(mktemp -d)" || exit
k() { kubectl -n "$NS" "$@"; }
# The first line of what goes on without end.
first() {
    : > first
    "$@" <&0 > first 2> /dev/null &
    local ends=$((SECONDS + 30))
    until [ -s first ] || [ "$SECONDS" -gt "$ends" ]; do sleep 0.1; done
    kill $! 2> /dev/null
    wait $! 2> /dev/null
    head -n 1 first
}
say() { printf '%s: %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ' | sed 's/ *$//')"; }

say get "$(k get pod box -o 'jsonpath={.status.phase}')"
say table "$(k get pods box web | awk '{print $1, $3}')"
say describe "$(k describe pod box | sed -n 's/^Node: *//p')"

cat > web.yaml <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: served}
spec:
  replicas: 2
  selector: {matchLabels: {app: served}}
  template:
    metadata: {labels: {app: served}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: none, command: [sleep, "3600"]}]
YAML
say apply "$(k apply -f web.yaml)"
say 'rollout status' "$(k rollout status deployment/served --timeout=60s | tail -n 1)"
sed -i 's/replicas: 2/replicas: 3/' web.yaml
say diff "$(k diff -f web.yaml | grep -c '^[+-]  replicas: [23]'; k diff -f web.yaml > /dev/null; echo "status $?")"
say 'apply again' "$(k apply -f web.yaml)"
say patch "$(k patch deployment served -p '{"metadata": {"labels": {"patched": "yes"}}}')"
say 'get -l' "$(k get deployments -l patched=yes -o name)"
say scale "$(k scale deployment served --replicas=1)"
say 'rollout history' "$(k rollout history deployment served | grep -c '^1 ')"
say 'create' "$(k create configmap made --from-literal=a=b --dry-run=server -o 'jsonpath={.data.a}')"
say 'delete --wait' "$(k delete deployment served --wait --cascade=foreground | cut -d' ' -f1-3; k get deployment served 2>&1)"

say logs "$(k logs web | head -n 1 | sed 's/[0-9][0-9]*/N/')"
say 'logs -f' "$(first kubectl -n "$NS" logs -f box)"
say exec "$(k exec box -- sh -c 'echo out; echo err >&2; exit 7' 2> err; echo "$?"; head -n 1 err)"
say 'exec -i' "$(head -c 2000000 /dev/urandom > in; k exec -i box -- cat < in | cmp - in && echo same)"
mkdir dir && printf one > dir/one && head -c 300000 in > dir/two
say cp "$(k cp dir "box:$PLACE" > /dev/null 2>&1 && k cp "box:$PLACE/two" back > /dev/null 2>&1 && cmp dir/two back && echo same)"
k exec box -- rm -r "$PLACE"
say attach "$( (echo word; sleep 2) | first kubectl -n "$NS" attach -i box)"
say run "$(echo hello | k run asker -i --rm --quiet --image=none --restart=Never --command -- sh -c 'read a; sleep 1; echo got $a' 2> /dev/null |
    head -n 1)"

port=$(k logs web | head -n 1)
k port-forward pod/web ":$port" > forwarding 2>&1 &
forwarding=$!
for _ in $(seq 100); do grep -q Forwarding forwarding && break; sleep 0.1; done
near=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' forwarding | head -n 1)
fetch() { exec 3<> "/dev/tcp/127.0.0.1/$near" && printf 'GET /%s HTTP/1.0\r\n\r\n' "$1" >&3 && tail -n 1 <&3; exec 3>&-; }
say port-forward "$(fetch here; fetch here)"
kill "$forwarding"
wait "$forwarding" 2> /dev/null

if [ "$OLD" = yes ]; then
    say debug "$(echo 'echo debugged; exit' | timeout 30 kubectl -n "$NS" debug box --quiet -i --image=none --copy-to=copy --container=dbg -- sh 2> /dev/null |
        tail -n 1; k delete pod copy --wait=false > /dev/null)"
else
    say debug "$(echo 'echo debugged; exit' | timeout 30 kubectl -n "$NS" debug box --quiet -i --image=none --container=dbg -- sh 2> /dev/null | tail -n 1)"
fi
say top "$(k top pods 2>&1; echo "$?")"
say 'auth can-i' "$(k auth can-i create pods; k auth can-i list nodes 2> /dev/null)"
say 'auth can-i --list' "$(k auth can-i --list | grep -c '^pods/exec')"
say api-resources "$(k api-resources --api-group=apps -o name | sort)"
say api-versions "$(k api-versions | grep -x apps/v1)"
say explain "$(k explain pod.spec.nodeName | grep -c '^FIELD')"
say refused "$(k get secrets -n kube-system 2>&1 | cut -c1-53)"
say 'get -w' "$(first kubectl -n "$NS" get pod box -w -o name)"
say 'get --raw' "$(k get --raw "/api/v1/namespaces/$NS/pods/box" | grep -c '"name":"box"')"
