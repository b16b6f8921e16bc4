"""What paramiko does with a bastion: a line for each thing that it can do.

matrix.py PORT USER PRIVATE_KEY HOST_KEY
matrix.py PORT USER PRIVATE_KEY HOST_KEY CERTIFICATE   with it, and only the first of them
"""

import base64
import hashlib
import os
import sys
import threading
import time

import paramiko

BULK = int(os.environ.get("BASTION_TEST_BULK_MIB", 32)) << 20


def dial(rekey=None):
    client = paramiko.SSHClient()
    kind, key = open(sys.argv[4]).read().split()[:2]
    name = f"[127.0.0.1]:{sys.argv[1]}"
    client.get_host_keys().add(name, kind, paramiko.Ed25519Key(data=base64.b64decode(key)))
    own = paramiko.Ed25519Key.from_private_key_file(sys.argv[3])
    if len(sys.argv) > 5:
        own.load_certificate(sys.argv[5])
    client.connect(
        "127.0.0.1",
        port=int(sys.argv[1]),
        username=sys.argv[2],
        pkey=own,
        look_for_keys=False,
        allow_agent=False,
        timeout=10,
    )
    if rekey:
        client.get_transport().packetizer.REKEY_BYTES = rekey
    return client


def say(what, ok, *seen):
    print(what if ok else f"{what} FAILED: {seen}", flush=True)


def run(client, command, sent=b""):
    stdin, stdout, stderr = client.exec_command(command)
    stdin.write(sent)
    stdin.channel.shutdown_write()
    return stdout.read(), stderr.read(), stdout.channel.recv_exit_status()


def execute(client):
    seen = run(client, "echo out; echo err >&2; exit 7")
    say("exec", seen == (b"out\n", b"err\n", 7), seen)


def terminal(client):
    channel = client.get_transport().open_session()
    channel.get_pty("xterm", 100, 30)
    channel.exec_command("stty -echo; stty size; read line; stty size")
    file = channel.makefile()
    first = file.readline().strip()
    channel.resize_pty(120, 40)
    time.sleep(0.2)
    channel.send(b"go\n")
    second = file.readline().strip()
    say("terminal", (first, second) == ("30 100", "40 120"), first, second)


def carry(client, name):
    sent = os.urandom(BULK)
    stdin, stdout, _ = client.exec_command("cat")

    def write():
        stdin.write(sent)
        stdin.channel.shutdown_write()

    writing = threading.Thread(target=write)
    writing.start()
    digest = hashlib.sha256()
    while piece := stdout.read(1 << 16):
        digest.update(piece)
    writing.join()
    say(name, digest.digest() == hashlib.sha256(sent).digest())


def half_close(client):
    seen = run(client, "cat; sleep 0.3; echo after", b"in")
    say("half-close", seen[0] == b"inafter\n", seen)


def stalled(client):
    _, stdout, _ = client.exec_command(f"head -c {BULK} /dev/zero")
    time.sleep(1)
    other = run(client, "echo other")[0]
    taken = 0
    while piece := stdout.read(1 << 16):
        taken += len(piece)
    say("stalled", (other, taken) == (b"other\n", BULK), other, taken)


def fifty(client):
    seen = [run(client, f"echo {n}")[0] for n in range(50)]
    say("fifty", seen == [f"{n}\n".encode() for n in range(50)], seen)


first = dial()
execute(first)
if len(sys.argv) > 5:
    sys.exit()
terminal(first)
carry(first, "bulk")
first.close()
second = dial(rekey=1 << 20)
carry(second, "rekey")
half_close(second)
stalled(second)
fifty(second)
second.close()
