"""Rules: what they cost a native write that none of them matches, one that one matches, and an event.

The contenders are servers of their own, which take turns; a ratio is that of two runs of one round. With `--before` there is one more,
with another build of the module: what a write costs that has no rule is held against it. Then many keys expire at once, with and
without rules, and another client looks at the clock.
"""

import functools
import time

import bystander
import cpu
import lab
import pipeline

KEYS, QUICK_KEYS = 100_000, 10_000
OPERATIONS, QUICK_OPERATIONS = 500_000, 50_000
# One round says little on a machine with neighbours.
WRITE_ROUNDS, ROUNDS = 31, 7
EVENTS, QUICK_EVENTS = 20_000, 1_000
EXPIRING, QUICK_EXPIRING = 1_000_000, 20_000
EXPIRY_ROUNDS = 3
RULES = 1000

# The first is 1.00, and what a machine with neighbours makes of it.
BOUND_OF_NONE, BOUND_OF_MANY, BOUND_OF_MATCH = 1.03, 1.15, 1.4
BOUND_OF_EVENT_US = 50
STALL_BOUND_MS = 1.0


def run(bench):
    writes(bench)
    events(bench)
    expiry(bench)


def no_rules(_connection):
    """Nothing is set."""


def other_rules(connection):
    """Rules as an application has them, for keys of other names."""
    for number in range(RULES):
        connection.call("EXPCACHE.RULE", "SET", f"r{number}", "KEY", f"source:{number}:{{id}}", "DO", "ANY", 1, f"tag:{number}:{{id}}")


def one_rule(connection):
    """It matches, and no entry bears the tag."""
    connection.call("EXPCACHE.RULE", "SET", "r", "KEY", "key:{id}", "DO", "ANY", 1, "tag:{id}")


# ---- Native writes ---------------------------------------------------------------------------------------------------


