// One link: greeting, liveness, and what waits to be sent on it. It serves both sides of a gRPC
// stream: the calls of @grpc/grpc-js look alike to whoever reads and writes them.

import { LinkFault, MAX_BATCH, VERSION, check } from './wire.js';

// Milliseconds; §3.
const HEARTBEAT = 5_000;
const SILENCE = 15_000;
const HANDSHAKE = 10_000;
const FAREWELL = 2_000; // for the peer to end its half of the stream after BYE
const TICK = 250;

const FRAME_OVERHEAD = 48; // bytes of a frame besides its payload, rounded up
const MAX_CONTROL_FRAMES = 65_536; // §9: a peer that leaves so many unread is hostile or broken

/**
 * @typedef Handler what is done about one link
 * @property {(link: Link) => void} up the peer has greeted us
 * @property {(link: Link, frame: object) => void} frame a frame came; throws LinkFault to end the link
 * @property {(link: Link) => void} room a batch has left
 * @property {(link: Link, reason: string) => void} ended called once, and last
 */
export class Link {
  #call;
  #handler;
  #control = []; // frames that may overtake others
  #lanes = new Map(); // connection -> DATA, FIN, RESET in their order
  #size = 0;
  #writing = false;
  #scheduled = false;
  #begun = Date.now();
  #heard = Date.now();
  #sent = Date.now();
  #ticking;
  #farewell;

  /** @param {string} instance our name, said in HELLO */
  constructor(call, instance, handler) {
    this.#call = call;
    this.#handler = handler;
    this.peerInstance = null;
    this.ended = false;
    call.on('data', (batch) => this.#receive(batch.frames));
    call.on('error', (error) => this.#lost(error.details || error.message));
    call.on('end', () => this.#lost('the peer ended the stream'));
    call.on('cancelled', () => this.#lost('the peer cancelled the call'));
    for (const event of ['status', 'close']) call.on(event, () => clearTimeout(this.#farewell));
    this.#ticking = setInterval(() => this.#tick(), TICK);
    // §3: HELLO is first, and waits for nobody's.
    this.put({ kind: 'HELLO', hello: { version: VERSION, instance } });
  }

  // What is to be sent.

  /** Whether sockets may be read: the next batch is not full yet. This is the link's backpressure. */
  get hasRoom() {
    return !this.ended && this.#size < MAX_BATCH;
  }

  /** Queue a frame. §2: DATA, FIN and RESET of a connection keep their order, the rest may overtake. */
  put(frame) {
    if (this.ended) return;
    this.#size += sizeOf(frame);
    if (['DATA', 'FIN', 'RESET'].includes(frame.kind)) {
      const key = frame.connection.toString('hex');
      const lane = this.#lanes.get(key);
      if (lane) lane.push(frame);
      else this.#lanes.set(key, [frame]);
    } else if (this.#control.push(frame) > MAX_CONTROL_FRAMES) {
      this.close('LIMITED', 'the peer leaves our answers unread');
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(() => this.#flush());
    }
  }

  /** Forget what waits of a connection whose receiver wants no more of it (§7, Reset). */
  drop(connection) {
    const key = connection.toString('hex');
    for (const frame of this.#lanes.get(key) ?? []) this.#size -= sizeOf(frame);
    this.#lanes.delete(key);
  }

  // §2: a write takes what has gathered since the last one ended, without a timer.
  #flush() {
    this.#scheduled = false;
    if (this.ended || this.#writing || !this.#size) return;
    this.#writing = true;
    this.#sent = Date.now();
    this.#call.write({ frames: this.#take(MAX_BATCH) }, () => {
      this.#writing = false;
      this.#flush();
    });
    this.#handler.room(this);
  }

  /** Control frames, then of each connection in turn one frame, until there are `most` bytes. */
  #take(most) {
    const frames = [];
    let size = 0;
    const add = (frame) => {
      frames.push(frame);
      size += sizeOf(frame);
    };
    let control = 0;
    while (control < this.#control.length && size < most) add(this.#control[control++]);
    this.#control.splice(0, control);
    while (this.#lanes.size && size < most) {
      const [key, lane] = this.#lanes.entries().next().value;
      add(lane.shift());
      this.#lanes.delete(key);
      if (lane.length) this.#lanes.set(key, lane); // a Map keeps the order of insertion: to the end
    }
    this.#size -= size;
    return frames;
  }

  // What comes.

  #receive(frames) {
    this.#heard = Date.now(); // §3: any batch proves life, an empty one too
    try {
      for (const frame of frames) {
        if (this.ended) return;
        check(frame);
        this.#dispatch(frame);
      }
    } catch (fault) {
      if (!(fault instanceof LinkFault)) throw fault;
      this.close(fault.code, fault.message);
    }
  }

  #dispatch(frame) {
    if (frame.kind === 'BYE') {
      this.#end(`the peer said BYE ${frame.code}`);
      this.#call.end();
    } else if (this.peerInstance === null) {
      if (frame.kind !== 'HELLO') throw new LinkFault(`${frame.kind} before HELLO`);
      if (frame.hello.version !== VERSION) throw new LinkFault('another version', 'VERSION');
      this.peerInstance = frame.hello.instance;
      this.#handler.up(this);
    } else if (frame.kind === 'HELLO') {
      throw new LinkFault('a second HELLO');
    } else if (frame.kind !== 'HEARTBEAT') {
      this.#handler.frame(this, frame);
    }
  }

  #tick() {
    const now = Date.now();
    if (this.peerInstance === null && now - this.#begun > HANDSHAKE) this.close('SILENT', 'no HELLO');
    else if (now - this.#heard > SILENCE) this.close('SILENT', 'nothing heard');
    else if (now - this.#sent > HEARTBEAT - TICK) this.put({ kind: 'HEARTBEAT' });
  }

  // The end.

  /** Say BYE, behind all that waits, and end the stream (§3). */
  close(code, reason) {
    if (this.ended) return;
    const last = [...this.#take(Infinity), { kind: 'BYE', code }];
    this.#end(reason);
    this.#call.write({ frames: last });
    this.#call.end();
    this.#farewell = setTimeout(() => this.#call.cancel?.(), FAREWELL);
  }

  #lost(reason) {
    if (this.ended) return;
    this.#end(reason);
    this.#call.end();
  }

  #end(reason) {
    this.ended = true;
    clearInterval(this.#ticking);
    this.#handler.ended(this, reason);
  }
}

function sizeOf(frame) {
  return FRAME_OVERHEAD + (frame.payload?.length ?? 0);
}
