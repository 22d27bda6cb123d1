"""Audit: what a line of the audit log costs the server's main thread.

The same commands on entries of types that have nothing, changes, or all recorded; one server, the contenders taking turns. A
difference is that of two runs of one round. A line costs less than one second of a machine differs from the next, so
rounds are short and many, and beside the median stands the middle half of them.
"""

import statistics

import cpu
import lab
import pipeline

KEYS, QUICK_KEYS = 2_000, 1_000
OPERATIONS, QUICK_OPERATIONS = 40_000, 4_000
ROUNDS, HASHED_ROUNDS = 60, 20
READ_BOUND_US = 0.15  # a read of a type with AUDIT all, more than of one with AUDIT off


def run(bench):
    keys = QUICK_KEYS if bench.quick else KEYS
    operations = QUICK_OPERATIONS if bench.quick else OPERATIONS
    rounds = max(2, bench.rounds(ROUNDS))  # fewer have no middle
    write = cpu.Contender("EXPCACHE.SET, AUDIT off", 0, template("SET", "off", lab.VALUE))
    read = cpu.Contender("EXPCACHE.GET, AUDIT off", 0, template("GET", "off"))
    contenders = [
        write,
        cpu.Contender("EXPCACHE.SET, AUDIT changes", 0, template("SET", "changes", lab.VALUE), write),
        cpu.Contender("EXPCACHE.SET, AUDIT all", 0, template("SET", "all", lab.VALUE), write),
        read,
        cpu.Contender("EXPCACHE.GET, AUDIT changes", 0, template("GET", "changes"), read),
        cpu.Contender("EXPCACHE.GET, AUDIT all", 0, template("GET", "all"), read, bound=READ_BOUND_US),
    ]
    with bench.server() as server:
        with server.connect() as connection:
            for audit in ("off", "changes", "all"):
                connection.call("EXPCACHE.TYPE", "SET", audit, "TTL", "1h", "AUDIT", audit)
        cpu.measure(server, contenders, keys, operations, rounds)
        plain = {one: one.rounds for one in contenders}
        for one in contenders:
            one.rounds = []
        with server.connect() as connection:
            connection.call("CONFIG", "SET", "expcache.audit-keys", "hashed")
        cpu.measure(server, contenders, keys, operations, max(2, bench.rounds(HASHED_ROUNDS)))
        hashed = {one: one.rounds for one in contenders}
    bench.report.text(
        "## Audit",
        "",
        f"{operations:,} operations on {keys:,} keys, {pipeline.CONNECTIONS} connections, pipelines of {pipeline.DEPTH}; µs of"
        f" the server's main thread, medians of {rounds} rounds; differences round by round (the middle half). Hashed:"
        " `expcache.audit-keys hashed`.",
    )
    rows = [row(bench.report, one, plain, hashed) for one in contenders]
    bench.report.table(["command", "main thread", "more than AUDIT off", "bound", "more, hashed"], rows)


def template(command, prefix, *words):
    key = prefix.encode() + b":%012d"
    return lambda _: lab.resp_template(f"EXPCACHE.{command}", key, *words)


def more(of, one):
    return [mine["main"] - its["main"] for mine, its in zip(of[one], of[one.base])]


def cell(differences):
    middle = statistics.quantiles(differences, n=4, method="inclusive")
    return f"{middle[1]:+.3f} ({middle[0]:+.3f}–{middle[2]:+.3f})"


def row(report, one, plain, hashed):
    cells = [f"`{one.name}`", f"{lab.median(r['main'] for r in plain[one]):.3f}"]
    if one.base is None:
        return cells + ["", "", ""]
    differences, verdict = more(plain, one), ""
    if one.bound is not None:
        median = lab.median(differences)
        verdict = f"≤ {one.bound} " + report.verdict(f"{one.name}: {median:+.3f} µs", median <= one.bound)
    return cells + [cell(differences), verdict, cell(more(hashed, one))]
