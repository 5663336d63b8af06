"""A server for the tests, on Python's socket module.

usage: server.py MODE ADDR [N]

It prints its address as soon as it listens, serves one connection as MODE
says, and prints what happened as a line of JSON:

  echo      sends back what comes, until the end of file, then ends
  sink      reads until it knows how the connection ended, and says nothing
  late      reads to the end of file, waits a second, then replies
  source    sends N bytes, ends, then reads to the end of file
  abort     sends N bytes, and resets the connection once they are acknowledged
  cut       reads N bytes, and resets the connection
  full      fills its own queue, and accepts nobody (until it is killed)
  silent    accepts, and does nothing (until it is killed)
"""

import hashlib
import socket
import sys
import time

from common import CHUNK, data, endpoint, read_all, reset, say, wait_acknowledged


def main():
    mode, address = sys.argv[1], sys.argv[2]
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    family, where = endpoint(address)
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind(where)
    server.listen(0 if mode == "full" else 5)
    if family != socket.AF_UNIX:
        where = server.getsockname()[:2]
        say(host=where[0], port=where[1])
    else:
        say(path=address)
    if mode == "full":
        fill(server, family)
    conn, _ = server.accept()
    server.close()
    conn.settimeout(20)
    result = {}
    if mode == "echo":
        digest, count = hashlib.sha256(), 0
        while True:
            p = conn.recv(CHUNK)
            if not p:
                break
            digest.update(p)
            count += len(p)
            conn.sendall(p)
        conn.shutdown(socket.SHUT_WR)
        result = {"end": "eof", "received": count, "sha256": digest.hexdigest()}
    elif mode == "sink":
        read_all(conn, result)
    elif mode == "late":
        read_all(conn, result)
        time.sleep(1)
        conn.sendall(b"late reply to %d bytes" % result["received"])
    elif mode == "source":
        try:
            conn.sendall(data(n))
            conn.shutdown(socket.SHUT_WR)
        except OSError as e:
            result["send"], result["send_errno"] = str(e), e.errno
        read_all(conn, result)
    elif mode == "abort":
        conn.sendall(data(n))
        wait_acknowledged(conn)
        reset(conn)
    elif mode == "cut":
        left = n
        while left > 0:
            left -= len(conn.recv(min(left, CHUNK)))
        reset(conn)
    elif mode == "silent":
        time.sleep(60)
    else:
        sys.exit("no such mode: " + mode)
    say(**result)


def fill(server, family):
    """Connects until a connection does not succeed at once."""
    waiting = []
    for _ in range(10):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(0.2)
        waiting.append(s)
        try:
            s.connect(server.getsockname())
        except TimeoutError:
            say(full=True)
            break
    time.sleep(60)


main()
