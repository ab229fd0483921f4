/**
 * This package finds the labelled twin of a micrograph through a Twinscope server.
 *
 * @packageDocumentation
 */
export { GRADES } from './answer.js';
export type { Answer, ChanceOfError, FullSize, Grade, Match, Policy, Reach, Reason, Shift, Transform } from './answer.js';
export { Client, connect, type CallOptions, type ConnectOptions, type TokenProvider } from './client.js';
export { TwinscopeError, type FieldViolation, type StatusCode } from './errors.js';
export type { InstrumentMetadata, StagePosition } from './instrument.js';
export type { ImageOptions, SearchOptions } from './options.js';
export type { Stats } from './stats.js';
export type { ImageSource } from './upload.js';
