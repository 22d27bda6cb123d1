// expcache with Jedis 7.2 or later: one server by RedisClient, a cluster by RedisClusterClient. (Jedis 5 and 6: JedisPooled, and
// JedisCluster here in place of RedisClusterClient.)

import static java.lang.System.Logger.Level.WARNING;

import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import redis.clients.jedis.*;
import redis.clients.jedis.Jedis; // and not this file
import redis.clients.jedis.commands.ProtocolCommand;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.util.SafeEncoder;

class Expcache {
  /** Jedis wants a command as an object that knows its bytes. */
  record Command(String name) implements ProtocolCommand {
    public byte[] getRaw() {
      return name.getBytes(StandardCharsets.UTF_8);
    }
  }

  static final Command SET = new Command("EXPCACHE.SET");
  static final Command FETCH = new Command("EXPCACHE.FETCH");
  static final Command RELEASE = new Command("EXPCACHE.RELEASE");
  static final Command INVALIDATE = new Command("EXPCACHE.INVALIDATE.TAG");

  /** How long one waits for others before one produces for oneself. */
  static final long PATIENCE_MS = 60_000;

  static final System.Logger LOG = System.getLogger("expcache");

  /** The export of a key. One caller produces it, the others wait. Whatever is wrong with the cache, it is produced. */
  static String getOrProduce(UnifiedJedis jedis, String key, List<String> tags, Supplier<String> produce) {
    for (var since = System.nanoTime(); System.nanoTime() - since < PATIENCE_MS * 1_000_000; ) {
      Map<String, String> found;
      try {
        // While another produces, this waits for up to 10 s: the socket timeout must be longer. The first argument after the
        // command is the key by which a cluster's node is chosen.
        found = fields(jedis.sendCommand(key, FETCH, key, "LEASE", "30s", "WAIT", "10s"));
      } catch (JedisException error) { // it is away, or refuses to be read
        LOG.log(WARNING, "producing without the cache: " + error);
        return produce.get();
      }
      var value = found.get("value");
      var lease = found.get("lease");
      if (lease != null) return produceUnder(jedis, key, tags, produce, lease, value);
      if (value != null) return value;
      if (found.get("retry") == null) break; // no lease to be had; the result is for this caller only
      // Nobody is waited for after a production that failed: the key rests for a moment.
      LockSupport.parkNanos(Math.min(Long.parseLong(found.get("retry")), 100) * 1_000_000);
    }
    return produce.get();
  }

  static String produceUnder(
      UnifiedJedis jedis, String key, List<String> tags, Supplier<String> produce, String lease, String stale) {
    String made;
    try {
      made = produce.get();
    } catch (RuntimeException error) {
      release(jedis, key, lease, "FAIL", String.valueOf(error.getMessage()), "BACKOFF", "5s");
      if (stale == null) throw error;
      return stale;
    }
    store(jedis, key, made, tags, lease);
    return made;
  }

  /** The value is there, whatever becomes of this. */
  static void store(UnifiedJedis jedis, String key, String value, List<String> tags, String lease) {
    var words = new ArrayList<>(List.of(key, value, "TAGS", String.valueOf(tags.size())));
    words.addAll(tags);
    words.addAll(List.of("GRACE", "5m", "FORMAT", "csv", "LEASE", lease));
    try {
      jedis.sendCommand(key, SET, words.toArray(String[]::new));
    } catch (JedisException error) {
      // Invalidated while it was produced, or too late: whoever comes next gets a newer one.
      if (String.valueOf(error.getMessage()).matches("(?s)(FENCED|LEASELOST).*")) return;
      // Anything else (too large for its type, no memory left, a server that went) leaves the lease; nobody shall wait for that.
      LOG.log(WARNING, "not stored: " + error);
      release(jedis, key, lease);
    }
  }

  /** Gives the lease up. If that cannot be said, the lease ends by itself, and the caller has other things to hear of. */
  static void release(UnifiedJedis jedis, String key, String lease, String... why) {
    var words = new ArrayList<>(List.of(key, lease));
    words.addAll(List.of(why));
    try {
      jedis.sendCommand(key, RELEASE, words.toArray(String[]::new));
    } catch (JedisException error) {
      LOG.log(WARNING, "not released: " + error);
    }
  }

  /** Every entry with any of the tags is gone, on every primary; how many there were. */
  static long invalidate(UnifiedJedis jedis, String... tags) {
    if (!(jedis instanceof RedisClusterClient cluster)) return (Long) jedis.sendCommand(INVALIDATE, tags);
    long count = 0;
    // Twice: while a slot moves, an entry may arrive at a node that has been told already.
    for (int round = 0; round < 2; round++) {
      for (var pool : cluster.getClusterNodes().values()) {
        try (var node = new Jedis(pool.getResource())) {
          if (isPrimary(node)) count += (Long) node.sendCommand(INVALIDATE, tags);
        }
      }
    }
    return count;
  }

  static boolean isPrimary(Jedis node) {
    return node.info("replication").contains("role:master");
  }

  /** A reply of names and values: in RESP3, the default of Jedis 8, a list of pairs, in RESP2 one flat list. */
  static Map<String, String> fields(Object reply) {
    var fields = new HashMap<String, String>();
    for (var items = ((List<?>) reply).iterator(); items.hasNext(); ) {
      var item = items.next();
      if (item instanceof Map.Entry<?, ?> pair) fields.put(text(pair.getKey()), text(pair.getValue()));
      else fields.put(text(item), text(items.next()));
    }
    return fields;
  }

  static String text(Object value) {
    return value instanceof byte[] bytes ? SafeEncoder.encode(bytes) : value == null ? null : value.toString();
  }
}
