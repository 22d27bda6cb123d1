// expcache with Jedis 7.2 or later: one server by RedisClient, a cluster by RedisClusterClient. (Jedis 5 and 6: JedisPooled, and
// JedisCluster here in place of RedisClusterClient.)

import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.function.Supplier;
import redis.clients.jedis.*;
import redis.clients.jedis.Jedis; // and not this file
import redis.clients.jedis.commands.ProtocolCommand;
import redis.clients.jedis.exceptions.JedisDataException;
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

  /** The export of a key. One caller produces it, the others wait. */
  static String getOrProduce(UnifiedJedis jedis, String key, List<String> tags, Supplier<String> produce) {
    while (true) {
      // While another produces, this waits for up to 10 s: the socket timeout must be longer. The first argument after the
      // command is the key by which a cluster's node is chosen.
      var found = fields(jedis.sendCommand(key, FETCH, key, "LEASE", "30s", "WAIT", "10s"));
      var value = found.get("value");
      var lease = found.get("lease");
      if (lease != null) {
        String made;
        try {
          made = produce.get();
        } catch (RuntimeException error) {
          jedis.sendCommand(key, RELEASE, key, lease, "FAIL", String.valueOf(error.getMessage()), "BACKOFF", "5s");
          if (value == null) throw error;
          return value;
        }
        store(jedis, key, made, tags, lease);
        return made;
      }
      if (value != null) return value;
      if (found.get("retry") == null) return produce.get(); // no lease to be had; the result is for this caller only
    }
  }

  static void store(UnifiedJedis jedis, String key, String value, List<String> tags, String lease) {
    var words = new ArrayList<>(List.of(key, value, "TAGS", String.valueOf(tags.size())));
    words.addAll(tags);
    words.addAll(List.of("GRACE", "5m", "FORMAT", "csv", "LEASE", lease));
    try {
      jedis.sendCommand(key, SET, words.toArray(String[]::new));
    } catch (JedisDataException error) {
      // Invalidated while it was produced, or too late: whoever comes next gets a newer one.
      if (!error.getMessage().matches("(FENCED|LEASELOST).*")) throw error;
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
