// A proxy: dials out to a server, announces routes, and dials the targets that clients ask for.
//
//   node proxy.js --server HOST:PORT --cert FILE --key FILE --ca FILE --route VIRTUAL=REAL ...

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Connections } from './connection.js';
import { Link } from './link.js';
import { parseRoute, translate } from './routes.js';
import { CHANNEL_OPTIONS, LinkFault, Tunnel, grpc } from './wire.js';

const MAX_CONNECTIONS = 1_000; // times the window, this bounds what is held for slow targets
const SHORTEST_PAUSE = 100; // milliseconds between a link that ended and the next
const LONGEST_PAUSE = 30_000;

const { values: options } = parseArgs({
  options: {
    server: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    ca: { type: 'string' },
    route: { type: 'string', multiple: true },
    id: { type: 'string', default: hostname() },
    group: { type: 'string' },
    drain: { type: 'string', default: '30' }, // seconds
  },
});
for (const name of ['server', 'cert', 'key', 'ca', 'route']) {
  if (!options[name]) {
    console.error(`proxy.js: --${name} is missing`);
    process.exit(2);
  }
}

const routes = options.route.map(parseRoute);
// §1: both ends show a certificate of the same authority; ours says "proxy", the server's is checked
// by the name that is dialled. Nothing else tells the server who we are.
const credentials = grpc.credentials.createSsl(
  ...[options.ca, options.key, options.cert].map((file) => readFileSync(file)),
);

const stopping = new AbortController();
let link = null;
let connections = null;

/** One link, from the call to its end. */
async function carry() {
  const client = new Tunnel(options.server, credentials, CHANNEL_OPTIONS);
  const reason = await new Promise((resolve) => {
    link = new Link(client.ProxyStream(), options.id, { up, frame, room, ended: (_, why) => resolve(why) });
    connections = new Connections(link, resolveTarget, leaveIfDrained);
  });
  connections.resetAll('LINK_LOST'); // §1: connections end with their link; the RESET itself goes nowhere
  console.log('link ended:', reason);
  client.close();
}

function up() {
  console.log('link up');
  link.put({ kind: 'ROUTES', routes: { group: options.group ?? options.id, routes } });
  if (stopping.signal.aborted) link.put({ kind: 'DRAIN' });
}

function frame(_, received) {
  if (received.connection) connections.receive(received);
  else if (received.kind === 'ROUTES_RESULT') {
    console.log('registered; routes in conflict:', received.routes_result.conflicts.length);
  } else if (received.kind === 'ROUTES') throw new LinkFault('ROUTES sent to a proxy'); // §9
  // DRAIN of a server needs nothing: it refuses what it does not want, and says BYE itself.
}

function room() {
  connections.pump();
}

// §5: the proxy checks and translates; it has the last word on its network.
function resolveTarget({ destination }) {
  if (stopping.signal.aborted) return 'DRAINING';
  if (connections.size >= MAX_CONNECTIONS) return 'LIMITED';
  const host = translate(routes, destination.ip);
  return host ? { host, port: destination.port } : 'DENIED';
}

// §3: finish what is open and take nothing new; then say BYE.
function stop() {
  if (stopping.signal.aborted) return;
  stopping.abort();
  console.log('draining');
  link.put({ kind: 'DRAIN' });
  leaveIfDrained();
  setTimeout(() => {
    connections.resetAll('DRAINING');
    link.close('DRAINING', 'stopped before all connections had ended');
  }, 1_000 * Number(options.drain)).unref();
}

function leaveIfDrained() {
  if (stopping.signal.aborted && !connections.size) link.close('DRAINING', 'drained');
}

process.on('SIGTERM', stop);
process.on('SIGINT', stop);

for (let pause = SHORTEST_PAUSE; !stopping.signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
  const begun = Date.now();
  await carry();
  if (Date.now() - begun > LONGEST_PAUSE) pause = SHORTEST_PAUSE;
  // At random, so that a thousand proxies do not come back to a new server in the same instant.
  await sleep(Math.random() * pause, null, { signal: stopping.signal }).catch(() => {});
}
