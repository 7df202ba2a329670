"""prometheus_client: every line of /metrics is what its parser takes, and is named by the rules."""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

base = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(5):
    assert urllib.request.urlopen(f"{base}/plaintext", timeout=30).read() == b"Hello, World!"
# A worker that is slow to say its figures is left out: asked again until none is.
for scrapes in range(1, 30):
    with urllib.request.urlopen(f"{base}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    if all(sample.value == 1 for sample in families["campanile_worker_up"].samples):
        break
assert len(families) > 30, families
for family in families.values():
    assert family.name.startswith("campanile_") and family.documentation, family
    assert family.type in ("counter", "gauge"), family
    for sample in family.samples:
        assert sample.name == family.name + ("_total" if family.type == "counter" else ""), sample
total = sum(sample.value for sample in families["campanile_requests"].samples)
assert total == 5 + scrapes, (total, scrapes)
answers = families["campanile_answers"].samples
assert sum(sample.value for sample in answers if sample.labels["outcome"] == "success") == 4 + scrapes, answers
print("done")
