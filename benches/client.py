"""The Rust client: what it adds to a call of the `redis` crate, and what a hit in the near cache costs.

The measuring is done by `client/examples/bench.rs`, in turns within one process; here it is built, run and judged.
"""

import os
import subprocess

import lab

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OVERHEAD, OVERHEAD_OF_MANY = 1.15, 1.10
NEAR_NS = 1000


def run(bench):
    figures = [measure(bench) for _ in range(bench.rounds(3))]
    plain, typed, hit, near, many_plain, many_hit = (lab.median([f[name] for f in figures]) for name in NAMES)
    bench.report.text("**The Rust client**, one caller after the other, a hit of 1 KiB:")
    bench.report.table(
        ["call", "µs", "to the `redis` crate", "bound", ""],
        [
            ["`redis`: `FETCH … LEASE`", f"{plain:.1f}", "", "", ""],
            ["`Client::fetch`", f"{typed:.1f}", f"{typed / plain:.2f} ×", "", ""],
            ["`Cache::get_or_produce`", f"{hit:.1f}", f"{hit / plain:.2f} ×", f"{OVERHEAD:.2f} ×", overhead(bench, "one task", hit / plain, OVERHEAD)],
            ["256 tasks at a time: `redis`", f"{many_plain:.1f}", "", "", ""],
            ["…, `get_or_produce`", f"{many_hit:.1f}", f"{many_hit / many_plain:.2f} ×", f"{OVERHEAD_OF_MANY:.2f} ×", overhead(bench, "256 tasks", many_hit / many_plain, OVERHEAD_OF_MANY)],
            ["…, kept near", f"{near / 1000:.2f}", f"{near / 1000 / plain:.3f} ×", "1 µs", nearness(bench, near)],
        ],
    )


NAMES = ["plain_us", "typed_us", "hit_us", "near_ns", "many_plain_us", "many_hit_us"]


def measure(bench):
    count = 1000 if bench.quick else 30000
    command = ["cargo", "run", "--quiet", "--release", "--package", "expcache-client", "--example", "bench", "--"]
    with bench.server() as server:
        address = f"redis://127.0.0.1:{server.port}/"
        output = subprocess.run([*command, address, str(count)], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name: float(figure) for name, figure in (pair.split("=") for pair in output.stdout.split())}


def overhead(bench, tasks, factor, bound):
    return bench.report.verdict(f"client, {tasks}: get_or_produce of a 1 KiB hit at most {bound} × a call of the redis crate", factor <= bound)


def nearness(bench, ns):
    return bench.report.verdict("client: a hit in the near cache under a microsecond", ns < NEAR_NS)
