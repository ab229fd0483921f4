import { credentials, type ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import { isIPv4 } from 'node:net';

/** The address of a server, and whether it uses TLS. */
export interface Target {
  /** In the form of gRPC: `host:port`, IPv6 in brackets. */
  address: string;
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
 * Reads `grpc://host:port` or `grpcs://host:port`.
 *
 * @throws TypeError if it is neither.
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

/** Builds the credentials of a connection. */
export function credentialsFor(target: Target, pems: Pems): ChannelCredentials {
  return target.tls
    ? credentials.createSsl(pems.ca ?? null, pems.key ?? null, pems.certificate ?? null)
    : credentials.createInsecure();
}

/** Builds the options of a connection whose calls are tried up to `attempts` times. */
export function channelOptions(attempts: number): ChannelOptions {
  const retryPolicy = {
    maxAttempts: Math.min(attempts, 5), // gRPC's own limit
    initialBackoff: '0.2s',
    maxBackoff: '5s',
    backoffMultiplier: 2,
    retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
  };
  const name = ['SimilarityService', 'CatalogService'].map((service) => ({ service: `twinscope.v1.${service}` }));
  return {
    'grpc.max_receive_message_length': -1,
    'grpc.keepalive_time_ms': 60_000,
    // gRPC can only retry an upload while it still holds all of it: enough for the TIFFs of most microscopes.
    'grpc.per_rpc_retry_buffer_size': 32 * MIB,
    'grpc.retry_buffer_size': 128 * MIB,
    'grpc.enable_retries': attempts > 1 ? 1 : 0,
    ...(attempts > 1 && { 'grpc.service_config': JSON.stringify({ methodConfig: [{ name, retryPolicy }] }) }),
  };
}
