// A connection joined with a socket to its target: the proxy's end of §5, §6 and §7.

import net from 'node:net';
import { ConnectionFault, FLOOR, LinkFault, MAX_PAYLOAD } from './wire.js';

const WINDOW = 4 * FLOOR; // bytes that a target may leave untaken; more would be faster over long paths
const STEP = WINDOW / 4; // §6: a window is not moved by less than 16 KiB
const DIAL = 10_000; // milliseconds; §5
const IDLE = 3_600_000; // milliseconds; §7
const KEEPALIVE = 60_000; // milliseconds of silence before the kernel probes

// §8: the truth about a target, and about a socket that failed later.
const CODES = {
  ECONNREFUSED: 'REFUSED',
  EHOSTUNREACH: 'UNREACHABLE',
  ENETUNREACH: 'UNREACHABLE',
  EADDRNOTAVAIL: 'UNREACHABLE',
  EAFNOSUPPORT: 'UNREACHABLE',
  ETIMEDOUT: 'TIMEOUT',
  EACCES: 'DENIED',
  EPERM: 'DENIED',
  EMFILE: 'LIMITED',
  ENFILE: 'LIMITED',
  ECONNRESET: 'RESET_BY_PEER',
  EPIPE: 'RESET_BY_PEER',
};

export class Connection {
  #link;
  #ended;
  #socket;
  #dialling;
  #opened = false; // OPEN_RESULT said OK: ESTABLISHED and what follows it
  #over = false; // CLOSED

  // As sender, from the target to the client.
  #sent = 0;
  #sendLimit = FLOOR;
  #finSent = false;
  #finCovered = false;

  // As receiver, from the client to the target.
  #received = 0;
  #handedOver = 0;
  #granted = FLOOR;
  #fin = null; // its offset, once it came
  #finHandedOver = false;

  /**
   * Dial.
   * @param {object} frame the OPEN
   * @param {{host: string, port: number}} target
   * @param {() => void} ended called once, when the connection is over
   */
  constructor(link, frame, target, ended) {
    this.id = frame.connection;
    this.#link = link;
    this.#ended = ended;
    this.#sendLimit = Math.max(FLOOR, frame.limit);
    this.#socket = net.connect({ ...target, allowHalfOpen: true, noDelay: true });
    this.#socket.on('connect', () => this.#accept(frame.open.keepalive));
    this.#socket.on('readable', () => this.pump());
    this.#socket.on('end', () => this.#finish());
    this.#socket.on('error', (error) => this.#fail(CODES[error.code] ?? 'INTERNAL'));
    this.#socket.on('timeout', () => this.#fail('IDLE'));
    this.#dialling = setTimeout(() => this.#fail('TIMEOUT'), DIAL);
  }

  #accept(keepalive) {
    clearTimeout(this.#dialling);
    if (keepalive) this.#socket.setKeepAlive(true, KEEPALIVE);
    else this.#socket.setTimeout(IDLE);
    this.#opened = true;
    this.#granted = WINDOW;
    this.#control('OPEN_RESULT', { code: 'OK', limit: WINDOW, open_result: {} });
  }

  // From the target to the client.

