import { Metadata, status, type ServiceError } from '@grpc/grpc-js';

import { deserialized } from './contract.js';
import type { Status__Output } from './generated/google/rpc/Status.js';

/** Name of a gRPC status code, for example `UNAVAILABLE`. */
export type StatusCode = keyof typeof status;

/** A field of a request that breaks a rule of the contract. */
export interface FieldViolation {
  /** Path of the field in the request, for example `queries[3].hash`. */
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

/** The error of a call that failed on the network or on the server. */
export class TwinscopeError extends Error {
  /** Name of the gRPC status code. */
  readonly code: StatusCode;
  /** Value of `ErrorReason` in `errors.proto` without its prefix. Undefined if the server sent no such value. */
  readonly reason: string | undefined;
  /** Whether the same call may succeed if it is repeated later. */
  readonly retriable: boolean;
  /** Time to wait before the next call, in milliseconds. Undefined if the server sent no time. */
  readonly retryAfterMs: number | undefined;
  /** Details of the reason. `errors.proto` lists their names. */
  readonly details: Readonly<Record<string, string>>;
  /** Fields of the request that break a rule of the contract. */
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

/** Returns the error for one query of a batch, if this query failed but the call succeeded. */
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
