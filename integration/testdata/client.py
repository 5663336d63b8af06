"""A client for the tests, on Python's socket module.

usage: client.py MODE ADDR [N] < input

It serves the connection as MODE says and prints what happened as a line of
JSON:

  talk      sends its input, ends, and reads to the end
  read      sends nothing, keeps its direction open, and reads to the end
  abort     sends N bytes, and resets the connection once they are acknowledged
  hold      sends its input, says so, and reads to the end without ending first
"""

import socket
import sys
import threading

from common import data, endpoint, read_all, reset, say, wait_acknowledged


def send_input(conn, result):
    try:
        while p := sys.stdin.buffer.read(1 << 16):
            conn.sendall(p)
        conn.shutdown(socket.SHUT_WR)
    except OSError as e:
        result["send"], result["send_errno"] = str(e), e.errno


def main():
    mode, address = sys.argv[1], sys.argv[2]
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    family, where = endpoint(address)
    conn = socket.socket(family, socket.SOCK_STREAM)
    conn.settimeout(20)
    result = {}
    try:
        conn.connect(where)
    except ConnectionResetError as e:
        # It was made, and reset before connect looked at it.
        say(end=str(e), errno=e.errno, received=0)
        return
    if mode == "talk":
        # Both directions at once: what echoes stops reading when nobody
        # takes its answer.
        sender = threading.Thread(target=send_input, args=(conn, result))
        sender.start()
        read_all(conn, result)
        sender.join()
    elif mode == "read":
        read_all(conn, result)
    elif mode == "abort":
        conn.sendall(data(n))
        wait_acknowledged(conn)
        reset(conn)
    elif mode == "hold":
        conn.sendall(sys.stdin.buffer.read())
        say(sent=True)
        read_all(conn, result)
    else:
        sys.exit("no such mode: " + mode)
    say(**result)


main()
