"""One end of a TLS connection for the tests, on Python's ssl module.

usage: tls.py server MODE CERT KEY VERSION [CLIENTCA]
       tls.py client MODE PORT CA VERSION [CERT KEY]

VERSION is 1.2 or 1.3, and nothing else is spoken. A server prints its address
as soon as it listens on 127.0.0.1, and serves one connection; both print what
happened as a line of JSON. A client sends its standard input first. MODE:

  talk      (client) reads as much as it has sent, then ends, and waits for the
            other end
  late      (server) reads to the end, waits a second, replies, and ends
  half      (server) sends 1000 bytes, and waits to be killed
  rude      (server) reads to the end, replies, and closes without close_notify
  reset     (server) sends 1000 bytes, and resets the connection

An end is close_notify: a carrier that ends without it is an error here
("cut"), and the text of any other is what openssl calls it.
"""

import hashlib
import socket
import ssl
import sys
import time

from common import CHUNK, reset, say, wait_acknowledged


def context(side, version):
    c = ssl.SSLContext(side)
    c.minimum_version = c.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    return c


def read_all(conn, result):
    digest, count = hashlib.sha256(), 0
    try:
        while True:
            p = conn.recv(CHUNK)
            if not p:
                result["end"] = "eof"
                break
            digest.update(p)
            count += len(p)
    except ssl.SSLEOFError:
        result["end"] = "cut"
    except OSError as e:
        result["end"] = str(e)
        result["errno"] = e.errno if not isinstance(e, ssl.SSLError) else 0
    result["received"], result["sha256"] = count, digest.hexdigest()


def fail(what):
    raise SystemExit(what)


def end(conn):
    """Sends close_notify alone, and reads on: unwrap would wait for theirs."""
    conn.setblocking(False)
    try:
        conn.unwrap()
    except (ssl.SSLWantReadError, ssl.SSLSyscallError, OSError):
        pass
    conn.settimeout(20)


def main():
    side, mode = sys.argv[1], sys.argv[2]
    result = {}
    if side == "server":
        cert, key, version = sys.argv[3:6]
        c = context(ssl.PROTOCOL_TLS_SERVER, version)
        c.load_cert_chain(cert, key)
        if len(sys.argv) > 6:
            c.load_verify_locations(sys.argv[6])
            c.verify_mode = ssl.CERT_REQUIRED
        server = socket.create_server(("127.0.0.1", 0))
        say(host="127.0.0.1", port=server.getsockname()[1])
        raw, _ = server.accept()
        server.close()
        raw.settimeout(20)
        conn = c.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
    else:
        port, ca, version = sys.argv[3:6]
        c = context(ssl.PROTOCOL_TLS_CLIENT, version)
        c.load_verify_locations(ca)
        if len(sys.argv) > 6:
            c.load_cert_chain(sys.argv[6], sys.argv[7])
        raw = socket.create_connection(("127.0.0.1", int(port)), 20)
        conn = c.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
        result["version"] = conn.version()
        sent = sys.stdin.buffer.read()
        conn.sendall(sent)
    if mode == "talk":
        got = b""
        while len(got) < len(sent):
            got += conn.recv(CHUNK) or fail("an early end")
        try:
            conn.unwrap()  # until close_notify came back
            result["end"] = "eof"
        except OSError as e:
            result["end"] = str(e)
        result["received"], result["sha256"] = len(got), hashlib.sha256(got).hexdigest()
    elif mode in ("late", "rude"):
        read_all(conn, result)
        if mode == "late":
            time.sleep(1)
        conn.sendall(b"late reply to %d bytes" % result["received"])
        if mode == "late":
            end(conn)
    elif mode == "half":
        conn.sendall(bytes(1000))
        say(**result)
        time.sleep(60)
    elif mode == "reset":
        conn.sendall(bytes(1000))
        conn.recv(1)
        wait_acknowledged(conn)
        reset(conn)
    say(**result)


main()
