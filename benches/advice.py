"""Advice: what following its traffic costs a hit, and what keeping keys in mind to be warmed does.

One server, and the same commands on the same keys: with advice and without, taking turns; a ratio is that of two runs of one round.
Before each run the advice is turned on or off, and the keys are read until those that are followed are known. Most reads are of few keys, as
reads are (Zipf's law, exponent 1): those are the ones of which each read is counted.
"""

import bisect
import functools
import itertools
import random

import cpu
import lab
import pipeline

KEYS, QUICK_KEYS = 100_000, 10_000
OPERATIONS, QUICK_OPERATIONS = 1_000_000, 50_000
ROUNDS = 11
DRAWN = 50_000  # commands that are prepared, taking turns until there are enough operations
FOLLOWED = 2304
BOUND = 1.03

WARM, COLD = "warm:%012d", "cold:%012d"


def run(bench):
    keys = QUICK_KEYS if bench.quick else KEYS
    operations = QUICK_OPERATIONS if bench.quick else OPERATIONS
    rounds = bench.rounds(ROUNDS)
    off, plain = cpu.Series("EXPCACHE.GET, no advice"), cpu.Series("EXPCACHE.GET, of a type without WARM")
    on = cpu.Series("EXPCACHE.GET, with advice", off, BOUND)
    warmed = cpu.Series("EXPCACHE.GET, of a type with WARM 1000", plain)
    expected = cpu.VALUE_REPLY * pipeline.DEPTH
    with bench.server() as server:
        with server.connect() as connection:
            connection.call("EXPCACHE.TYPE", "SET", "warm", "TTL", "1h", "WARM", 1000)
            connection.call("EXPCACHE.TYPE", "SET", "cold", "TTL", "1h")
            for name in (WARM, COLD):
                lab.load(connection, (lab.resp("EXPCACHE.SET", name % number, lab.VALUE) for number in range(keys)))
            cold, warm = (list(pipeline.batches(drawn(name, keys))) for name in (COLD, WARM))
            times = max(1, operations // (len(cold) * pipeline.DEPTH))
            count = len(cold) * pipeline.DEPTH * times
            meter = cpu.Meter(server)

            def measure(series, batches, followed):
                connection.call("CONFIG", "SET", "expcache.advice-keys", followed)
                pipeline.drive(server, 0, batches, expected, 1)
                lab.wait_for(lambda: connection.info("expcache")["expcache_advice_bytes"] != "0", followed > 0)
                pipeline.drive(server, 0, batches, expected, 1)
                work = functools.partial(pipeline.drive, server, 0, batches, expected, times)
                series.rounds.append(meter.around(count, True, work))

            for at in range(rounds):
                pair = [(off, cold, 0), (on, cold, FOLLOWED)]
                for one in pair if at % 2 == 0 else reversed(pair):
                    measure(*one)
                for one in (plain, cold, 0), (warmed, warm, 0):
                    measure(*one)
    bench.report.text(
        "## Advice and warming",
        "",
        f"{count:,} hits on {keys:,} keys, {pipeline.CONNECTIONS} connections, pipelines of {pipeline.DEPTH}; µs of the server's main"
        f" thread, medians of {rounds} rounds; ratios round by round (least–most). Advice follows {FOLLOWED} keys.",
    )
    bench.report.table(["command", "main thread", "to the one above", "bound"], [row(bench.report, one) for one in (off, on, plain, warmed)])


def drawn(name, keys):
    """Reads of keys of which the first is asked for most."""
    sums = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    rng = random.Random(1)
    ranks = (bisect.bisect(sums, rng.random() * sums[-1]) for _ in range(DRAWN))
    return (lab.resp("EXPCACHE.GET", name % min(rank, keys - 1)) for rank in ranks)


def row(report, one):
    return [f"`{one.name}`", f"{one.median('main'):.3f}", one.ratio_cell(one.base), one.verdict(report, "pipelines")]
