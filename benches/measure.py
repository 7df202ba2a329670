"""What the scripts beside it share: starting a server, its processor time, and figures with their range."""

import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples"
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A process that listens on a port, from `with` to its end."""

    def __init__(self, command, environment=None):
        self.port = free_port()
        self.command = [part.replace("{port}", str(self.port)) for part in command]
        self.environment = {**os.environ, "PORT": str(self.port), **(environment or {})}

    def __enter__(self):
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, env=self.environment, stdout=quiet, stderr=quiet)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise SystemExit(f"nothing listens on port {self.port}: {' '.join(self.command)}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu(self):
        """Seconds of user and system time of the process and all below it."""
        def of(pid):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return (int(fields[11]) + int(fields[12])) / TICK + sum(of(int(child)) for child in children)
        return of(self.process.pid)


def spread(figures, digits=2):
    """The median, with the least and the most."""
    ordered = sorted(figures)
    return (f"{ordered[len(ordered) // 2]:.{digits}f} "
            f"({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})")
