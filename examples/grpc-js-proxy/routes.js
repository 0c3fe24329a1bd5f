// Routes of §4: a virtual prefix, and the real one of the same length behind it.

import net from 'node:net';

/** "100.64.1.0/24=192.168.1.0/24" as a Route of tunnel.proto. */
export function parseRoute(text) {
  const [virtual, real] = text.split('=').map(parseNetwork);
  if (!real || virtual.length !== real.length || virtual.ip.length !== real.ip.length) {
    throw new Error(`${text}: expected VIRTUAL=REAL, two prefixes of one family and one length`);
  }
  return { virtual_ip: virtual.ip, real_ip: real.ip, prefix_length: virtual.length };
}

function parseNetwork(text) {
  const [address, digits] = text.split('/');
  const ip = parseAddress(address);
  const length = Number(digits ?? NaN);
  if (!(length >= 0 && length <= 8 * ip.length)) throw new Error(`${text}: expected ADDRESS/LENGTH`);
  if (!join(ip, Buffer.alloc(ip.length), length).equals(ip)) throw new Error(`${text}: has host bits set`);
  return { ip, length };
}

function parseAddress(text) {
  if (net.isIPv4(text)) return Buffer.from(text.split('.').map(Number));
  if (!net.isIPv6(text) || text.includes('.')) throw new Error(`${text}: expected an address`);
  const [head, tail] = text.split('::').map((half) => half.split(':').filter(Boolean));
  const zeros = tail ? Array(8 - head.length - tail.length).fill('0') : [];
  const groups = [...head, ...zeros, ...(tail ?? [])];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function formatAddress(ip) {
  return ip.length === 4 ? [...ip].join('.') : ip.toString('hex').match(/..../g).join(':');
}

/** The first `length` bits of one address, and the rest of another. */
function join(network, host, length) {
  return Buffer.from(network.map((byte, index) => {
    const bits = Math.min(8, Math.max(0, length - 8 * index));
    const mask = 0xff & (0xff << (8 - bits));
    return (byte & mask) | (host[index] & ~mask);
  }));
}

/** The route with the longest virtual prefix around an address, or undefined. */
export function lookUp(routes, ip) {
  return routes
    .filter((route) => route.virtual_ip.length === ip.length)
    .filter((route) => join(route.virtual_ip, ip, route.prefix_length).equals(ip))
    .sort((one, other) => other.prefix_length - one.prefix_length)[0];
}

/** What an application dialled, as the target has it; or undefined, if it lies outside (§4). */
export function translate(routes, ip) {
  const route = lookUp(routes, ip);
  return route && formatAddress(join(route.real_ip, ip, route.prefix_length));
}
