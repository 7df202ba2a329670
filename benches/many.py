#!/usr/bin/env python3
"""Many connections: a server's CPU time per request with 64 to 10,000 of them, all of them active, by turns.

    cargo build --release --example http-server
    ulimit -n 20000
    benches/many.py [--rounds 5] [--seconds 3] [-- COMMAND ...]

COMMAND is any server that answers GET /plaintext with `Hello, World!`; `{port}` in it is replaced, and PORT is set.
Needs wrk. What is measured is user and system time of the server's process tree, accepting the connections included,
divided by the requests that wrk counted. The answer is compared before, and any error of wrk's ends the run.
"""

import argparse
import re
import resource
import subprocess
import urllib.request

from measure import EXAMPLES, Server, spread

CONNECTIONS = [64, 512, 4096, 10000]
OURS = [str(EXAMPLES / "http-server"), "--listen", "127.0.0.1:{port}", "--workers", "1",
        "--max-connections", "11000", "--log", "error"]


def measure(server, connections, seconds):
    url = f"http://127.0.0.1:{server.port}/plaintext"
    answer = urllib.request.urlopen(url, timeout=10)
    if (answer.status, answer.read()) != (200, b"Hello, World!") or not answer.headers["Date"]:
        raise SystemExit(f"{url} is not answered as it has to be")
    before = server.cpu()
    told = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", url],
                          capture_output=True, text=True, check=True).stdout
    used = server.cpu() - before
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(told)
    return used / int(re.search(r"(\d+) requests in", told).group(1)) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("command", nargs="*", default=OURS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < max(CONNECTIONS) + 100:
        if hard != resource.RLIM_INFINITY and hard < max(CONNECTIONS) + 100:
            raise SystemExit(f"{max(CONNECTIONS)} connections need more descriptors than {hard}: raise `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(CONNECTIONS) + 1000 if hard < 0 else hard, hard))
    found = {connections: [] for connections in CONNECTIONS}
    with Server(options.command) as server:
        measure(server, CONNECTIONS[0], 1)
        for _ in range(options.rounds):
            for connections, figures in found.items():
                figures.append(measure(server, connections, options.seconds))
    print(f"{'connections':>11}  {'us/request: median (range)':28}  to {CONNECTIONS[0]}, within a round")
    for connections, figures in found.items():
        ratios = [figure / fewest for figure, fewest in zip(figures, found[CONNECTIONS[0]])]
        print(f"{connections:11}  {spread(figures):28}  {spread(ratios)}")


if __name__ == "__main__":
    main()
