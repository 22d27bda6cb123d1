#!/usr/bin/env python3
"""The story of a few cached exports, told by the very commands that make it happen.

    demo.py            start a server with the module, tell the story, stop the server
    demo.py --serve    the same, but the server stays up until Ctrl-C or SIGTERM

Every line that begins with `$` is a command that was run, in the form in which it can be pasted into a shell; below it
stands the reply as redis-cli prints it on a terminal, long payloads cut. Each step checks that the reply is what the
story says, and the first that is not ends the program with status 1: the demo is a smoke test too.

From the environment: EXPCACHE_SERVER (a server's name or path, default redis-server), EXPCACHE_MODULE (default
target/release/libexpcache.so), EXPCACHE_CLI (default redis-cli, else valkey-cli), NO_COLOR.
"""

import argparse
import ast
import csv
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH = 100  # columns of narration and commands
CUT = 60  # characters of a payload that are shown


class Failure(Exception):
    """The demo cannot go on: nothing to run, a server that does not start, a reply that is not the story's."""


class Stop(BaseException):
    """Ctrl-C or SIGTERM."""


# ---- the server -----------------------------------------------------------------------------------------------------


class Server:
    """A server with the module on a free port, with nothing of it left behind afterwards."""

    def __init__(self):
        self.program = os.environ.get("EXPCACHE_SERVER") or "redis-server"
        module = os.environ.get("EXPCACHE_MODULE") or HERE.parent / "target/release/libexpcache.so"
        self.module = Path(module).resolve()
        self.process = None

    def __enter__(self):
        if shutil.which(self.program) is None:
            raise Failure(f"no server {self.program!r} here: `make deps` installs redis-server")
        if not self.module.is_file():
            raise Failure(f"{self.module} is not there: `make build` makes it")
        self.directory = Path(tempfile.mkdtemp(prefix="expcache-demo."))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        # Between finding a port free and listening on it another program may take it: then another port.
        for _ in range(5):
            self.port = free_port()
            if self.start_on(self.port):
                return
            if "in use" not in self.log():
                break
        raise Failure(f"{self.program} does not start:\n{self.log()}")

    def start_on(self, port):
        options = {"port": port, "bind": "127.0.0.1", "dir": self.directory, "save": "", "appendonly": "no"}
        command = [self.program] + [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        with open(self.directory / "server.log", "wb") as log:
            self.process = subprocess.Popen(
                command + ["--loadmodule", str(self.module)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to act on, not the server's
            )
        deadline = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < deadline:
            if answers(port):
                return True
            time.sleep(0.02)
        return False

    def stop(self):
        """The server first, by SIGTERM, then its directory."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self):
        lines = (self.directory / "server.log").read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-12:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


# ---- the storyteller ------------------------------------------------------------------------------------------------


class Story:
    """Prints narration, commands and replies, and holds the replies against what is claimed of them."""

    def __init__(self, port):
        self.port = port
        named = os.environ.get("EXPCACHE_CLI")
        self.cli = next(filter(shutil.which, [named] if named else ["redis-cli", "valkey-cli"]), None)
        if self.cli is None:
            raise Failure(f"no {named or 'redis-cli or valkey-cli'} here: `make deps` installs redis-cli")
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colours else text

    def title(self, text):
        print("\n" + self.paint("1", text))

    def say(self, text):
        print("\n" + textwrap.fill(" ".join(text.split()), WIDTH))

    def run(self, *words, payload=None, map_reply=False, only=None):
        """Run one command, show it and its reply (of a map only the fields in `only`), and give the reply back.

        `payload` is a file that takes the place of the word PAYLOAD; maps are asked for in RESP3, where they look like maps.
        """
        options = ["-p", str(self.port)] + ["-3"] * map_reply + ["-X", "PAYLOAD"] * bool(payload)
        words = [str(word) for word in words]
        print(self.paint("32", shown([self.cli] + options + words, payload)))
        # --no-raw: what redis-cli prints on a terminal, here too where its output is read by this program
        with open(payload or os.devnull, "rb") as source:
            done = subprocess.run([self.cli, "--no-raw"] + options + words, stdin=source, capture_output=True)
        text = done.stdout.decode("utf-8", "replace").rstrip("\n")
        if done.returncode != 0:
            raise Failure(f"{self.cli} failed: {text} {done.stderr.decode(errors='replace')}")
        print(self.paint("36", cut(text, only)))
        return parse_map(text) if map_reply else parse(text)

    def wait_until(self, what, holds):
        """Asks, without showing it, until it is so."""
        def run(*words):
            return subprocess.run([self.cli, "-p", str(self.port), *words], capture_output=True).stdout
        deadline = time.monotonic() + 10
        while not holds(run):
            if time.monotonic() > deadline:
                raise Failure(f"waited in vain until {what}")
            time.sleep(0.01)

    def check(self, what, got, want):
        """The story's claim: `want` is a value, or a function that says whether `got` will do."""
        if not (want(got) if callable(want) else got == want):
            wanted = "" if callable(want) else f"\n    expected  {want!r}"
            raise Failure(f"the story says: {what}; the server does not{wanted}\n    answered  {got!r}")


def shown(words, payload):
    """The command as one would type it, broken into lines before WIDTH."""
    pieces = [shlex.quote(word) for word in words] + ([f"< {shlex.quote(str(payload))}"] if payload else [])
    lines, line = [], "$"
    for piece in pieces:
        if len(line) + len(piece) + 1 > WIDTH - 2:
            lines.append(line + " \\")
            line = "   "
        line += " " + piece
    return "\n".join(lines + [line])


QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
FIELD = re.compile(r'( *\d+# )"([^"]+)" => ?(.*)', re.DOTALL)


def cut(text, only):
    """What is shown of a reply: long strings cut, of a map the fields asked for."""
    if only:
        fields = split_map(text)
        chosen = [line for name, line in fields if name in only]
        left_out = len(fields) - len(chosen)
        text = "\n".join(chosen + [f"    … ({left_out} more fields)"] * (left_out > 0))

    def shorten(match):
        string = match.group()
        if len(string) <= CUT + 20:
            return string
        beginning = re.sub(r"\\(x\w?)?$", "", string[:CUT])  # not half an escape
        return f'{beginning}… ({len(parse(string)):,} bytes)'

    return QUOTED.sub(shorten, text)


def split_map(text):
    """The fields of a map as redis-cli prints it: (name, text); lines of a nested reply belong to the field above."""
    fields = []
    margin = len(text.split("#", 1)[0])  # numbers are set flush right, so every field's `#` stands in this column
    for line in text.split("\n"):
        field = FIELD.fullmatch(line)
        if field and line.index("#") == margin:
            fields.append([field.group(2), line])
        elif fields:
            fields[-1][1] += "\n" + line
    return [(name, lines) for name, lines in fields]


def parse_map(text):
    return {name: parse(FIELD.fullmatch(lines).group(3).strip()) for name, lines in split_map(text)} or parse(text)


def parse(text):
    """A reply as redis-cli prints it, as a value; whatever is neither a string nor a number stays text."""
    if text == "(nil)":
        return None
    number = re.fullmatch(r"\((integer|double)\) (.+)", text)
    if number:
        return int(number.group(2)) if number.group(1) == "integer" else float(number.group(2))
    if QUOTED.fullmatch(text):
        return ast.literal_eval("b" + text)  # redis-cli's escapes are a subset of Python's
    return text


# ---- the exports ----------------------------------------------------------------------------------------------------


class Export:
    """One produced export: its file, and the figures that are stored with it."""

    def __init__(self, rows, path, started):
        if path.suffix == ".csv":
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text(json.dumps([{k: typed(v) for k, v in row.items()} for row in rows]))
        self.path, self.records, self.format = path, len(rows), path.suffix[1:]
        self.payload = path.read_bytes()
        self.etag = hashlib.md5(self.payload).hexdigest().encode()
        self.cost_ms = round((time.monotonic() - started) * 1000)


def typed(value):
    if value == "NA":
        return None
    return int(value) if re.fullmatch(r"-?\d+", value) else value


def produce(directory, kind, company, form, keep=lambda row: True):
    """The expensive part of an export service. The pause stands for the database's work."""
    started = time.monotonic()
    time.sleep(0.3)
    trips = [row for row in table("flights.csv") if row["carrier"] == company]
    if kind == "vehicles":
        own = {trip["tailnum"] for trip in trips}
        rows = [row for row in table("planes.csv") if row["tailnum"] in own and keep(row)]
    else:
        rows = [row for row in trips if keep(row)]
    return Export(rows, directory / f"{kind}-{company}.{form}", started)


def table(name):
    with open(HERE / "data" / name, newline="") as file:
        yield from csv.DictReader(file)


# ---- the story ------------------------------------------------------------------------------------------------------


def tell(story, directory):
    """From nothing cached to a company's invalidation. Each part hands on what later parts speak of."""
    vehicles_key, vehicles = first_export(story, directory)
    hits(story, vehicles_key, vehicles)
    ua_trips, dl_vehicles, dl = types_and_more(story, directory)
    invalidation(story, vehicles_key, ua_trips, dl_vehicles, dl)
    statistics(story)


def first_export(story, directory):
    story.title("1. An export under a derived key")
    story.say("""User 7 of the company UA wants its jets with at least 150 seats, as CSV. The key follows from what is
        asked for, so the same question has the same key, in whatever order its parts are given.""")
    filters = {"engine": "Turbo-fan", "min_seats": 150}
    asked = {"company": "UA", "filters": filters, "format": "csv", "user": "7"}
    canonical = compact(dict(sorted(asked.items())))  # RFC 8785, as far as these values need it
    derived = b"export_cache:vehicles:" + hashlib.md5(canonical.encode()).hexdigest().encode()
    a = story.run("EXPCACHE.KEYFOR", "vehicles", "COMPANY", "UA", "USER", 7,
                  "FILTERS", compact(filters), "FORMAT", "csv")
    b = story.run("EXPCACHE.KEYFOR", "vehicles", "FORMAT", "csv", "USER", 7,
                  "FILTERS", compact(dict(reversed(list(filters.items())))), "COMPANY", "UA")
    story.check("the key is the prefix, the type and the MD5 of the canonical parameters", a, derived)
    story.check("the order of the parameters makes no difference", b, derived)
    key = a.decode()

    story.say("Nobody asked before, so this is a miss.")
    story.check("a miss is null", story.run("EXPCACHE.GET", key), None)

    export = produce(directory, "vehicles", "UA", "csv",
                     lambda row: row["engine"] == "Turbo-fan" and int(row["seats"]) >= 150)
    story.say(f"""The export is produced, once: {export.records} aircraft, {len(export.payload):,} bytes, in
        {export.cost_ms} ms (demo/data and a pause stand for the database). It is stored with what it is, whom it
        belongs to and what it cost; its type, vehicles, is read off the key.""")
    stored = story.run("EXPCACHE.SET", key, "PAYLOAD", "TAGS", 3, "company:UA", "user:7", "type:vehicles",
                       "FORMAT", export.format, "RECORDS", export.records, "COST", export.cost_ms,
                       "META", compact({"filters": filters}), payload=export.path)
    story.check("the export is stored", stored, "OK")
    return key, export


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def hits(story, key, export):
    story.title("2. Hits")
    story.say("From now on everybody who asks the same is served from memory, byte for byte.")
    story.check("GET answers the payload", story.run("EXPCACHE.GET", key), export.payload)

    story.say("FETCH answers with all that is known of it; its type, vehicles, keeps it fresh for two hours.")
    hit = story.run("EXPCACHE.FETCH", key, map_reply=True)
    known = {"status": b"hit", "value": export.payload, "etag": export.etag, "type": b"vehicles", "format": b"csv",
             "records": export.records, "size": len(export.payload)}
    story.check("FETCH answers the payload and its metadata", {name: hit.get(name) for name in known}, known)
    story.check("vehicles stay fresh for two hours", hit.get("ttl"), lambda ms: ms and 7_100_000 < ms <= 7_200_000)

    story.say("A client that still has this version names its etag, and no payload is sent.")
    same = story.run("EXPCACHE.FETCH", key, "IFNONEMATCH", export.etag.decode(), map_reply=True,
                     only=["status", "value", "etag"])
    story.check("the etag equals: not-modified", (same["status"], same["value"]), (b"not-modified", None))

    story.say("A preview needs the beginning only; size is still the whole payload's.")
    part = story.run("EXPCACHE.FETCH", key, "RANGE", 0, 48, map_reply=True, only=["status", "value", "size"])
    story.check("RANGE answers that part", (part["value"], part["size"]), (export.payload[:48], len(export.payload)))

    story.say("""It is kept compressed, by a worker thread if it is large. Who takes gzip, as browsers do, is sent it as it is
        kept, and nobody decompresses it on the way.""")
    story.wait_until("the worker is done", lambda run: b"gzip" in run("EXPCACHE.META", key))
    meta = story.run("EXPCACHE.META", key, map_reply=True, only=["size", "stored", "encoding", "ratio"])
    story.check("it is kept as gzip, in fewer bytes", (meta["encoding"], meta["stored"] < meta["size"]), (b"gzip", True))
    kept = story.run("EXPCACHE.FETCH", key, "ACCEPT", 1, "gzip", map_reply=True, only=["status", "value", "encoding", "size"])
    story.check("ACCEPT answers what is kept", gzip.decompress(kept["value"]), export.payload)


def types_and_more(story, directory):
    story.title("3. A policy for a type, and more exports under it")
    story.say("""Trips change more often than vehicles: fresh for 30 minutes, then 5 minutes of grace in which the old
        version may still be served while a new one is made. Only CSV and JSON, at most 1 MB.""")
    story.check("the policy is set", story.run("EXPCACHE.TYPE", "SET", "trips", "TTL", "30m", "GRACE", "5m",
                                               "MAXVALUE", "1mb", "FORMATS", 2, "csv", "json"), "OK")
    story.say("UA's trips as JSON for user 7; then Delta's (DL) vehicles and trips for user 9.")
    ua_trips, ua = store(story, directory, "trips", "UA", 7, "json")
    dl_vehicles, dl = store(story, directory, "vehicles", "DL", 9, "json")
    store(story, directory, "trips", "DL", 9, "csv")

    story.say("What the policy does not allow is refused, and the entry stays what it was.")
    refused = story.run("EXPCACHE.SET", ua_trips, "<trips/>", "FORMAT", "xml")
    story.check("xml is refused", refused, lambda reply: str(reply).startswith("(error) BADFORMAT"))

    story.say("An entry is an ordinary key: Redis expires it after 30 + 5 minutes and can tell its type.")
    left = story.run("TTL", ua_trips)
    story.check("the native TTL is freshness and grace", left, lambda seconds: 2000 < seconds <= 2100)
    story.check("the key has the module's type", story.run("TYPE", ua_trips), "exp-cache")
    meta = story.run("EXPCACHE.META", ua_trips, map_reply=True,
                     only=["format", "records", "size", "state", "ttl", "grace", "hits", "cost", "tags"])
    known = {"format": b"json", "records": ua.records, "size": len(ua.payload), "state": b"fresh", "grace": 300_000,
             "hits": 0, "cost": ua.cost_ms, "tags": '1) "company:UA"\n    2) "user:7"\n    3) "type:trips"'}
    story.check("META answers what was stored", {name: meta.get(name) for name in known}, known)
    story.check("for 30 minutes", meta["ttl"], lambda ms: ms and 1_700_000 < ms <= 1_800_000)
    return ua_trips, dl_vehicles, dl


def store(story, directory, kind, company, user, form):
    """Derive, produce, store: what an export service does on a miss."""
    key = story.run("EXPCACHE.KEYFOR", kind, "COMPANY", company, "USER", user, "FORMAT", form).decode()
    export = produce(directory, kind, company, form)
    stored = story.run("EXPCACHE.SET", key, "PAYLOAD", "TAGS", 3, f"company:{company}", f"user:{user}", f"type:{kind}",
                       "FORMAT", form, "RECORDS", export.records, "COST", export.cost_ms, payload=export.path)
    story.check("the export is stored", stored, "OK")
    return key, export


def invalidation(story, vehicles_key, ua_trips, dl_vehicles, dl):
    story.title("4. A company's data changes")
    story.say("UA renumbers its fleet. One command invalidates all that carries its tag and says how many that were.")
    story.check("UA had 2 entries", story.run("EXPCACHE.INVALIDATE.TAG", "company:UA"), 2)
    story.say("Both are gone with the reply; Delta's are untouched.")
    gone = story.run("EXPCACHE.MGET", vehicles_key, ua_trips)
    story.check("UA's are gone", gone, "1) (nil)\n2) (nil)")
    story.check("Delta's are there", story.run("EXPCACHE.GET", dl_vehicles), dl.payload)


def statistics(story):
    story.title("5. What the cache says of itself")
    story.say("""Six hits (GET twice, FETCH four times: not-modified is one) against three misses: the first question
        and the two after the invalidation.""")
    stats = story.run("EXPCACHE.STATS", map_reply=True, only=[
        "entries", "tags", "payload-bytes", "index-bytes", "hits", "misses", "hit-rate", "sets", "invalidated", "rejected"])
    counted = {"entries": 2, "tags": 4, "rejected": 1, "hits": 6, "misses": 3, "sets": 4, "invalidated": 2}
    story.check("the counters", {name: stats.get(name) for name in counted}, counted)
    story.say("And does the index of tags agree with the keys? An empty list: no disagreement.")
    story.check("the index agrees with the keyspace", story.run("EXPCACHE.DEBUG", "CHECK"), "(empty array)")


# ---- the program ----------------------------------------------------------------------------------------------------


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--serve", action="store_true", help="keep the server up after the story, until Ctrl-C")
    serve = options.parse_args().serve
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)  # whoever reads along in a file sees each step at once
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

    told = False
    try:
        with Server() as server:
            try:
                begin(server)
                story = Story(server.port)
                tell(story, server.directory)
                told = True
                print("\nAll as told.")
                return wait(server, story.cli) if serve else 0
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)  # the way out is short, and not to be cut shorter
    except Failure as failure:
        sys.stdout.flush()
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `make demo | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Stop:
        print("\nThe server is stopped and its directory removed.")
        return 0 if told else 130


def begin(server):
    says = subprocess.run([server.program, "--version"], capture_output=True, text=True).stdout
    version = re.match(r"(\w+) server v=([\d.]+)", says)
    name = " ".join(version.groups()) if version else server.program
    print(f"{name} with {server.module.name} listens on 127.0.0.1:{server.port}.")


def wait(server, cli):
    print(f"The server stays up on port {server.port}, Ctrl-C ends it. To look around, in another terminal:\n\n"
          f"    {cli} -p {server.port}\n")
    status = server.process.wait()
    print(f"The server has ended by itself (status {status}).")
    return 0 if status == 0 else 1


def stop(*_):
    raise Stop


if __name__ == "__main__":
    sys.exit(main())
