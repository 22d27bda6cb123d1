"""Attacks by names and numbers: patterns that match badly, pages and lists without end, statistics of very much. What another
client notices of each: its worst wait, beside that while nothing happens.

    python3 benches/attack_patterns.py [--server PATH] [--module PATH] [--quick]

An attack is a name, what it needs to be stored (a function of a connection), and its commands, or a function of a connection
that says them. A command may be refused; it may not keep others waiting.
"""

import sys

sys.dont_write_bytecode = True

import lab
from bystander import Probe

WORST_MS = 10


def sections(quick=False):
    """The attacks: name, preparation, commands."""
    many = 20_000 if quick else 200_000
    plain = b"*" + b"a" * 1000 + b"*b*"
    mixed = b"*" + b"a?" * 500 + b"b*"
    wide = [word for n in range(1000) for word in ("MATCH", b"*%da*" % n)]
    every = [word for n in range(1000) for word in ("ALL", 1, f"all{n % 64}")]

    def names_of_2_kb(connection):
        store(connection, (b"acme:%03d:" % n + b"a" * 2048 for n in range(256)), ["acme"])

    def name_of_200_kb(connection):
        store(connection, [b"acme:" + b"a" * 200_000], ["acme"])

    def entries(connection):
        store(connection, (b"key:%06d" % n for n in range(many)), [f"all{n}" for n in range(8)])

    def tags(connection):
        for start in range(0, 50_000, 50):
            connection.call("EXPCACHE.SET", f"k{start}", "v", "TAGS", 50, *(f"tag:{start + n}" for n in range(50)))

    def formats(connection):
        for start in range(1000):
            connection.call("EXPCACHE.TYPE", "SET", f"type{start}", "TTL", "1h")
            sets = (lab.resp("EXPCACHE.SET", f"type{start}:{n}", "v", "TYPE", f"type{start}", "FORMAT", f"f{start}:{n}") for n in range(32))
            lab.load(connection, sets)

    def fenced(connection):
        key = b"acme:" + b"a" * 30_000
        token = dict(pairs(connection.call("EXPCACHE.FETCH", key, "LEASE", "1h")))[b"lease"]
        purges = (lab.resp("EXPCACHE.PURGE", "ANY", 1, "acme", "MATCH", b"*%d?" % n + plain) for n in range(1000))
        lab.load(connection, purges, b":0\r\n")
        return [["EXPCACHE.SET", key, "v", "TAGS", 1, "acme", "LEASE", token]]

    own = ["ANY", 1, "acme"]
    return [
        ("256 names of 2 KB, a long literal", names_of_2_kb, [["EXPCACHE.PURGE", *own, "MATCH", plain]]),
        ("256 names of 2 KB, `a?a?…`", names_of_2_kb, [["EXPCACHE.PURGE", *own, "MATCH", mixed]]),
        ("256 names of 2 KB, 1,000 patterns", names_of_2_kb, [["EXPCACHE.PURGE", *own, *wide]]),
        ("one name of 200 KB", name_of_200_kb, [["EXPCACHE.COUNT", *own, "MATCH", plain], ["EXPCACHE.COUNT", *own, "MATCH", mixed]]),
        ("SCAN of it", name_of_200_kb, [["EXPCACHE.SCAN", 0, *own, "MATCH", plain], ["EXPCACHE.SCAN", 0, *own, "MATCH", mixed]]),
        ("… with 8 patterns", name_of_200_kb, [["EXPCACHE.SCAN", 0, *(w for n in range(8) for w in ("MATCH", b"*a?%d" % n + b"a?" * 60 + b"*"))]]),
        ("SCAN COUNT 200000", entries, [["EXPCACHE.SCAN", 0, "COUNT", 200_000], ["EXPCACHE.SCAN", 0, "COUNT", 200_000, *every]]),
        ("PURGE … KEYS", entries, [["EXPCACHE.PURGE", "ANY", 1, "all0", "DRYRUN", "KEYS", most] for most in (10_000, 1_000_000)]),
        ("4,096 tags, 300,000 tags", tags, [invalidate(4096), invalidate(300_000)]),
        ("TAGS COUNT 200000", tags, [["EXPCACHE.TAGS", 0, "COUNT", 200_000, "MATCH", mixed]]),
        ("1,000 fences with patterns", lambda _: None, fenced),
        ("STATS of 1,000 types × 32 formats", formats, [["EXPCACHE.STATS"], ["EXPCACHE.STATS", "WINDOW", "1h"]]),
    ]


def pairs(flat):
    return zip(flat[::2], flat[1::2])


def invalidate(count):
    return ["EXPCACHE.INVALIDATE.TAG", *(f"tag:{n}" for n in range(count))]


def store(connection, keys, tags):
    lab.load(connection, (lab.resp("EXPCACHE.SET", key, "v", "TAGS", len(tags), *tags) for key in keys))


def measure(bench, prepare, commands):
    """The worst wait of the bystander in ms: while nothing happens, and during the attack."""
    with bench.server() as server, server.connect() as connection, server.connect() as attacker:
        connection.call("SET", "bystander", "v")
        prepare(connection)
        commands = commands(connection) if callable(commands) else commands
        with Probe(server) as probe:
            probe.start()
            lab.time.sleep(0.5)
            idle = probe.end()["worst"]
            probe.start()
            for command in commands:
                attempt(attacker, command)
            lab.time.sleep(0.05)
            return idle, probe.end()["worst"]


def attempt(attacker, command):
    try:
        attacker.call(*command)
    except lab.ReplyError:
        pass  # refused, which is well


def run(bench):
    bench.report.text("**Attacks by names and numbers**: the worst wait of another client.")
    rows = []
    for name, prepare, commands in sections(bench.quick):
        idle, worst = min((measure(bench, prepare, commands) for _ in range(bench.rounds(3))), key=lambda pair: pair[1])
        held = bench.report.verdict(f"attack: {name}: at most {WORST_MS} ms", worst <= WORST_MS)
        rows.append([name, f"{idle:.1f} ms", f"{worst:.1f} ms", held])
    bench.report.table(["attack", "idle", "worst wait", ""], rows)


def main():
    import bench as benches

    sys.argv.append("cpu")  # its parser wants a section that it knows
    chosen = benches.options()
    bench = benches.Bench(chosen)
    bench.report.text(f"{lab.machine()}; {benches.server_version(bench)}")
    run(bench)
    bench.report.summary()


if __name__ == "__main__":
    main()
