"""aiohttp: many at once, and bodies that go both ways at the same time."""
import asyncio
import hashlib
import os
import sys

import aiohttp

base = f"http://127.0.0.1:{sys.argv[1]}"
block = os.urandom(1_000_000)


async def blocks(count, digest):
    for _ in range(count):
        digest.update(block)
        yield block


async def through(session, path, count):
    sent, received = hashlib.sha256(), hashlib.sha256()
    async with session.post(base + path, data=blocks(count, sent)) as response:
        assert response.status == 200, response
        async for piece in response.content.iter_any():
            received.update(piece)
    assert sent.digest() == received.digest(), path


async def get(session):
    async with session.get(base + "/plaintext") as response:
        assert (response.status, await response.text()) == (200, "Hello, World!")


async def main():
    timeout = aiohttp.ClientTimeout(total=40)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await asyncio.gather(*(get(session) for _ in range(500)))
        await asyncio.gather(*(through(session, "/stream", 4) for _ in range(10)))
        await through(session, "/stream", 40)
        await through(session, "/echo", 10)
        async with session.post(base + "/echo", data=b"abc", expect100=True) as response:
            assert await response.read() == b"abc"
        async with session.post(base + "/echo", data={"a": "b", "file": block}) as response:
            assert block in await response.read()
    print("done")


asyncio.run(main())
