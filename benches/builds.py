"""Two builds of the module against each other: what a change costs the paths that everybody takes.

    python3 benches/builds.py OLD.so [NEW.so] [--server PATH] [--rounds N]

Three servers take turns: the old build, the new one, and the old one again, whose ratio to itself is the noise. The server's CPU is the
measure: of its main thread for short commands, of all threads for an invalidation until its keys are reclaimed.
"""

import argparse
import contextlib
import functools
import os
import sys

sys.dont_write_bytecode = True

import bench
import cpu
import lab
import pipeline

KEYS = 100_000
TIMES = 2
DOOMED = 1_000_000


def prepare(server, template, draw=tuple):
    with server.connect() as connection:
        template = template(connection)
    commands = (template % (number, *draw()) for number in lab.shuffled(KEYS, 1, pipeline.DEPTH))
    return pipeline.batches(commands)


def contenders():
    """(name, database, template of a connection, tags, reply)"""
    tagged = lambda connection: lab.Expcache().set_template(connection, lab.TAGS)
    plain = lambda *words: lambda _: lab.resp_template(*words)
    return [
        ("native `SET`", 0, plain("SET", lab.KEY, lab.VALUE), (), b"+OK\r\n"),
        ("native `GET`", 0, plain("GET", lab.KEY), (), cpu.VALUE_REPLY),
        ("`EXPCACHE.SET`", 1, plain("EXPCACHE.SET", lab.KEY, lab.VALUE), (), b"+OK\r\n"),
        ("`EXPCACHE.SET`, 4 tags", 2, tagged, lab.TAGS, b"+OK\r\n"),
        ("`EXPCACHE.GET`", 2, plain("EXPCACHE.GET", lab.KEY), (), cpu.VALUE_REPLY),
    ]


def measure_commands(servers, rounds, results):
    for name, db, template, tags, reply in contenders():
        prepared = [prepare(server, template, lab.tag_draw(tags) if tags else tuple) for server in servers]
        expected = reply * pipeline.DEPTH
        work = [functools.partial(pipeline.drive, server, db, batches, expected, TIMES) for server, batches in zip(servers, prepared)]
        take_turns(servers, rounds, results, name, "main", [lambda: None] * len(servers), work)


def measure_storms(servers, rounds, results):
    """A million entries of one tag invalidated and reclaimed; a million native keys deleted."""
    fill_tagged = [functools.partial(fill, server, 3, b"doomed") for server in servers]
    invalidate = [functools.partial(invalidate_all, server) for server in servers]
    take_turns(servers, rounds, results, "`INVALIDATE.TAG` of a million, till they are reclaimed", "all", fill_tagged, invalidate)
    fill_native = [functools.partial(fill, server, 4, None) for server in servers]
    delete = [functools.partial(delete_all, server) for server in servers]
    take_turns(servers, rounds, results, "native `DEL` of a million", "main", fill_native, delete)


def fill(server, db, tag):
    words = ("EXPCACHE.SET", lab.KEY, lab.VALUE, "TAGS", 1, tag) if tag else ("SET", lab.KEY, lab.VALUE)
    template = lab.resp_template(*words)
    with server.connect(db=db) as connection:
        lab.load(connection, (template % number for number in range(DOOMED)))


def invalidate_all(server):
    with server.connect(db=3) as connection:
        if connection.call("EXPCACHE.INVALIDATE.TAG", "doomed") != DOOMED:
            raise SystemExit("not all were invalidated")
        lab.wait_for(lambda: connection.call("DBSIZE"), 0, every_s=0.2)


def delete_all(server):
    template = lab.resp_template("DEL", lab.KEY)
    with server.connect(db=4) as connection:
        lab.load(connection, (template % number for number in range(DOOMED)), b":1\r\n")


def take_turns(servers, rounds, results, name, which, before, work):
    meters = [cpu.Meter(server) for server in servers]
    series = [[] for _ in servers]
    for turn in range(rounds + 1):  # the first is the warm-up
        for one in rotated(list(range(len(servers))), turn):
            before[one]()
            spent = meters[one].around(1, False, work[one])[which]
            if turn:
                series[one].append(spent)
    results.append((name, series))
    print(f"{name}: done", file=sys.stderr)


def rotated(items, by):
    return items[by % len(items) :] + items[: by % len(items)]


def cell(mine, its):
    ratios = sorted(a / b for a, b in zip(mine, its))
    return f"{lab.median(ratios):.3f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default=bench.MODULE)
    parser.add_argument("--server", default=os.environ.get("EXPCACHE_SERVER", "redis-server"))
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    results = []
    with contextlib.ExitStack() as stack:
        modules = (chosen.old, chosen.new, chosen.old)
        servers = [stack.enter_context(lab.Server(chosen.server, os.path.abspath(module))) for module in modules]
        measure_commands(servers, chosen.rounds, results)
        measure_storms(servers, max(1, chosen.rounds // 3), results)
    report = lab.Report()
    report.text(f"Measured on {lab.machine()}; ratios of the CPU in one round, medians of {chosen.rounds} (least–most).")
    rows = [[name, cell(new, old), cell(again, old)] for name, (old, new, again) in results]
    report.table(["", "new to old", "old to itself"], rows)


if __name__ == "__main__":
    main()
