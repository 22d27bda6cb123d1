// What goes wrong around the recipe: `node faults.mjs HOST PORT`. It ends the server.

import assert from 'node:assert/strict';
import { createClient } from 'redis';
import { connect, fields, getOrProduce } from './node_redis.mjs';

const VALUE = 'id,km\n1,12\n';
const KEY = 'export_cache:trips:faults';

const [host, port] = process.argv.slice(2);
const redis = await connect(host, port, false);
const admin = await createClient({ url: `redis://${host}:${port}`, socket: { reconnectStrategy: false } })
  .on('error', () => {})
  .connect();
const command = (...args) => admin.sendCommand(args);

/** One production, in which something happens. */
async function produced(...meanwhile) {
  await command('EXPCACHE.DEL', KEY);
  let calls = 0;
  const produce = async () => {
    calls += 1;
    if (meanwhile.length) await command(...meanwhile);
    return VALUE;
  };
  assert.equal(await getOrProduce(redis, KEY, ['company:42'], produce), VALUE);
  assert.equal(calls, 1);
}

async function nobodyWaitsForIt() {
  const { lease } = fields(await command('EXPCACHE.FETCH', KEY, 'LEASE', '30s'));
  assert.ok(lease, 'its lease was given up');
  await command('EXPCACHE.RELEASE', KEY, lease);
}

async function failing(key, meanwhile) {
  const produce = async () => {
    await meanwhile();
    throw new Error('no database');
  };
  await assert.rejects(getOrProduce(redis, KEY + key, [], produce), { message: 'no database' });
}

// Stores that are refused.
await produced('EXPCACHE.TYPE', 'SET', 'trips', 'MAXVALUE', '4');
await nobodyWaitsForIt();
await command('EXPCACHE.TYPE', 'SET', 'trips', 'MAXVALUE', '0', 'FORMATS', '1', 'json');
await produced();
await nobodyWaitsForIt();
await command('EXPCACHE.TYPE', 'SET', 'trips', 'FORMATS', '0');
await produced('CONFIG', 'SET', 'maxmemory', '1');
await command('CONFIG', 'SET', 'maxmemory', '0');
await nobodyWaitsForIt();
await produced('CONFIG', 'SET', 'min-replicas-to-write', '1');
await command('CONFIG', 'SET', 'min-replicas-to-write', '0');
// What was invalidated meanwhile is for its caller only.
await produced('EXPCACHE.INVALIDATE.TAG', 'company:42');
await nobodyWaitsForIt();

// The producer's error is what comes out; but a stale value does for it.
await failing('1', async () => {});
await failing('2', () => command('ACL', 'SETUSER', 'default', '-expcache.release'));
await command('ACL', 'SETUSER', 'default', '+@all');
await produced();
await command('EXPCACHE.PURGE', 'TYPE', 'trips', 'SOFT');
const broken = async () => {
  throw new Error('no database');
};
assert.equal(await getOrProduce(redis, KEY, [], broken), VALUE, 'the stale one');

// Not to be read.
await command('SET', KEY, 'a value of another type');
assert.equal(await getOrProduce(redis, KEY, [], async () => VALUE), VALUE);
await command('DEL', KEY);

// Away, in the middle and from the beginning; and a program that starts while it is.
await failing('3', () => command('SHUTDOWN', 'NOSAVE').catch(() => {}));
assert.equal(await getOrProduce(redis, KEY, [], async () => VALUE), VALUE);
const late = await connect(host, port, false);
assert.equal(await getOrProduce(late, KEY, [], async () => VALUE), VALUE);
late.close();
redis.close();
console.log('all well');
