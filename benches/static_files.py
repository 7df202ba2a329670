#!/usr/bin/env python3
"""Static files: CPU time per request of http-server and nginx, by turns, over loopback, one worker each.

    cargo build --release --example http-server
    benches/static_files.py [--rounds N] [--secs S]

Needs wrk and nginx. What is measured is user and system time of the server's process tree (/proc/PID/stat), divided by
the requests that wrk counted. Each answer is compared byte for byte before, and wrk's errors are shown.
"""
import argparse, os, re, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

SIZES = [("1KiB", 1 << 10, 64), ("100KiB", 100 << 10, 64), ("10MiB", 10 << 20, 16)]
HERE = os.path.dirname(os.path.abspath(__file__))


def ticks(pid):
    """User and system time of a process and its children, in seconds."""
    total = 0.0
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{other}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(other) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx(root, scratch, port):
    text = f"""daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log;
    events {{ worker_connections 4096; }}
    http {{ include /etc/nginx/mime.types; sendfile on; tcp_nopush on; access_log off; keepalive_requests 100000000;
      open_file_cache max=1000 inactive=60s; open_file_cache_valid 1s;
      client_body_temp_path {scratch}/b; proxy_temp_path {scratch}/p; fastcgi_temp_path {scratch}/f;
      uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
      server {{ listen 127.0.0.1:{port} backlog=4096; location /static/ {{ alias {root}/; }} }} }}"""
    path = os.path.join(scratch, "nginx.conf")
    open(path, "w").write(text)
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-p", scratch, "-c", path]


def campanile(root, _, port):
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
    binary = os.path.join(target, "release", "examples", "http-server")
    return [binary, "--listen", f"127.0.0.1:{port}", "--workers", "1", "--root", root, "--log", "warn"]


def measure(command, port, name, connections, secs):
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/static/{name}"
        for _ in range(200):
            try:
                body = urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.02)
        else:
            sys.exit(f"{command[0]} does not answer")
        wrk = ["wrk", "-t1", f"-c{connections}", f"-d{secs}s", url]
        subprocess.run(wrk[:3] + ["-d1s", url], capture_output=True, check=True)
        before = ticks(server.pid)
        told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
        used = ticks(server.pid) - before
        requests = int(re.search(r"(\d+) requests in", told).group(1))
        errors = re.findall(r"(?:Socket errors|Non-2xx).*", told)
        return body, 1e6 * used / requests, requests / secs, errors
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(15)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--secs", type=int, default=3)
    options = arguments.parse_args()
    servers = {"campanile": campanile, "nginx": nginx}
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for name, size, _ in SIZES:
            open(os.path.join(root, name), "wb").write(os.urandom(size))
            os.utime(os.path.join(root, name), (1_700_000_000, 1_700_000_000))
        print(f"{'file':8}{'server':12}{'us/request: median (range)':32}{'requests/s':>12}")
        for name, _, connections in SIZES:
            content = open(os.path.join(root, name), "rb").read()
            found = {server: [] for server in servers}
            for _ in range(options.rounds):
                for server, command in servers.items():
                    with tempfile.TemporaryDirectory() as scratch:
                        os.chmod(scratch, 0o777)
                        port = free_port()
                        body, *rest = measure(command(root, scratch, port), port, name, connections, options.secs)
                        assert body == content, f"{server} sends something else for {name}"
                        found[server].append(rest)
            for server, rounds in found.items():
                times = sorted(round[0] for round in rounds)
                rates = sorted(round[1] for round in rounds)
                middle = len(times) // 2
                figure = f"{times[middle]:.1f} ({times[0]:.1f}-{times[-1]:.1f})"
                errors = " ".join(error for round in rounds for error in round[2])
                print(f"{name:8}{server:12}{figure:32}{rates[middle]:12.0f} {errors}")


main()
