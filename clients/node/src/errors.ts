import { Metadata, status, type ServiceError } from '@grpc/grpc-js';

import { deserialized } from './contract.js';
import type { Status__Output } from './generated/google/rpc/Status.js';

/** Name of a gRPC status code, for example `UNAVAILABLE`. */
export type StatusCode = keyof typeof status;

/** A field that breaks a rule of the contract. */
export interface FieldViolation {
  /** Path from the request, for example `queries[3].hash`. */
  field: string;
  description: string;
}

const RETRIABLE: ReadonlySet<StatusCode> = new Set<StatusCode>([
  'UNAVAILABLE',
  'RESOURCE_EXHAUSTED',
  'ABORTED',
  'DEADLINE_EXCEEDED',
  'DATA_LOSS',
]);
const DETAILS = 'grpc-status-details-bin';

/** A call that failed, on the network or on the server. */
export class TwinscopeError extends Error {
  /** Status code. */
  readonly code: StatusCode;
  /** A value of `ErrorReason` in `errors.proto` without its prefix; undefined if no Twinscope server sent one. */
  readonly reason: string | undefined;
  /** Whether the same call may succeed later. */
  readonly retriable: boolean;
  /** How long to wait before the next call, in milliseconds; undefined if the server did not say. */
  readonly retryAfterMs: number | undefined;
  /** More about the reason, by the names that `errors.proto` lists. */
  readonly details: Readonly<Record<string, string>>;
  /** The fields that break a rule. */
  readonly violations: readonly FieldViolation[];

  /** @internal */
  constructor(code: StatusCode, message: string, parts: Partial<Parts> = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TwinscopeError';
    this.code = code;
    this.reason = parts.reason;
    this.retriable = RETRIABLE.has(code);
    this.retryAfterMs = parts.retryAfterMs;
    this.details = parts.details ?? {};
    this.violations = parts.violations ?? [];
  }
}

interface Parts {
  reason: string | undefined;
  retryAfterMs: number | undefined;
  details: Record<string, string>;
  violations: FieldViolation[];
}

/** Returns the error to throw for a failed call to the server `server`. */
export function errorOf(error: unknown, server: string): unknown {
  if (!(error instanceof Error) || !isServiceError(error)) {
    return error;
  }
  const packed = error.metadata.get(DETAILS)[0];
  const parts = Buffer.isBuffer(packed) ? partsOf(deserialized('Status', packed)) : {};
  return new TwinscopeError(nameOf(error.code), `${server}: ${error.details}`, parts, { cause: error });
}

/** Returns the error for one item of a batch that failed alone. */
export function itemError(item: Status__Output, server: string): TwinscopeError {
  return new TwinscopeError(nameOf(item.code), `${server}: ${item.message}`, partsOf(item));
}

function isServiceError(error: Error): error is ServiceError {
  return 'code' in error && typeof error.code === 'number' && 'metadata' in error && error.metadata instanceof Metadata;
}

function nameOf(code: number): StatusCode {
  return (status[code] ?? 'UNKNOWN') as StatusCode;
}

function partsOf(message: Status__Output): Partial<Parts> {
  const parts: Partial<Parts> = {};
  for (const { type_url: url, value } of message.details) {
    switch (url.slice(url.lastIndexOf('/') + 1)) {
      case 'google.rpc.ErrorInfo': {
        const info = deserialized('ErrorInfo', value);
        parts.reason = info.reason;
        parts.details = info.metadata;
        break;
      }
      case 'google.rpc.RetryInfo': {
        const delay = deserialized('RetryInfo', value).retryDelay;
        parts.retryAfterMs = delay === null ? undefined : delay.seconds * 1000 + delay.nanos / 1e6;
        break;
      }
      case 'google.rpc.BadRequest':
        parts.violations = deserialized('BadRequest', value).fieldViolations.map(({ field, description }) => ({
          field,
          description,
        }));
        break;
    }
  }
  return parts;
}
