"""A WebSocket client that writes every byte of RFC 6455 by itself.

usage: wsclient.py HOST PORT PATH

It sends one byte at a time through the handshake, then frames of each form,
reads them back, closes, and prints what it saw.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def exactly(conn, n):
    got = b""
    while len(got) < n:
        p = conn.recv(n - len(got))
        if not p:
            raise EOFError(f"the end after {len(got)} of {n} bytes")
        got += p
    return got


def frame(first, payload):
    n = len(payload)
    if n < 126:
        head = struct.pack("!BB", first, 0x80 | n)
    elif n < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, n)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, n)
    key = os.urandom(4)
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def read_frame(conn):
    first, second = exactly(conn, 2)
    n = second & 0x7F
    if second & 0x80:
        raise ValueError("a server's frame with a mask")
    if n == 126:
        (n,) = struct.unpack("!H", exactly(conn, 2))
    elif n == 127:
        (n,) = struct.unpack("!Q", exactly(conn, 8))
    return first, exactly(conn, n)


def main():
    host, port, path = sys.argv[1:]
    conn = socket.create_connection((host, int(port)), timeout=10)
    key = base64.b64encode(os.urandom(16))
    request = (
        b"GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n"
        % (path.encode(), host.encode(), port.encode(), key)
    )
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(len(request)):
        conn.sendall(request[i : i + 1])
    head = b""
    while b"\r\n\r\n" not in head:
        head += exactly(conn, 1)
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    result = {"status": int(head.split()[1]), "accepted": b": " + accept in head}

    sizes = [0, 1, 125, 126, 65535, 65536, 200000]
    sent = b""
    for size in sizes:
        payload = os.urandom(size)
        cut = size // 3
        conn.sendall(frame(0x02, payload[:cut]))
        conn.sendall(frame(0x89, b"ping"))
        conn.sendall(frame(0x80, payload[cut:]))
        sent += payload
    back, pongs = b"", 0
    while len(back) < len(sent) or pongs < len(sizes):
        first, payload = read_frame(conn)
        if first == 0x8A and payload == b"ping":
            pongs += 1
        elif first == 0x82 and len(payload) <= 1 << 16:
            back += payload
        else:
            raise ValueError(f"a frame {first:#x} of {len(payload)} bytes")
    result["same"], result["pongs"] = back == sent, pongs
    conn.sendall(frame(0x88, struct.pack("!H", 1000) + b"bye"))
    first, payload = read_frame(conn)
    result["closed"] = struct.unpack("!H", payload[:2])[0] if first == 0x88 else first
    result["end"] = "eof" if conn.recv(1) == b"" else "more"
    print(json.dumps(result))


main()
