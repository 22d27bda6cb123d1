"""expcache with redis-py: `python redis_py.py HOST PORT [cluster]`."""

import logging
import sys
import time

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

log = logging.getLogger("expcache")
PATIENCE = 60  # seconds, until one produces for oneself
# What a cluster of which no node answers raises is no RedisError.
FAULTS = (redis.RedisError, redis.exceptions.RedisClusterException)


def connect(host, port, cluster):
    kind = redis.RedisCluster if cluster else redis.Redis
    # A reply may take as long as the WAIT below; who says nothing for longer hangs, and the producer is to be reached. It is not
    # to be reached after ten attempts only, which are redis-py's own idea.
    retry = Retry(ConstantBackoff(0.1), 1)
    return kind(host=host, port=port, protocol=3, socket_connect_timeout=2, socket_timeout=15, retry=retry)


def get_or_produce(r, key, tags, produce):
    """The export of a key. One caller produces it, the others wait. Whatever is wrong with the cache, it is produced."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            found = fetch(r, key)
        except FAULTS as error:  # it is away, or refuses to be read
            log.warning("producing without the cache: %s", error)
            return produce()
        if found["lease"]:
            return produce_under(r, key, tags, produce, found["lease"], found["value"])
        if found["value"] is not None:
            return found["value"]
        if found["retry"] is None:
            break  # there is no lease to be had; the result is for this caller only
        # Nobody is waited for after a production that failed: the key rests for a moment.
        time.sleep(min(found["retry"], 100) / 1000)
    return produce()


def fetch(r, key):
    # While another produces, this holds its connection for up to 10 s.
    found = r.execute_command("EXPCACHE.FETCH", key, "LEASE", "30s", "WAIT", "10s")
    return {bytes(field).decode(): value for field, value in found.items()}


def produce_under(r, key, tags, produce, lease, stale):
    try:
        value = produce()
    except Exception as error:
        release(r, key, lease, "FAIL", str(error)[:500], "BACKOFF", "5s")
        if stale is None:
            raise
        return stale
    store(r, key, value, tags, lease)
    return value


def store(r, key, value, tags, lease):
    """The value is there, whatever becomes of this."""
    try:
        words = ["TAGS", len(tags), *tags, "GRACE", "5m", "FORMAT", "csv", "LEASE", lease]
        r.execute_command("EXPCACHE.SET", key, value, *words)
    except FAULTS as error:
        # FENCED, LEASELOST: invalidated while it was produced, or too late; whoever comes next gets a newer one. Anything else (too
        # large for its type, no memory left, a server that went) leaves the lease, and nobody shall wait for that.
        if not str(error).startswith(("FENCED", "LEASELOST")):
            log.warning("not stored: %s", error)
            release(r, key, lease)


def release(r, key, lease, *why):
    """Gives the lease up. If that cannot be said, the lease ends by itself, and the caller has other things to hear of."""
    try:
        r.execute_command("EXPCACHE.RELEASE", key, lease, *why)
    except FAULTS as error:
        log.warning("not released: %s", error)


def invalidate(r, *tags):
    """Every entry with any of the tags is gone, on every primary; how many there were."""
    if not isinstance(r, redis.RedisCluster):
        return r.execute_command("EXPCACHE.INVTAG", *tags)
    # Twice: while a slot moves, an entry may arrive at a node that has been told already. EXPCACHE.INVTAG is
    # EXPCACHE.INVALIDATE.TAG under a name that redis-py's cluster client takes; and that wants the nodes themselves: the flag
    # RedisCluster.PRIMARIES is for commands that it knows.
    count = 0
    for _ in range(2):
        for node in r.get_primaries():
            count += r.execute_command("EXPCACHE.INVTAG", *tags, target_nodes=node)
    return count


def main(host, port, mode=""):
    r = connect(host, int(port), mode == "cluster")
    invalidate(r, "company:42")
    calls = []

    def produce():
        calls.append(time.time())
        return b"id,km\n1,12\n"

    keys = [f"export_cache:trips:{n}" for n in range(9)]
    for key in keys * 2:
        assert get_or_produce(r, key, ["company:42", "user:7"], produce) == b"id,km\n1,12\n"
    assert len(calls) == len(keys), "each was produced once"
    print("invalidated", invalidate(r, "company:42"))


if __name__ == "__main__":
    main(*sys.argv[1:])
