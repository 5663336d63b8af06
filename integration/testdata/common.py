"""What server.py and client.py have in common."""

import fcntl
import hashlib
import json
import os
import socket
import struct
import termios
import time

CHUNK = 1 << 16


def data(n):
    """The n bytes that both sides know."""
    block = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(CHUNK))
    return (block * (n // CHUNK + 1))[:n]


def endpoint(address):
    """The family and the address of "HOST PORT", "@NAME" or "/PATH"."""
    if address[0] == "@":
        return socket.AF_UNIX, "\0" + address[1:]
    if address[0] == "/":
        return socket.AF_UNIX, address
    host, port = address.rsplit(" ", 1)
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


def read_all(conn, result):
    """Reads until the connection says how its other direction ended."""
    digest, count = hashlib.sha256(), 0
    try:
        while True:
            p = conn.recv(CHUNK)
            if not p:
                result["end"] = "eof"
                break
            digest.update(p)
            count += len(p)
    except OSError as e:
        result["end"] = os.strerror(e.errno) if e.errno else str(e)
        result["errno"] = e.errno
    result["received"], result["sha256"] = count, digest.hexdigest()


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def wait_acknowledged(conn):
    """Waits until the other kernel has what was sent (SIOCOUTQ, tcp(7))."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        left = struct.unpack("i", fcntl.ioctl(conn, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        if left == 0:
            return
        time.sleep(0.001)
    raise TimeoutError("not acknowledged")


def say(**what):
    print(json.dumps(what), flush=True)
