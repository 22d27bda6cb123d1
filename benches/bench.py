"""The benches: what expcache costs beside native commands of the same server, as Markdown tables.

    python3 benches/bench.py [--server PATH] [--module PATH] [--quick] [section …]

Sections: `cpu` (server CPU an operation, and latency without pipelining), `invalidate` (a tag of up to a million
entries, and what another client notices of it), `lease` (many clients and one missing key, `FETCH` against `GET`, what
another client notices of those who wait), `limits` (a rate limit beside `INCR` and `PEXPIRE`), `audit` (a line of the audit log), `advice` (what following its traffic costs a hit), `large` (exports of up to 64 MiB: what another client notices, what sending them
costs, codecs), `memory` (bytes an entry, bytes a membership, bytes left over), `rules` (a native `SET` under rules, `EVENT`, many keys that
expire), `stats` (how long questions about the whole
take, among few entries and among many), `upkeep` (stores at `maxmemory`, keys that expire together, saving and loading), `client` (what the
Rust client adds to the `redis` crate, a hit in its near
cache). Without a name: all of them, a few minutes. `--quick` is a smoke test: it runs everything at a small size, and its
figures mean little.

The benches start their own servers on free ports and need nothing but Python and the server's own programs, `large` and `client` also cargo.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import advice
import audit
import client
import cpu
import invalidate
import lab
import large
import lease
import limits
import memory
import rules
import stats
import upkeep

SECTIONS = {
    "cpu": cpu.run,
    "invalidate": invalidate.run,
    "lease": lease.run,
    "limits": limits.run,
    "audit": audit.run,
    "advice": advice.run,
    "large": large.run,
    "memory": memory.run,
    "rules": rules.run,
    "stats": stats.run,
    "upkeep": upkeep.run,
    "client": client.run,
}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXPORT = os.path.join(ROOT, "demo", "data", "flights.csv")
MODULE = os.path.join(ROOT, "target", "release", "libexpcache.so")


class Bench:
    """What every section gets: where the server and the module are, how large to measure, where to print."""

    def __init__(self, options):
        self.binary = options.server
        self.module = os.path.abspath(options.module)
        self.quick = options.quick
        self.export = options.export
        self.before = options.before and os.path.abspath(options.before)
        self.report = lab.Report()

    def rounds(self, usual):
        """How often to measure: a smoke test needs no median."""
        return 1 if self.quick else usual

    def server(self, *settings):
        return lab.Server(self.binary, self.module, settings)


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server = os.environ.get("EXPCACHE_SERVER", "redis-server")
    parser.add_argument("--server", default=server, help="the server program (default: $EXPCACHE_SERVER, redis-server)")
    parser.add_argument("--module", default=MODULE, help="the module (default: target/release/libexpcache.so)")
    parser.add_argument("--before", help="another build of the module, to compare with (`rules`)")
    parser.add_argument("--export", default=EXPORT, help="what large exports are made of: CSV, perhaps gzipped")
    parser.add_argument("--quick", action="store_true", help="small counts, under a minute")
    parser.add_argument("section", nargs="*", help=", ".join(SECTIONS))
    chosen = parser.parse_args()
    unknown = [name for name in chosen.section if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)} (there are {', '.join(SECTIONS)})")
    if not shutil.which(chosen.server):
        parser.error(f"no such server program: {chosen.server}")
    if not os.path.exists(chosen.module):
        parser.error(f"no such module: {chosen.module} (build it first: make build)")
    return chosen


def server_version(bench):
    with bench.server() as server, server.connect() as connection:
        info = connection.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the servers are ended too
    chosen = options()
    bench = Bench(chosen)
    bench.report.text(
        f"Measured {time.strftime('%Y-%m-%d')} on {lab.machine()}; {server_version(bench)};"
        f" values of {lab.VALUE_BYTES} bytes."
        + (" **Quick run: a smoke test, not a measurement.**" if chosen.quick else "")
    )
    for name in chosen.section or SECTIONS:
        start = time.monotonic()
        try:
            SECTIONS[name](bench)
        except (lab.ReplyError, subprocess.CalledProcessError) as error:
            sys.exit(f"section {name}: {error}")
        print(f"section {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    bench.report.summary()


if __name__ == "__main__":
    main()
