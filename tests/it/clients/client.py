# Lists, watches and executes in a namespace by the library's usual calls, and says what came of each.
import sys
import threading
import time

from kubernetes import client, config, watch
from kubernetes.stream import stream

namespace = sys.argv[1]
config.load_kube_config()
core = client.CoreV1Api()

print("list:", *sorted(pod.metadata.name for pod in core.list_namespaced_pod(namespace).items))


def change():
    maps = client.CoreV1Api(client.ApiClient())
    time.sleep(1)
    body = {"metadata": {"name": "seen", "labels": {"seen": "yes"}}, "data": {"a": "b"}}
    maps.create_namespaced_config_map(namespace, body)
    maps.patch_namespaced_config_map("seen", namespace, {"data": {"a": "c"}})
    maps.delete_namespaced_config_map("seen", namespace)


changing = threading.Thread(target=change)
changing.start()
watching = watch.Watch()
for event in watching.stream(core.list_namespaced_config_map, namespace, label_selector="seen", timeout_seconds=30):
    print("watch:", event["type"], event["object"].metadata.name, event["object"].data["a"])
    if event["type"] == "DELETED":
        watching.stop()
changing.join()


def execute(command, **more):
    return stream(
        client.CoreV1Api(client.ApiClient()).connect_get_namespaced_pod_exec, "box", namespace, command=command,
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False, **more,
    )


running = execute(["sh", "-c", "read line; echo $line; echo out; echo err >&2; exit 7"])
running.write_stdin("in\n")
out, err = "", ""
while running.is_open():
    running.update(timeout=1)
    out += running.read_stdout() if running.peek_stdout() else ""
    err += running.read_stderr() if running.peek_stderr() else ""
running.close()
print("exec:", repr(out), repr(err), running.returncode)

# In one message, as this library sends it.
sent = bytes(range(256)) * 11719
sent = sent[:3_000_000]
running = execute(["head", "-c", "3000000"], binary=True)
running.write_stdin(sent)
back = b""
while running.is_open():
    running.update(timeout=1)
    back += running.read_stdout() if running.peek_stdout() else b""
running.close()
print("bytes:", len(back), "same" if back == sent else "others")

try:
    core.list_node()
except client.ApiException as refused:
    print("refused:", refused.status, refused.reason)
