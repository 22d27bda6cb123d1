"""Limits: what `EXPCACHE.THROTTLE` costs the server's main thread, beside the fixed window that everybody builds of `INCR` and `PEXPIRE`.

One connection, pipelines of 16 keys. The contenders take turns, each on keys of its own; a ratio is that of two runs of one round.
"""

import functools

import cpu
import lab

KEYS, QUICK_KEYS = 10_000, 1_000
OPERATIONS, QUICK_OPERATIONS = 200_000, 5_000
ROUNDS = 7
DEPTH = 16
END = b"$3\r\nend\r\n"

MUCH = ("POLICY", 1_000_000, "1h")
THREE = MUCH + ("POLICY", 10_000_000, "1d", "POLICY", 100_000, "1m")
BOUND_OF_ONE, BOUND_OF_THREE = 1.5, 2.2


def run(bench):
    keys = QUICK_KEYS if bench.quick else KEYS
    operations = QUICK_OPERATIONS if bench.quick else OPERATIONS
    rounds = bench.rounds(ROUNDS)
    native = cpu.Series("INCR, PEXPIRE")
    contenders = [
        (native, lambda n: lab.resp("INCR", f"n:{n}") + lab.resp("PEXPIRE", f"n:{n}", 3_600_000)),
        (cpu.Series("THROTTLE, one policy", native, BOUND_OF_ONE), throttle("one", *MUCH)),
        (cpu.Series("THROTTLE, three policies", native, BOUND_OF_THREE), throttle("three", *THREE)),
        (cpu.Series("THROTTLE, refused", native), throttle("refused", "POLICY", 1, "1d")),
        (cpu.Series("THROTTLE, COST 0", native), throttle("one", *MUCH, "COST", 0)),
    ]
    with bench.server() as server:
        meter = cpu.Meter(server)
        with server.connect() as connection:
            prepared = [(series, batches(make, keys)) for series, make in contenders]
            for _, all_batches in prepared:
                drive(connection, all_batches, 1)
            for _ in range(rounds):
                for series, all_batches in prepared:
                    work = functools.partial(drive, connection, all_batches, operations // keys)
                    series.rounds.append(meter.around(operations, False, work))
    bench.report.text(
        "## Limits",
        "",
        f"{operations:,} calls on {keys:,} keys, one connection, pipelines of {DEPTH}; µs of the server's main thread a call,"
        f" medians of {rounds} rounds; ratios round by round (least–most).",
    )
    rows = [row(bench.report, series) for series, _ in contenders]
    bench.report.table(["call", "main thread", "to native", "bound"], rows)


def throttle(prefix, *words):
    return lambda n: lab.resp("EXPCACHE.THROTTLE", f"{prefix}:{n}", *words)


def batches(make, keys):
    """Pipelines, each with an end that is told apart from the replies before."""
    return [b"".join(map(make, some)) + lab.resp("ECHO", "end") for some in lab.chunks(range(keys), DEPTH)]


def drive(connection, all_batches, times):
    for _ in range(times):
        for batch in all_batches:
            connection.send(batch)
            connection.skip_to(END)


def row(report, series):
    return [f"`{series.name}`", f"{series.median('main'):.2f}", series.ratio_cell(series.base), series.verdict(report, "pipelines")]
