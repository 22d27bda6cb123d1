"""A worker that keeps a cache warm, with redis-py: `python warm_worker.py HOST PORT [cluster]`. SIGTERM and Ctrl-C end it."""

import json
import logging
import signal
import sys
import threading

import redis

log = logging.getLogger("worker")
LEASE = 5  # seconds: so soon others are offered the key if this process dies
# What a cluster of which no node answers raises is no RedisError.
FAULTS = (redis.RedisError, redis.exceptions.RedisClusterException)


def trips(meta):
    return f"company,month\n{meta['company']},{meta['month']}\n"


HANDLERS = {b"trips": trips}


class Worker:
    def __init__(self, r):
        self.r = r
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set():
            # Each primary offers its own keys.
            nodes = self.r.get_primaries() if isinstance(self.r, redis.RedisCluster) else [None]
            for node in nodes:
                try:
                    for job in self.ask(node, "1s" if len(nodes) == 1 else "200ms"):
                        self.work(job)
                except FAULTS as error:  # it is away, or refuses to be asked
                    log.warning("no keys to be had: %s", error)
                    self.ending.wait(1)

    def ask(self, node, wait):
        target = {"target_nodes": node} if node else {}
        types = ["TYPES", len(HANDLERS), *HANDLERS]
        jobs = self.r.execute_command("EXPCACHE.WARM", *types, "LEASE", f"{LEASE}s", "WAIT", wait, **target)
        return [{bytes(field).decode(): value for field, value in job.items()} for job in jobs]

    def work(self, job):
        key, token, done = job["key"], job["token"], threading.Event()
        threading.Thread(target=self.renew, args=(key, token, done), daemon=True).start()
        try:
            produce, meta = HANDLERS[job["type"]], json.loads(job["meta"] or "{}")
            self.store(job, produce(meta))
        except Exception as error:
            if str(error).startswith(("FENCED", "LEASELOST")):
                return  # invalidated meanwhile, or too late: the key is offered again
            log.warning("%s: %r", key, error)
            # Without the BACKOFF the key would be offered again at once.
            self.r.execute_command("EXPCACHE.RELEASE", key, token, "FAIL", str(error)[:500], "BACKOFF", "5s")
        finally:
            done.set()

    def store(self, job, value):
        # As it was stored before: or the next worker would not know what to do.
        words = ["TYPE", job["type"], "TAGS", len(job["tags"]), *job["tags"]] if job["tags"] else ["TYPE", job["type"]]
        for field in ["format", "meta"]:
            words += [field.upper(), job[field]] if job[field] else []
        self.r.execute_command("EXPCACHE.SET", job["key"], value, *words, "LEASE", job["token"])

    def renew(self, key, token, done):
        while not done.wait(LEASE / 3):
            try:
                if not self.r.execute_command("EXPCACHE.RENEW", key, token, f"{LEASE}s"):
                    return
            except FAULTS as error:
                log.warning("not renewed: %s", error)


def main(host, port, mode=""):
    kind = redis.RedisCluster if mode == "cluster" else redis.Redis
    worker = Worker(kind(host=host, port=int(port), protocol=3, socket_connect_timeout=2, socket_timeout=5))
    # What it works on is finished; no other lease is held.
    for number in [signal.SIGTERM, signal.SIGINT]:
        signal.signal(number, lambda *_: worker.ending.set())
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
