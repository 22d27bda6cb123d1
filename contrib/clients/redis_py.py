"""expcache with redis-py: `python redis_py.py HOST PORT [cluster]`."""

import sys
import time

import redis


def connect(host, port, cluster):
    kind = redis.RedisCluster if cluster else redis.Redis
    return kind(host=host, port=port, protocol=3)


def get_or_produce(r, key, tags, produce):
    """The export of a key. One caller produces it, the others wait."""
    while True:
        # While another produces, this holds its connection for up to 10 s: its socket timeout must be longer.
        found = r.execute_command("EXPCACHE.FETCH", key, "LEASE", "30s", "WAIT", "10s")
        found = {bytes(field).decode(): value for field, value in found.items()}
        if found["lease"]:
            try:
                value = produce()
            except Exception as error:
                r.execute_command("EXPCACHE.RELEASE", key, found["lease"], "FAIL", str(error), "BACKOFF", "5s")
                if found["value"] is None:
                    raise
                return found["value"]
            store(r, key, value, tags, found["lease"])
            return value
        if found["value"] is not None:
            return found["value"]
        if found["retry"] is None:
            return produce()  # there is no lease to be had; the result is for this caller only


def store(r, key, value, tags, lease):
    try:
        words = ["TAGS", len(tags), *tags, "GRACE", "5m", "FORMAT", "csv", "LEASE", lease]
        r.execute_command("EXPCACHE.SET", key, value, *words)
    except redis.ResponseError as error:
        # Invalidated while it was produced, or too late: whoever comes next gets a newer one.
        if not str(error).startswith(("FENCED", "LEASELOST")):
            raise


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
