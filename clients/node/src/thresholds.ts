import { numbersOf } from './contract.js';
import type { Policy as PolicyMessage, Policy__Output } from './generated/twinscope/v1/Policy.js';

/**
 * Name of a threshold: the field of the contract's `Policy` without the unit (`maxDistance` for `maxDistanceBits`).
 * A new threshold of the contract needs no other line in this client.
 */
export type ThresholdName = {
  [Field in keyof Policy__Output]-?: Field extends `_${string}`
    ? never
    : NonNullable<Policy__Output[Field]> extends number
      ? Field extends `${infer Name}Bits`
        ? Name
        : Field
      : never;
}[keyof Policy__Output];

/** Values of thresholds, by name. */
export type Thresholds = { [Name in ThresholdName]?: number };

const FIELDS: ReadonlyMap<ThresholdName, keyof PolicyMessage> = new Map(
  numbersOf('Policy').map((field) => [field.replace(/Bits$/, '') as ThresholdName, field as keyof PolicyMessage]),
);

/** Writes thresholds for the wire. Those that are left out have the values of the server's policy. */
export function thresholdsMessage(given: Thresholds): PolicyMessage {
  const entries = [...FIELDS].map(([name, field]) => [field, given[name]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** Reads thresholds from the wire. `absent` has the values for fields that an older server does not send, else NaN. */
export function thresholdsOf(message: Policy__Output | null, absent: Thresholds): Required<Thresholds> {
  const entries = [...FIELDS].map(([name, field]) => [name, message?.[field as keyof Policy__Output] ?? absent[name] ?? NaN]);
  return Object.fromEntries(entries) as Required<Thresholds>;
}
