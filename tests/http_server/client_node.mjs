// node's fetch: many at once, uploads of a length not told before, and bodies both ways at the same time.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

const base = `http://127.0.0.1:${process.argv[2]}`;
const large = randomBytes(3_000_000);

function pieces() {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= large.length) return controller.close();
      controller.enqueue(new Uint8Array(large.subarray(at, (at += 65_537))));
    },
  });
}

async function bytes(response) {
  assert.equal(response.status, 200);
  return Buffer.from(await response.arrayBuffer());
}

for (let turn = 0; turn < 5; turn++) {
  assert.deepEqual(await (await fetch(base + "/json")).json(), { message: "Hello, World!" });
  assert.equal((await fetch(base + "/", { method: "HEAD" })).status, 200);
  assert.equal((await fetch(base + "/204")).status, 204);
  assert.equal(await (await fetch(base + "/chunked")).text(), "chunk-0;chunk-1;chunk-2;");
  assert.ok(large.equals(await bytes(await fetch(base + "/echo", { method: "POST", body: large }))));
  for (const path of ["/echo", "/stream"]) {
    const response = await fetch(base + path, { method: "POST", body: pieces(), duplex: "half" });
    assert.ok(large.equals(await bytes(response)), path);
  }
  const refused = await fetch(base + "/json", { method: "POST", body: "x" });
  assert.equal(refused.status, 405);
  await refused.text();
}
const answers = await Promise.all(
  Array.from({ length: 50 }, async (_, n) => {
    const body = large.subarray(0, 1000 * n + 1);
    return body.equals(await bytes(await fetch(base + "/echo", { method: "POST", body })));
  }),
);
assert.ok(answers.every(Boolean));
console.log("done");
