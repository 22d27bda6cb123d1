// expcache with node-redis: `node node_redis.mjs HOST PORT [cluster]`.

import { pathToFileURL } from 'node:url';
import { createClient, createCluster } from 'redis';

const PATIENCE = 60_000; // ms, until one produces for oneself

// Whoever calls while the server is away shall hear of it at once, and not queue until it is back. A reply may take as long as the
// WAIT below; who says nothing for longer hangs.
const options = { disableOfflineQueue: true, commandOptions: { timeout: 15_000 }, socket: { connectTimeout: 2_000 } };

/** One server or a cluster, with the same two ways to send a command. */
export async function connect(host, port, isCluster) {
  const url = `redis://${host}:${port}`;
  if (!isCluster) {
    const client = createClient({ url, ...options });
    await ready(client);
    const send = (key, args) => client.sendCommand(args);
    return { send, everywhere: async (args) => [await client.sendCommand(args)], close: () => client.destroy() };
  }
  const cluster = createCluster({ rootNodes: [{ url }], defaults: options });
  await ready(cluster);
  const primary = async ({ address, ...node }, args) => (await cluster.nodeClient({ address, ...node })).sendCommand(args);
  return {
    send: (key, args) => cluster.sendCommand(key, false, args),
    everywhere: (args) => Promise.all(cluster.masters.map((node) => primary(node, args))),
    close: () => cluster.destroy(),
  };
}

/** Connected, or known to be away: it goes on trying. Without somebody who hears of errors they would end the program. */
async function ready(client) {
  const failed = new Promise((resolve) => client.on('error', (error) => resolve(console.warn(`expcache: ${error.message}`))));
  await Promise.race([client.connect().catch(() => {}), failed]);
}

/** A reply of names and values, which RESP2 sends as one flat array. */
export function fields(reply) {
  if (!Array.isArray(reply)) return reply instanceof Map ? Object.fromEntries(reply) : reply;
  return Object.fromEntries(reply.flatMap((name, i) => (i % 2 ? [] : [[name, reply[i + 1]]])));
}

/** The export of a key. One caller produces it, the others wait. Whatever is wrong with the cache, it is produced. */
export async function getOrProduce(redis, key, tags, produce) {
  const deadline = Date.now() + PATIENCE;
  while (Date.now() < deadline) {
    let found;
    try {
      // While another produces, this holds up the connection for up to 10 s: use one of its own where that matters.
      found = fields(await redis.send(key, ['EXPCACHE.FETCH', key, 'LEASE', '30s', 'WAIT', '10s']));
    } catch (error) {
      console.warn(`expcache: producing without the cache: ${error.message}`); // it is away, or refuses to be read
      return produce();
    }
    if (found.lease) return produceUnder(redis, key, tags, produce, found);
    if (found.value !== null) return found.value;
    if (found.retry === null) break; // there is no lease to be had; the result is for this caller only
    // Nobody is waited for after a production that failed: the key rests for a moment.
    await new Promise((resolve) => setTimeout(resolve, Math.min(found.retry, 100)));
  }
  return produce();
}

async function produceUnder(redis, key, tags, produce, { lease, value: stale }) {
  let value;
  try {
    value = await produce();
  } catch (error) {
    await release(redis, key, lease, 'FAIL', String(error).slice(0, 500), 'BACKOFF', '5s');
    if (stale === null) throw error;
    return stale;
  }
  await store(redis, key, value, tags, lease);
  return value;
}

/** The value is there, whatever becomes of this. */
async function store(redis, key, value, tags, lease) {
  const words = ['TAGS', String(tags.length), ...tags, 'GRACE', '5m', 'FORMAT', 'csv', 'LEASE', lease];
  try {
    await redis.send(key, ['EXPCACHE.SET', key, value, ...words]);
  } catch (error) {
    // Invalidated while it was produced, or too late: whoever comes next gets a newer one.
    if (/^(FENCED|LEASELOST)/.test(error.message)) return;
    // Anything else (too large for its type, no memory left, a server that went) leaves the lease, and nobody shall wait for that.
    console.warn(`expcache: not stored: ${error.message}`);
    await release(redis, key, lease);
  }
}

/** Gives the lease up. If that cannot be said, the lease ends by itself, and the caller has other things to hear of. */
async function release(redis, key, lease, ...why) {
  try {
    await redis.send(key, ['EXPCACHE.RELEASE', key, lease, ...why]);
  } catch (error) {
    console.warn(`expcache: not released: ${error.message}`);
  }
}

/** Every entry with any of the tags is gone, on every primary; how many there were. */
export async function invalidate(redis, ...tags) {
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const once = async () => sum(await redis.everywhere(['EXPCACHE.INVALIDATE.TAG', ...tags]));
  // Twice: while a slot of a cluster moves, an entry may arrive at a node that has been told already.
  return (await once()) + (await once());
}

async function main(host, port, mode) {
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
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(...process.argv.slice(2));