  /** Read the socket as far as the window and the link have room; what is not read stays in the kernel. */
  pump() {
    while (this.#opened && !this.#over && !this.#finSent && this.#link.hasRoom) {
      const room = Math.min(this.#sendLimit - this.#sent, MAX_PAYLOAD, this.#socket.readableLength);
      if (!room && this.#socket.readableLength) return;
      const payload = this.#socket.read(room); // of nothing: asks the kernel, or notices the end
      if (!payload) return;
      this.#link.put({ connection: this.id, kind: 'DATA', offset: this.#sent, payload });
      this.#sent += payload.length;
    }
  }

  #finish() {
    if (this.#over) return;
    this.#finSent = true;
    this.#link.put({ connection: this.id, kind: 'FIN', offset: this.#sent }); // §6: after the last byte
  }

  #acknowledged({ offset, limit }) {
    if (!this.#opened) throw new ConnectionFault('ACK before OPEN_RESULT');
    const end = this.#finSent ? this.#sent + 1 : this.#sent; // §6: FIN takes a place
    if (offset > end) throw new ConnectionFault('ACK of what was not sent');
    this.#finCovered ||= this.#finSent && offset === end;
    this.#sendLimit = Math.max(this.#sendLimit, limit); // §6: a limit never shrinks
    this.pump();
    this.#closeIfDone();
  }

  // From the client to the target.

  /** Act on a frame of the client; throws ConnectionFault. */
  receive(frame) {
    switch (frame.kind) {
      case 'DATA': return this.#data(frame);
      case 'FIN': return this.#finReceived(frame);
      case 'ACK': return this.#acknowledged(frame);
      case 'RESET': return this.#abandon(); // §7: not answered
      default: throw new ConnectionFault(`${frame.kind} of an open connection`);
    }
  }

  // §6, the table of what arrives.
  #data({ offset, payload }) {
    const end = offset + payload.length;
    if (end > this.#granted) throw new ConnectionFault('DATA past the limit', 'FLOW_CONTROL');
    if (offset > this.#received) throw new ConnectionFault('DATA leaves a gap');
    if (this.#fin !== null && end > this.#fin) throw new ConnectionFault('DATA past FIN');
    const fresh = payload.subarray(this.#received - offset);
    this.#received = Math.max(this.#received, end);
    // Before the target has answered, the socket keeps what is written: never more than the floor.
    if (fresh.length) this.#socket.write(fresh, (error) => error || this.#handOver(fresh.length));
  }

  #finReceived({ offset }) {
    if (this.#fin === null ? offset !== this.#received : offset !== this.#fin) {
      throw new ConnectionFault('FIN out of place');
    }
    if (this.#fin !== null) return; // a repeat
    this.#fin = offset;
    this.#socket.end(() => this.#handOverFin());
  }

  // §6: ACK says what the socket has taken, not what has arrived.
  #handOver(length) {
    this.#handedOver += length;
    if (this.#over || this.#fin !== null || this.#handedOver + WINDOW - this.#granted < STEP) return;
    this.#granted = this.#handedOver + WINDOW;
    this.#control('ACK', { offset: this.#handedOver, limit: this.#granted });
  }

  #handOverFin() {
    if (this.#over) return;
    this.#finHandedOver = true;
    this.#control('ACK', { offset: this.#fin + 1, limit: this.#granted });
    this.#closeIfDone();
  }

  // The end.

  /** Reset both sides (§7): the target's socket at once, the client behind the DATA sent before. */
  reset(code) {
    if (this.#over) return;
    this.#link.put({ connection: this.id, kind: 'RESET', code });
    this.#leave();
  }

  // Before OPEN_RESULT the answer is a refusal, after it a reset.
  #fail(code) {
    if (this.#over) return;
    if (this.#opened) return this.reset(code);
    this.#control('OPEN_RESULT', { code, open_result: {} });
    this.#leave();
  }

  /** The client, or the link, is gone: say nothing. */
  #abandon() {
    this.#link.drop(this.id);
    this.#leave();
  }

  #closeIfDone() {
    if (this.#finCovered && this.#finHandedOver) this.#leave();
  }

  #leave() {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#dialling);
    this.#closeSocket();
    this.#ended();
  }

  #closeSocket() {
    const socket = this.#socket;
    const done = this.#finCovered && this.#finHandedOver;
    // libuv cannot reset a socket whose shutdown is under way; the target then has all that came.
    const shuttingDown = socket.writableEnded && !socket.writableFinished && !socket.writableLength;
    // §7: a target is closed when both directions have ended in good order, and reset otherwise. While
    // it is being dialled, nothing was sent, and Node.js would put a reset off until it has answered.
    if (!done && !shuttingDown && !socket.connecting) socket.resetAndDestroy();
    socket.destroy(); // at once, whatever still waits to be written
  }

  #control(kind, fields) {
    this.#link.put({ connection: this.id, kind, ...fields });
  }
}

/** All connections of one link whose targets are dialled here. */
export class Connections {
  #link;
  #resolve;
  #drained;
  #open = new Map();

  /**
   * @param {(open: object) => {host: string, port: number} | string} resolve the target, or the code
   *     with which it is refused
   * @param {() => void} drained called whenever the last connection has ended
   */
  constructor(link, resolve, drained = () => {}) {
    this.#link = link;
    this.#resolve = resolve;
    this.#drained = drained;
  }

  get size() {
    return this.#open.size;
  }

  /** Act on a frame of a connection. */
  receive(frame) {
    const key = frame.connection.toString('hex');
    const connection = this.#open.get(key);
    if (frame.kind === 'OPEN_RESULT') throw new LinkFault('OPEN_RESULT sent to a proxy'); // §9
    if (!connection) return this.#unknown(key, frame);
    try {
      connection.receive(frame);
    } catch (fault) {
      if (!(fault instanceof ConnectionFault)) throw fault;
      connection.reset(fault.code); // §9: that connection, and nobody else
    }
  }

  #unknown(key, frame) {
    const { connection, kind } = frame;
    if (kind === 'OPEN') {
      const target = this.#resolve(frame.open);
      if (typeof target === 'string') {
        this.#link.put({ connection, kind: 'OPEN_RESULT', code: target, open_result: {} });
      } else {
        this.#open.set(key, new Connection(this.#link, frame, target, () => this.#forget(key)));
      }
    } else if (kind === 'DATA' || kind === 'FIN') {
      // §7: it crossed a RESET. ACK and RESET need no answer.
      this.#link.put({ connection, kind: 'RESET', code: 'UNKNOWN_CONNECTION' });
    }
  }

  #forget(key) {
    this.#open.delete(key);
    if (!this.#open.size) this.#drained();
  }

  /** A batch has left: sockets that were not read for want of room are. */
  pump() {
    for (const connection of this.#open.values()) {
      if (!this.#link.hasRoom) return;
      connection.pump();
    }
  }

  resetAll(code) {
    for (const connection of this.#open.values()) connection.reset(code);
  }
}
