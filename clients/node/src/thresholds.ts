import { numbersOf } from './contract.js';
import type { Policy as PolicyMessage, Policy__Output } from './generated/twinscope/v1/Policy.js';

/**
 * Name of a threshold: the name of a numeric field of the message `Policy`, without the unit `Bits` at the end. For
 * example, `maxDistance` is the name for the field `maxDistanceBits`. If the contract gets a new threshold, this client
 * supports it without a change of the code.
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

/** Values of thresholds. The keys are the names of the thresholds. */
export type Thresholds = { [Name in ThresholdName]?: number };

const FIELDS: ReadonlyMap<ThresholdName, keyof PolicyMessage> = new Map(
  numbersOf('Policy').map((field) => [field.replace(/Bits$/, '') as ThresholdName, field as keyof PolicyMessage]),
);

/** Names of all thresholds of the contract. */
export const THRESHOLD_NAMES: readonly ThresholdName[] = [...FIELDS.keys()];

/** Converts thresholds to a message of the contract. If a threshold is left out, the server uses its own value. */
export function thresholdsMessage(given: Thresholds): PolicyMessage {
  const entries = [...FIELDS].map(([name, field]) => [field, given[name]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/**
 * Converts a message of the contract to thresholds. An older server may not send every threshold. A missing threshold
 * gets the value in `absent`, or NaN if `absent` does not contain it.
 */
export function thresholdsOf(message: Policy__Output | null, absent: Thresholds): Required<Thresholds> {
  const entries = [...FIELDS].map(([name, field]) => [name, message?.[field as keyof Policy__Output] ?? absent[name] ?? NaN]);
  return Object.fromEntries(entries) as Required<Thresholds>;
}
