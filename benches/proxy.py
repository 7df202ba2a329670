#!/usr/bin/env python3
"""The proxy beside nginx: CPU time per request of each, before the same two http-servers, in one run.

    cargo build --release --example proxy --example http-server
    benches/proxy.py [--rounds 5] [--seconds 3] [--connections 64]

Needs nginx and wrk. What is compared is the CPU time of the whole process tree, as a ratio to nginx within a round.
"""

import argparse
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream behind {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://behind; proxy_http_version 1.1; proxy_buffering on;
            proxy_set_header Connection ""; proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def tree(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [below for child in children for below in tree(int(child))]


def cpu(pid):
    def of(one):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    return sum(map(of, tree(pid))) / TICK


def listens(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def measure(process, port, options):
    before = cpu(process.pid)
    text = subprocess.run(
        ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", f"http://127.0.0.1:{port}/plaintext"],
        capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    return (cpu(process.pid) - before) / requests * 1e6, requests / options.seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    examples = ROOT / "target" / "release" / "examples"
    running = []

    def start(*command):
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen([str(part) for part in command], stdout=quiet, stderr=quiet))
        return running[-1]

    with tempfile.TemporaryDirectory() as folder:
        try:
            behind = [free_port(), free_port()]
            for port in behind:
                start(examples / "http-server", "--listen", f"127.0.0.1:{port}", "--workers", 1)
                listens(port)
            ours, theirs = free_port(), free_port()
            to = [part for port in behind for part in ("--to", f"127.0.0.1:{port}")]
            proxy = start(examples / "proxy", "--listen", f"127.0.0.1:{ours}", "--workers", 1, *to)
            os.chmod(folder, 0o755)
            servers = " ".join(f"server 127.0.0.1:{port};" for port in behind)
            config = pathlib.Path(folder) / "nginx.conf"
            config.write_text(NGINX.format(folder=folder, port=theirs, servers=servers))
            nginx = start("nginx", "-c", config, "-p", folder)
            listens(ours)
            listens(theirs)
            ratios = []
            for _ in range(options.rounds):
                (own, own_rate), (other, other_rate) = measure(proxy, ours, options), measure(nginx, theirs, options)
                ratios.append(own / other)
                print(f"proxy {own:6.1f} us/request, {own_rate:7.0f}/s   nginx {other:6.1f}, {other_rate:7.0f}/s   "
                      f"ratio {own / other:.2f}")
            print(f"CPU per request, to nginx: {min(ratios):.2f} to {max(ratios):.2f}, "
                  f"median {sorted(ratios)[len(ratios) // 2]:.2f}")
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


if __name__ == "__main__":
    main()
