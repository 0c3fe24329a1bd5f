// A server for the tests, on @grpc/grpc-js: it passes connections on between clients and proxies, and
// dials one target itself for whatever no proxy has announced. It trusts both ends to keep to offsets
// and windows, holds what they allow each other, and checks no policy: a test needs none of that.
//
//   node relay.mjs --listen HOST:PORT --cert FILE --key FILE --ca FILE [--target PORT]

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Connections } from '../../examples/grpc-js-proxy/connection.js';
import { Link } from '../../examples/grpc-js-proxy/link.js';
import { lookUp } from '../../examples/grpc-js-proxy/routes.js';
import { CHANNEL_OPTIONS, LinkFault, Tunnel, grpc } from '../../examples/grpc-js-proxy/wire.js';

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    ca: { type: 'string' },
    target: { type: 'string' },
  },
});

const proxies = new Set(); // links that have announced routes
const relayed = new Map(); // connection id -> Passage
const IDENTITY = /^URI:(spiffe:\/\/tunneler\/(client|proxy)\/[A-Za-z0-9._-]{1,64})$/;

/** A connection between two links. */
class Passage {
  constructor(client, proxy) {
    this.ends = new Map([[client, { other: proxy }], [proxy, { other: client }]]);
  }

  /** Pass a frame on; say whether the connection is over: refused, reset, or both FINs covered. */
  pass(link, frame) {
    const end = this.ends.get(link);
    const other = this.ends.get(end.other);
    end.other.put(frame);
    if (frame.kind === 'FIN') end.fin = frame.offset;
    if (frame.kind === 'ACK' && other.fin !== undefined) other.covered ||= frame.offset > other.fin;
    if (frame.kind === 'OPEN_RESULT') return frame.code !== 'OK';
    return frame.kind === 'RESET' || (end.covered && other.covered);
  }
}

/** What is done about a link whose peer is a `role`. */
function serve(role) {
  return (call) => {
    const { subjectaltname = '' } = call.getAuthContext().sslPeerCertificate ?? {};
    const [, identity, certified] = subjectaltname.split(', ').map((name) => IDENTITY.exec(name)).find(Boolean) ?? [];
    if (certified !== role) {
      call.emit('error', { code: grpc.status.PERMISSION_DENIED });
      return;
    }
    const link = new Link(call, 'grpc-js', {
      up: () => console.log('link up', identity, link.peerInstance),
      frame: (_, frame) => (frame.connection ? ofConnection : ofLink)(link, frame),
      room: () => link.connections.pump(),
      ended: (_, reason) => leave(link, reason),
    });
    link.role = role;
    link.party = () => ({ identity, instance: link.peerInstance });
    link.connections = new Connections(link, dialHere);
  };
}

function dialHere() {
  return options.target ? { host: '127.0.0.1', port: Number(options.target) } : 'NO_ROUTE';
}

function ofLink(link, frame) {
  if (frame.kind !== 'ROUTES') return;
  if (link.role !== 'proxy') throw new LinkFault('ROUTES by a client');
  link.routes = frame.routes.routes;
  proxies.add(link);
  link.put({ kind: 'ROUTES_RESULT', routes_result: { conflicts: [] } });
  console.log('registered', link.peerInstance, link.routes.length);
}

function ofConnection(link, frame) {
  const key = frame.connection.toString('hex');
  if (frame.kind === 'OPEN') {
    const proxy = [...proxies].find((each) => lookUp(each.routes, frame.open.destination.ip));
    if (link.role !== 'client') throw new LinkFault('OPEN by a proxy');
    if (!proxy) return link.connections.receive(frame);
    relayed.set(key, new Passage(link, proxy));
    frame.open.client = link.party(); // what the peer says about itself is overwritten
  }
  if (frame.kind === 'OPEN_RESULT') frame.open_result = { proxy: link.party() };
  const passage = relayed.get(key);
  if (!passage?.ends.has(link)) return link.connections.receive(frame); // ours, or unknown
  if (passage.pass(link, frame)) relayed.delete(key);
}

function leave(link, reason) {
  console.log('link ended', reason);
  proxies.delete(link);
  link.connections.resetAll('LINK_LOST');
  for (const [key, passage] of relayed) {
    const end = passage.ends.get(link);
    if (!end) continue;
    relayed.delete(key);
    end.other.put({ connection: Buffer.from(key, 'hex'), kind: 'RESET', code: 'LINK_LOST' });
  }
}

const server = new grpc.Server(CHANNEL_OPTIONS);
server.addService(Tunnel.service, { ClientStream: serve('client'), ProxyStream: serve('proxy') });
const [ca, key, cert] = [options.ca, options.key, options.cert].map((file) => readFileSync(file));
const credentials = grpc.ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: cert }], true);
server.bindAsync(options.listen, credentials, (error) => {
  if (error) throw error;
  console.log('listening');
});
process.on('SIGTERM', () => server.forceShutdown());
