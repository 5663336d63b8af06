"""Starts a program with a listening socket, as systemd does.

usage: activate.py ADDR PROGRAM ARGUMENT...

It prints the address. An argument {} becomes the descriptor's number.
"""

import os
import socket
import sys

from common import endpoint, say


def main():
    address, argv = sys.argv[1], sys.argv[2:]
    family, where = endpoint(address)
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind(where)
    server.listen(5)
    if family == socket.AF_UNIX:
        say(path=address)
    else:
        host, port = server.getsockname()[:2]
        say(host=host, port=port)
    server.set_inheritable(True)
    os.execv(argv[0], [a.replace("{}", str(server.fileno())) for a in argv])


main()
