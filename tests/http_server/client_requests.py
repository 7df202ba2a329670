"""requests: a session that is kept, uploads from generators, downloads in pieces."""
import io
import os
import sys

import requests

base = f"http://127.0.0.1:{sys.argv[1]}"
large = os.urandom(5_000_000)
session = requests.Session()
session.trust_env = False


def pieces():
    for at in range(0, len(large), 100_003):
        yield large[at:at + 100_003]


for turn in range(5):
    assert session.get(base + "/json", timeout=30).json() == {"message": "Hello, World!"}
    assert session.head(base + "/", timeout=30).status_code == 200
    assert session.get(base + "/chunked", timeout=30).text == "chunk-0;chunk-1;chunk-2;"
    assert session.post(base + "/echo", data=large, timeout=30).content == large
    assert session.post(base + "/echo", data=pieces(), timeout=30).content == large
    assert session.post(base + "/echo", data=io.BytesIO(large), timeout=30).content == large
    fields = session.get(base + "/headers", headers={"X-Field": "value"}, timeout=30).text
    assert "X-Field: value\n" in fields, fields
    with session.post(base + "/echo", data=large, stream=True, timeout=30) as response:
        assert b"".join(response.iter_content(10_007)) == large
    refused = session.post(base + "/echo", data=b"x", headers={"Expect": "something-else"}, timeout=30)
    assert refused.status_code in (200, 417), refused
    assert session.put(base + "/echo", data=b"x", timeout=30).status_code == 405
print("done")
