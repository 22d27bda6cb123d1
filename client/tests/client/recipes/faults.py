"""What goes wrong around the recipe: `python faults.py HOST PORT`. It ends the server."""

import sys

import redis
import redis_py as recipe
import warm_worker
from redis.backoff import NoBackoff
from redis.retry import Retry

VALUE = b"id,km\n1,12\n"
KEY = "export_cache:trips:faults"


def main(host, port):
    r = recipe.connect(host, int(port), cluster=False)
    command = redis.Redis(host=host, port=int(port), protocol=3, retry=Retry(NoBackoff(), 0)).execute_command

    def produced(meanwhile=()):
        """One production, in which something happens."""
        command("EXPCACHE.DEL", KEY)
        calls = []

        def produce():
            calls.append(1)
            if meanwhile:
                command(*meanwhile)
            return VALUE

        assert recipe.get_or_produce(r, KEY, ["company:42"], produce) == VALUE
        assert len(calls) == 1

    def nobody_waits_for_it():
        found = recipe.fetch(r, KEY)
        assert found["value"] is None and found["lease"], found
        command("EXPCACHE.RELEASE", KEY, found["lease"])

    # Stores that are refused.
    produced(["EXPCACHE.TYPE", "SET", "trips", "MAXVALUE", "4"])
    nobody_waits_for_it()
    command("EXPCACHE.TYPE", "SET", "trips", "MAXVALUE", "0", "FORMATS", "1", "json")
    produced()
    nobody_waits_for_it()
    command("EXPCACHE.TYPE", "SET", "trips", "FORMATS", "0")
    produced(["CONFIG", "SET", "maxmemory", "1"])
    command("CONFIG", "SET", "maxmemory", "0")
    nobody_waits_for_it()
    produced(["CONFIG", "SET", "min-replicas-to-write", "1"])
    command("CONFIG", "SET", "min-replicas-to-write", "0")
    # What was invalidated meanwhile is for its caller only.
    produced(["EXPCACHE.INVALIDATE.TAG", "company:42"])
    nobody_waits_for_it()

    # The producer's error is what comes out; but a stale value does for it.
    failing(r, "1", lambda: None)
    failing(r, "2", lambda: command("ACL", "SETUSER", "default", "-expcache.release"))
    command("ACL", "SETUSER", "default", "+@all")
    produced()
    command("EXPCACHE.PURGE", "TYPE", "trips", "SOFT")
    assert recipe.get_or_produce(r, KEY, [], lambda: 1 / 0) == VALUE, "the stale one"

    # Not to be read.
    command("SET", KEY, "a value of another type")
    assert recipe.get_or_produce(r, KEY, [], lambda: VALUE) == VALUE
    command("DEL", KEY)

    # Away, in the middle and from the beginning.
    def gone():
        try:
            command("SHUTDOWN", "NOSAVE")
        except redis.ConnectionError:
            pass

    failing(r, "3", gone)
    assert recipe.get_or_produce(r, KEY, [], lambda: VALUE) == VALUE
    assert recipe.get_or_produce(NoCluster(), KEY, [], lambda: VALUE) == VALUE
    worker = warm_worker.Worker(NoCluster())
    worker.r.asked = worker.ending.set
    worker.run()
    print("all well")


class NoCluster:
    """As redis-py says it when there is no node of a cluster left."""

    def asked(self):
        pass

    def execute_command(self, *_):
        self.asked()
        raise redis.exceptions.RedisClusterException("there is no node")


def failing(r, key, meanwhile):
    def produce():
        meanwhile()
        raise RuntimeError("no database")

    try:
        recipe.get_or_produce(r, KEY + key, [], produce)
    except RuntimeError as error:
        assert str(error) == "no database"
    else:
        raise AssertionError("it failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
