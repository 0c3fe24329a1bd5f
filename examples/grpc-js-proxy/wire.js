// The messages, what a frame must have, and the numbers that both ends rely on.
// "§" is a section of docs/protocol.md.

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const proto = fileURLToPath(new URL('../../tunneler/wire/tunnel.proto', import.meta.url));

// Fields that are absent stay undefined, so that presence can be checked. Numbers are exact up to
// 2^53, which is 8 PiB over one connection; of a limit beyond that only the last bits are lost.
const definition = loadSync(proto, { keepCase: true, longs: Number, enums: String, arrays: true });

export const { Tunnel } = grpc.loadPackageDefinition(definition).tunneler.v1;
export { grpc };

export const VERSION = 1;
export const FLOOR = 65_536; // §6: where both limits of a connection start
export const MAX_PAYLOAD = 262_144; // §2
export const MAX_BATCH = 1_048_576; // §2: where a sender closes a batch
export const MAX_BATCH_ACCEPTED = 4_194_304; // §2
const MAX_OFFSET = 2 ** 62;

export const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': MAX_BATCH_ACCEPTED,
  'grpc.max_send_message_length': MAX_BATCH_ACCEPTED,
  // HTTP/2's own window: room for batches in flight, above those of the connections.
  'grpc-node.flow_control_window': 8 * 1_048_576,
  // What is retried is the link, with a pause of our own; and links do not go through web proxies.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
};

/** The peer broke the protocol in a way that costs it the link (§9). */
export class LinkFault extends Error {
  constructor(message, code = 'PROTOCOL') {
    super(message);
    this.code = code;
  }
}

/** The peer broke the protocol in a way that costs one connection (§9). */
export class ConnectionFault extends LinkFault {}

// §2, the table of kinds: what must be there.
const NEEDED = {
  OPEN: ['connection', 'limit', 'open'],
  OPEN_RESULT: ['connection', 'code'],
  DATA: ['connection', 'offset', 'payload'],
  FIN: ['connection', 'offset'],
  ACK: ['connection', 'offset', 'limit'],
  RESET: ['connection', 'code'],
  HELLO: ['hello'],
  ROUTES: ['routes'],
  ROUTES_RESULT: ['routes_result'],
  HEARTBEAT: [],
  DRAIN: [],
  BYE: ['code'],
};

const WELL_FORMED = {
  connection: (id) => id.length === 16,
  offset: (offset) => offset <= MAX_OFFSET,
  limit: (limit) => limit <= MAX_OFFSET,
  payload: (payload) => payload.length > 0 && payload.length <= MAX_PAYLOAD,
  // The loader leaves an enum's unknown numbers as numbers.
  code: (code) => typeof code === 'string' && code !== 'CODE_UNSPECIFIED',
  open: ({ source, destination }) => isEndpoint(source) && isEndpoint(destination),
  hello: ({ instance }) => /^[!-~]{1,64}$/.test(instance ?? ''),
  routes: ({ group }) => /^[!-~]{1,64}$/.test(group ?? ''),
  routes_result: () => true,
};

function isEndpoint(address) {
  return [4, 16].includes(address?.ip?.length) && address.port >= 1 && address.port <= 65_535;
}

/** Throw LinkFault unless the frame has all that its kind needs, within its bounds (§2). */
export function check(frame) {
  const needed = NEEDED[frame.kind];
  if (!needed) throw new LinkFault(`unknown kind ${frame.kind}`);
  for (const field of needed) {
    if (frame[field] === undefined || !WELL_FORMED[field](frame[field])) {
      throw new LinkFault(`${frame.kind} without a valid ${field}`);
    }
  }
}
