import { credentials, type ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import { isIPv4 } from 'node:net';

/** The address of a server, and whether the connection uses TLS. */
export interface Target {
  /** Address in the form that gRPC expects: `host:port`. An IPv6 address is in brackets. */
  address: string;
  /** Whether the connection uses TLS. */
  tls: boolean;
  /** Whether the host is this machine. */
  loopback: boolean;
}

/** Contents of the PEM files of a TLS connection. */
export interface Pems {
  ca?: Buffer;
  certificate?: Buffer;
  key?: Buffer;
}

const MIB = 1024 * 1024;

/**
 * Converts a text such as `grpc://host:port` or `grpcs://host:port` to a target.
 *
 * @throws TypeError if the text has another form.
 */
export function targetOf(text: string): Target {
  const parts = URL.canParse(text) ? new URL(text) : undefined;
  const path = parts?.pathname.replace(/^\/+/, '');
  if (!parts || !['grpc:', 'grpcs:'].includes(parts.protocol) || !parts.hostname || !parts.port || path) {
    throw new TypeError(`${text} is not a server: use grpc://host:port, or grpcs://host:port with TLS`);
  }
  const { hostname } = parts;
  const loopback = hostname === 'localhost' || hostname === '[::1]' || (isIPv4(hostname) && hostname.startsWith('127.'));
  return { address: `${hostname}:${parts.port}`, tls: parts.protocol === 'grpcs:', loopback };
}

/** Returns the gRPC credentials for a connection to the target. */
export function credentialsFor(target: Target, pems: Pems): ChannelCredentials {
  return target.tls
    ? credentials.createSsl(pems.ca ?? null, pems.key ?? null, pems.certificate ?? null)
    : credentials.createInsecure();
}

/**
 * Returns the gRPC options of a connection. Each call is tried at most `attempts` times. A connection to this machine
 * never uses a proxy.
 */
export function channelOptions(target: Target, attempts: number): ChannelOptions {
  const retryPolicy = {
    maxAttempts: Math.min(attempts, 5), // gRPC allows at most 5 attempts
    initialBackoff: '0.2s',
    maxBackoff: '5s',
    backoffMultiplier: 2,
    retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
  };
  const name = ['SimilarityService', 'CatalogService'].map((service) => ({ service: `twinscope.v1.${service}` }));
  return {
    ...(target.loopback && { 'grpc.enable_http_proxy': 0 }),
    'grpc.max_receive_message_length': -1,
    'grpc.keepalive_time_ms': 60_000,
    // gRPC can retry an upload only if it still holds all sent bytes. 32 MiB hold the TIFFs of most microscopes.
    'grpc.per_rpc_retry_buffer_size': 32 * MIB,
    'grpc.retry_buffer_size': 128 * MIB,
    'grpc.enable_retries': attempts > 1 ? 1 : 0,
    ...(attempts > 1 && { 'grpc.service_config': JSON.stringify({ methodConfig: [{ name, retryPolicy }] }) }),
  };
}