def writes(bench):
    keys = QUICK_KEYS if bench.quick else KEYS
    operations = QUICK_OPERATIONS if bench.quick else OPERATIONS
    rounds = bench.rounds(WRITE_ROUNDS)
    batches = pipeline.batches(lab.resp("SET", lab.KEY % number, lab.VALUE) for number in lab.shuffled(keys, 1, pipeline.DEPTH))
    base = cpu.Series("SET, no rule")
    contenders = [
        (base, bench.module, no_rules),
        (cpu.Series(f"SET, {RULES:,} rules that do not match", base, BOUND_OF_MANY), bench.module, other_rules),
        (cpu.Series("SET, one rule that matches", base, BOUND_OF_MATCH), bench.module, one_rule),
    ]
    if bench.before:
        before = cpu.Series("SET, the module before")
        base.base, base.bound = before, BOUND_OF_NONE
        contenders.insert(0, (before, bench.before, no_rules))
    servers = []
    try:
        for _, module, prepare in contenders:
            server = lab.Server(bench.binary, module)
            servers.append(server.__enter__())
            with server.connect() as connection:
                prepare(connection)
        meters = [cpu.Meter(server) for server in servers]
        works = [functools.partial(drive, server, batches, max(1, operations // keys)) for server in servers]
        for work in works:
            work()
        for _ in range(rounds):
            for (series, _, _), meter, work in zip(contenders, meters, works):
                series.rounds.append(meter.around(operations, False, work))
    finally:
        for server in servers:
            server.__exit__()
    bench.report.text(
        "## Rules",
        "",
        f"Native `SET`, {operations:,} on {keys:,} keys, {pipeline.CONNECTIONS} connections, pipelines of {pipeline.DEPTH}; µs of the"
        f" server's main thread, medians of {rounds} rounds; ratios round by round (least–most).",
    )
    rows = [
        [f"`{series.name}`", f"{series.median('main'):.3f}", series.ratio_cell(series.base), series.verdict(bench.report, "pipelines")]
        for series, _, _ in contenders
    ]
    bench.report.table(["command", "main thread", "to no rule, or to the module before", "bound"], rows)


def drive(server, batches, times):
    pipeline.drive(server, 0, batches, b"+OK\r\n" * pipeline.DEPTH, times)


# ---- Events ----------------------------------------------------------------------------------------------------------


def events(bench):
    count = QUICK_EVENTS if bench.quick else EVENTS
    rounds = bench.rounds(ROUNDS)
    with bench.server() as server:
        with server.connect() as connection:
            for number in range(RULES):
                # Nine of ten begin as routes do; the others are held against every event.
                begin = "POST /v1.0" if number % 10 else "*"
                connection.call(
                    "EXPCACHE.RULE", "SET", f"r{number}", "EVENT", f"{begin}/resource{number}/{{id}}", "DO", "ANY", 1, f"tag:{number}:{{id}}"
                )
        meter = cpu.Meter(server)
        texts = [("one matches", "POST /v1.0/resource501/7"), ("none matches", "POST /v1.0/something/7")]
        series = [cpu.Series(f"EVENT, {RULES:,} rules, {name}") for name, _ in texts]
        with server.connect() as connection:
            for _ in range(rounds):
                for one, (_, text) in zip(series, texts):
                    batch = lab.resp("EXPCACHE.EVENT", text) * pipeline.DEPTH
                    work = functools.partial(tell, connection, batch, count // pipeline.DEPTH)
                    one.rounds.append(meter.around(count, False, work))
    rows = []
    for one in series:
        each = one.median("main")
        rows.append([f"`{one.name}`", f"{each:.2f}", f"≤ {BOUND_OF_EVENT_US} {bench.report.verdict(f'{one.name}: {each:.1f} µs', each <= BOUND_OF_EVENT_US)}"])
    bench.report.table(["command", "main thread, µs", "bound"], rows)


def tell(connection, batch, times):
    for _ in range(times):
        connection.send(batch)
        connection.expect(b":0\r\n" * pipeline.DEPTH)


# ---- Expiry ----------------------------------------------------------------------------------------------------------


def expiry(bench):
    count = QUICK_EXPIRING if bench.quick else EXPIRING
    rounds = bench.rounds(EXPIRY_ROUNDS)
    ways = [("no rule", no_rules), (f"{RULES:,} rules that do not match", other_rules), (f"{RULES:,} rules, one of which matches", matching_rules)]
    results = {name: [] for name, _ in ways}
    for _ in range(rounds):
        for name, prepare in ways:
            results[name].append(expire(bench, prepare, count))
    base = results["no rule"]
    rows = []
    for name, all_rounds in results.items():
        worst, p99 = (lab.median(one[what] for one in all_rounds) for what in ("worst", "p99"))
        took = lab.median(one["took"] for one in all_rounds)
        verdict = ""
        if all_rounds is not base:
            least, most = lab.median(one["worst"] for one in base), max(one["worst"] for one in base)
            held = worst <= least + STALL_BOUND_MS or (None if worst <= most else False)
            verdict = bench.report.verdict(f"expiry with {name}: other client {worst:.2f} ms, without {least:.2f} ms", held)
        rows.append([name, f"{took:.1f}", f"{p99:.2f}", f"{worst:.2f}", verdict])
    bench.report.text(
        f"{count:,} keys that expire in the same moment; another client sends a native `GET` every millisecond until all are gone; medians"
        f" of {rounds} rounds. Bound: its worst is at most {STALL_BOUND_MS:g} ms above that without a rule."
    )
    bench.report.table(["rules", "all gone after, s", "other client p99, ms", "worst, ms", "bound"], rows)


def matching_rules(connection):
    other_rules(connection)
    one_rule(connection)


def expire(bench, prepare, count):
    with bench.server() as server, server.connect() as connection:
        connection.call("SET", bystander.KEY, lab.VALUE)
        prepare(connection)
        at_ms = int(1000 * time.time()) + 1000 * max(3, count // 50_000)
        lab.load(connection, (lab.resp("SET", lab.KEY % number, b"v", "PXAT", at_ms) for number in range(count)))
        with bystander.Probe(server) as probe:
            time.sleep(max(0.0, at_ms / 1000 - time.time()))
            start = time.perf_counter()
            probe.start()
            lab.wait_for(lambda: connection.call("DBSIZE"), 1, every_s=0.05, timeout_s=300)
            took = time.perf_counter() - start
            result = probe.end()
    result["took"] = took
    return result
