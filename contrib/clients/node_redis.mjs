// expcache with node-redis: `node node_redis.mjs HOST PORT [cluster]`.

import { createClient, createCluster } from 'redis';

/** One server or a cluster, with the same two ways to send a command. */
async function connect(host, port, isCluster) {
  const url = `redis://${host}:${port}`;
  if (!isCluster) {
    const client = await createClient({ url }).connect();
    const send = (key, args) => client.sendCommand(args);
    return { send, everywhere: async (args) => [await client.sendCommand(args)], close: () => client.close() };
  }
  const cluster = await createCluster({ rootNodes: [{ url }] }).connect();
  const primary = async ({ address, ...node }, args) => (await cluster.nodeClient({ address, ...node })).sendCommand(args);
  return {
    send: (key, args) => cluster.sendCommand(key, false, args),
    everywhere: (args) => Promise.all(cluster.masters.map((node) => primary(node, args))),
    close: () => cluster.close(),
  };
}

/** A reply of names and values, which RESP2 sends as one flat array. */
function fields(reply) {
  if (!Array.isArray(reply)) return reply instanceof Map ? Object.fromEntries(reply) : reply;
  return Object.fromEntries(reply.flatMap((name, i) => (i % 2 ? [] : [[name, reply[i + 1]]])));
}

/** The export of a key. One caller produces it, the others wait. */
async function getOrProduce(redis, key, tags, produce) {
  for (;;) {
    // While another produces, this holds up the connection for up to 10 s: use one of its own where that matters.
    const found = fields(await redis.send(key, ['EXPCACHE.FETCH', key, 'LEASE', '30s', 'WAIT', '10s']));
    if (found.lease) {
      let value;
      try {
        value = await produce();
      } catch (error) {
        await redis.send(key, ['EXPCACHE.RELEASE', key, found.lease, 'FAIL', String(error), 'BACKOFF', '5s']);
        if (found.value === null) throw error;
        return found.value;
      }
      await store(redis, key, value, tags, found.lease);
      return value;
    }
    if (found.value !== null) return found.value;
    if (found.retry === null) return produce(); // there is no lease to be had; the result is for this caller only
  }
}

async function store(redis, key, value, tags, lease) {
  const words = ['TAGS', String(tags.length), ...tags, 'GRACE', '5m', 'FORMAT', 'csv', 'LEASE', lease];
  try {
    await redis.send(key, ['EXPCACHE.SET', key, value, ...words]);
  } catch (error) {
    // Invalidated while it was produced, or too late: whoever comes next gets a newer one.
    if (!/^(FENCED|LEASELOST)/.test(error.message)) throw error;
  }
}

/** Every entry with any of the tags is gone, on every primary; how many there were. */
async function invalidate(redis, ...tags) {
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const once = async () => sum(await redis.everywhere(['EXPCACHE.INVALIDATE.TAG', ...tags]));
  // Twice: while a slot of a cluster moves, an entry may arrive at a node that has been told already.
  return (await once()) + (await once());
}

const [host, port, mode] = process.argv.slice(2);
const redis = await connect(host, port, mode === 'cluster');
await invalidate(redis, 'company:42');
let calls = 0;
const produce = async () => {
  calls += 1;
  return 'id,km\n1,12\n';
};
const keys = Array.from({ length: 9 }, (_, n) => `export_cache:trips:${n}`);
for (const key of [...keys, ...keys]) {
  const value = await getOrProduce(redis, key, ['company:42', 'user:7'], produce);
  if (value !== 'id,km\n1,12\n') throw new Error(`got ${value}`);
}
if (calls !== keys.length) throw new Error('each was to be produced once');
console.log('invalidated', await invalidate(redis, 'company:42'));
redis.close();
