"""Invalidating a tag: how long the asker waits, what a bystander notices, when the memory is back.

For each size the module and the classical Lua way take turns, each time in a fresh server. Among the tag's members
stand other entries, one to four, which must survive. The bystander (probe.py) measures twice: while the tag is
invalidated and its keys are reclaimed, and for the same time afterwards, while nothing happens; the second window is
what "idle" means on this machine at this moment.
"""

import json
import os
import subprocess
import sys
import time

import lab

SIZES = [1_000, 10_000, 100_000, 1_000_000]
QUICK_SIZES = [1_000, 10_000]
ROUNDS = 3
OTHERS_EVERY = 4  # after so many members comes one entry that is not one

REPLY_BOUND_MS = 1.0  # the invalidation's reply, at any size
STALL_BOUND_MS = 1.0  # how much worse than idle the bystander's worst may be: a reclaiming slice and its surroundings

WINDOW_S = 1.0  # the least time the bystander measures
TAIL_S = 0.5  # and for so long after the last key is gone, to work off requests that came due in a stall
SAMPLES = 100  # entries read after the reply
TAGS = lab.TAGS[1:]  # the company is the tag to be invalidated
TAG = b"company:000042"
PROBE_KEY = "bystander"


def run(bench):
    count = bench.rounds(ROUNDS)
    bench.report.text(
        "## Invalidating a tag",
        "",
        f"Entries with 4 tags; figures in ms, medians of {count} rounds (in brackets the worst of all). The other"
        " client sends a native `GET` every millisecond, during the invalidation and the reclaiming, and as long"
        " without.",
    )
    head = ["members", "way", "reply, best", "reply", "other client p99", "idle p99", "other client worst"]
    head += ["idle worst", "reclaimed after", "bounds"]
    rows = []
    for size in QUICK_SIZES if bench.quick else SIZES:
        contenders = [lab.Expcache(), lab.LuaSets()]
        results = {contender.name: [] for contender in contenders}
        for _ in range(count):
            for contender in contenders:
                results[contender.name].append(measure(bench, contender, size))
        rows += [row(bench.report, name, size, rounds) for name, rounds in results.items()]
    bench.report.table(head, rows)
    bench.report.text(
        f"Bounds: the median reply under {REPLY_BOUND_MS:g} ms, and the other client's worst at most"
        f" {STALL_BOUND_MS:g} ms above the idle one (undecided if it was as bad in some idle round)."
    )


def row(report, name, size, rounds):
    column = {key: [one[key] for one in rounds] for key in rounds[0]}
    cells = [f"{size:,}", name, f"{min(column['reply']):.2f}", f"{lab.median(column['reply']):.2f}"]
    cells += [f"{lab.median(column[key]):.2f}" for key in ("busy p99", "idle p99")]
    cells += [f"{lab.median(column[key]):.2f} ({max(column[key]):.2f})" for key in ("busy worst", "idle worst")]
    cells.append(f"{lab.median(column['reclaimed']):.0f}")
    return cells + [verdicts(report, size, column) if name == lab.Expcache.name else ""]


def verdicts(report, size, column):
    reply = lab.median(column["reply"])
    quick = report.verdict(f"invalidate {size:,}: reply {reply:.2f} ms", reply < REPLY_BOUND_MS)
    worst = lab.median(column["busy worst"])
    held = worst <= lab.median(column["idle worst"]) + STALL_BOUND_MS
    if not held and worst <= max(column["idle worst"]):
        held = None  # nothing was going on, and a request took as long
    calm = report.verdict(f"invalidate {size:,}: other client {worst:.2f} ms", held)
    return f"{quick}, {calm}"


def measure(bench, contender, size):
    """One round: load, invalidate under observation, then observe the same server idle."""
    with bench.server() as server:
        fill(server, contender, size)
        with server.connect() as connection, Probe(server) as probe:
            time.sleep(lab.SETTLE_S)
            start = time.perf_counter()
            probe.start()
            result = invalidate(connection, contender, size)
            await_end(start)
            busy = probe.end()
            duration = time.perf_counter() - start
            idle = observe_idle(connection, probe, duration)
    result.update({f"busy {key}": busy[key] for key in ("p99", "worst")})
    result.update({f"idle {key}": idle[key] for key in ("p99", "worst")})
    return result


def fill(server, contender, size):
    """`size` entries with the tag, others between them, and the bystander's native key."""
    with server.connect() as connection:
        connection.call("SET", PROBE_KEY, lab.VALUE)
        lab.load(connection, entries(connection, contender, size))


def entries(connection, contender, size):
    one_more = [("company", 1000)] + TAGS
    template = contender.set_template(connection, one_more)
    draw = lab.tag_draw(TAGS)
    company, other = 42, 43
    number = 0
    for member in range(1, size + 1):
        yield template % (number, company, *draw())
        number += 1
        if member % OTHERS_EVERY == 0:
            yield template % (number, other, *draw())
            number += 1


def invalidate(connection, contender, size):
    """Invalidates, checks the number and that no member can be read any more, and waits for the keys to be gone."""
    keys_before = connection.call("DBSIZE")
    command = contender.invalidate_command(connection, TAG)
    start = time.perf_counter()
    connection.send(command)
    count = connection.reply()
    reply_ms = 1000 * (time.perf_counter() - start)
    if count != size:
        raise SystemExit(f"{contender.name}: {size} members, and the invalidation says {count}")
    check_reads(connection, contender, size)
    lab.wait_for(lambda: connection.call("DBSIZE"), keys_before - size - contender.keys_per_tag)
    return {"reply": reply_ms, "reclaimed": 1000 * (time.perf_counter() - start)}


def check_reads(connection, contender, size):
    """Straight after the reply: members spread over the whole are gone, the entries between them are not."""
    total = size + size // OTHERS_EVERY
    numbers = [i * total // SAMPLES for i in range(SAMPLES)]
    connection.send(b"".join(lab.resp(contender.get, lab.KEY % number) for number in numbers))
    for number in numbers:
        is_member = number % (OTHERS_EVERY + 1) != OTHERS_EVERY
        if (connection.reply() is None) != is_member:
            raise SystemExit(f"{contender.name}: entry {number} {'is still there' if is_member else 'is gone'}")


def observe_idle(connection, probe, duration_s):
    """The same time once more, and nothing to do in it."""
    start = time.perf_counter()
    probe.start()
    while time.perf_counter() - start < duration_s:
        connection.call("DBSIZE")
        time.sleep(lab.POLL_S)
    return probe.end()


def await_end(start):
    """The busy window's end: the tail after the reclaiming, and the least duration."""
    time.sleep(max(TAIL_S, start + WINDOW_S - time.perf_counter()))


class Probe:
    """The bystander's process."""

    def __init__(self, server):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
        command = [sys.executable, script, str(server.port), PROBE_KEY]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def start(self):
        self._tell("start")

    def end(self):
        self._tell("end")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the probe has ended")
        return json.loads(line)

    def _tell(self, what):
        print(what, file=self._process.stdin, flush=True)
