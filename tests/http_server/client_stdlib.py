"""http.client: requests of all kinds on one connection."""
import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
large = os.urandom(3_000_000)


def pieces():
    for at in range(0, len(large), 70_001):
        yield large[at:at + 70_001]


def ask(method, path, body=None, **options):
    connection.request(method, path, body, **options)
    response = connection.getresponse()
    return response.status, response.read()


connection.connect()
local = connection.sock.getsockname()
for turn in range(8):
    assert ask("GET", "/plaintext") == (200, b"Hello, World!")
    assert ask("HEAD", "/plaintext") == (200, b"")
    assert ask("GET", "/204") == (204, b"")
    assert ask("GET", "/chunked") == (200, b"chunk-0;chunk-1;chunk-2;")
    assert ask("POST", "/echo", b"abc") == (200, b"abc")
    assert ask("POST", "/echo", large) == (200, large)
    assert ask("POST", "/echo", pieces(), encode_chunked=True,
               headers={"Transfer-Encoding": "chunked"}) == (200, large)
    assert ask("POST", "/stream", large[:50_000]) == (200, large[:50_000])
    assert ask("DELETE", "/json")[0] == 405
    assert ask("GET", "/nowhere")[0] == 404
# All of it on one connection.
assert connection.sock.getsockname() == local
print("done")
