"""A client that has proven who it is and then says what no client says, by paramiko.

hostile.py PORT USER PRIVATE_KEY window|channels
"""

import sys
import time

import paramiko
from paramiko.common import MSG_CHANNEL_OPEN, MSG_CHANNEL_WINDOW_ADJUST, MSG_KEXINIT

CHANNELS = 50_000


def dial():
    transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
    transport.connect(username=sys.argv[2], pkey=paramiko.Ed25519Key.from_private_key_file(sys.argv[3]))
    return transport


def message(kind, *rest):
    said = paramiko.Message()
    said.add_byte(bytes([kind]))
    for one in rest:
        (said.add_int if isinstance(one, int) else said.add_string)(one)
    return said


def window(transport):
    """Says again and again that the window is 4 GiB larger."""
    channel = transport.open_session()
    channel.exec_command("cat")
    for _ in range(100):
        transport._send_message(message(MSG_CHANNEL_WINDOW_ADJUST, channel.remote_chanid, 0xFFFFFFFF))
    time.sleep(0.5)
    channel.sendall(b"still here\n")
    channel.shutdown_write()
    return channel.makefile().read().decode().strip() or "cut"


def channels(transport):
    """Asks for new keys, never goes on with them, and opens channels meanwhile."""
    said = paramiko.Message()
    said.add_byte(bytes([MSG_KEXINIT]))
    said.add_bytes(bytes(16))
    cipher = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com"
    for names in ["curve25519-sha256", "ssh-ed25519", cipher, cipher, "none", "none", "none", "none", "", ""]:
        said.add_string(names)
    said.add_boolean(False)
    said.add_int(0)
    # What the server answers is not for paramiko, which would go on with it.
    transport._handler_table = {**transport._handler_table, MSG_KEXINIT: lambda *_: None}
    transport._send_message(said)
    sent = 0
    try:
        for sent in range(CHANNELS):
            transport._send_message(message(MSG_CHANNEL_OPEN, "session", sent, 1 << 21, 1 << 15))
    except (OSError, EOFError, paramiko.SSHException):
        return "cut"
    time.sleep(2)
    return f"{sent + 1} sent"


transport = dial()
try:
    print({"window": window, "channels": channels}[sys.argv[4]](transport))
except (OSError, EOFError, paramiko.SSHException) as error:
    print("cut", error)
