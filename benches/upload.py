#!/usr/bin/env python3
"""Uploads: CPU time per MiB of http-server on io_uring, and of the same on epoll, by turns over loopback.

    cargo build --release --example http-server
    benches/upload.py [--rounds 7] [--mib 100] [--connections 4] [--uploads 2]

Each connection sends so many bodies of so many MiB, one after another, to /length, and is told how many bytes came.
Before, a body is sent to /stream, and every byte of it has to come back. What is measured is user and system time of
the server's process, divided by the MiB sent.
"""

import argparse
import random
import socket
import threading

from measure import EXAMPLES, Server, spread

COMMAND = [str(EXAMPLES / "http-server"), "--listen", "127.0.0.1:{port}", "--workers", "1", "--log", "error"]
MIB = 1 << 20


def read_head(reader):
    """The fields of an answer that says 200."""
    status = reader.readline()
    if status != b"HTTP/1.1 200 OK\r\n":
        raise ValueError(f"answered with {status!r}")
    return dict(line.decode().lower().rstrip().split(": ", 1) for line in iter(reader.readline, b"\r\n"))


def head(path, length):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def check(server):
    body = random.randbytes(5 * MIB + 4321)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as stream:
        sender = threading.Thread(target=stream.sendall, args=[head("/stream", len(body)) + body])
        sender.start()
        reader, came = stream.makefile("rb"), []
        read_head(reader)
        while size := int(reader.readline(), 16):
            came.append(reader.read(size))
            reader.readline()
        sender.join()
    if b"".join(came) != body:
        raise SystemExit("what came back is not what was sent")


def measure(server, body, options):
    mistakes = []

    def upload():
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as stream:
                reader = stream.makefile("rb")
                for _ in range(options.uploads):
                    stream.sendall(head("/length", len(body)))
                    stream.sendall(body)
                    told = reader.read(int(read_head(reader)["content-length"]))
                    if told != b"%d\n" % len(body):
                        mistakes.append(f"of {len(body)} bytes came {told!r}")
        except (OSError, ValueError, KeyError) as error:
            mistakes.append(repr(error))

    before = server.cpu()
    clients = [threading.Thread(target=upload) for _ in range(options.connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if mistakes:
        raise SystemExit("\n".join(mistakes))
    return (server.cpu() - before) / (options.connections * options.uploads * len(body) / MIB) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--uploads", type=int, default=2)
    options = parser.parse_args()
    body = random.randbytes(options.mib * MIB)
    with Server(COMMAND + ["--ring", "uring"]) as uring, Server(COMMAND + ["--ring", "poll"]) as poll:
        servers = {"io_uring": uring, "epoll": poll}
        for server in servers.values():
            check(server)
        found = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                found[name].append(measure(server, body, options))
    for name, figures in found.items():
        print(f"{name:10}{spread(figures, 0):24} us of CPU per MiB")
    ratios = [ours / theirs for ours, theirs in zip(found["io_uring"], found["epoll"])]
    print(f"io_uring to epoll, within a round: {spread(ratios)}")


if __name__ == "__main__":
    main()
