// Calls a method of the service once, greets, and prints what came of it: "greeted", or the name of
// gRPC's status.
//
//   node caller.mjs --server HOST:PORT --method NAME --ca FILE [--cert FILE --key FILE]

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { CHANNEL_OPTIONS, Tunnel, VERSION, grpc } from '../../examples/grpc-js-proxy/wire.js';

const { values: options } = parseArgs({
  options: {
    server: { type: 'string' },
    method: { type: 'string' },
    ca: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

const files = [options.ca, options.key, options.cert].map((file) => (file ? readFileSync(file) : null));
const client = new Tunnel(options.server, grpc.credentials.createSsl(...files), CHANNEL_OPTIONS);
const { requestSerialize, responseDeserialize } = Tunnel.service.ClientStream;
const call = client.makeBidiStreamRequest(
  `/tunneler.v1.Tunnel/${options.method}`, requestSerialize, responseDeserialize,
);

const outcome = await new Promise((resolve) => {
  call.on('data', ({ frames }) => resolve(frames[0].kind === 'HELLO' ? 'greeted' : frames[0].kind));
  call.on('error', (error) => resolve(grpc.status[error.code]));
  call.write({ frames: [{ kind: 'HELLO', hello: { version: VERSION, instance: 'caller' } }] });
});
console.log(outcome);
call.cancel();
client.close();
