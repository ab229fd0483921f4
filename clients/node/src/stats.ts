import type { CalibrationFacts__Output } from './generated/twinscope/v1/CalibrationFacts.js';
import type { GetIndexResponse__Output } from './generated/twinscope/v1/GetIndexResponse.js';
import type { GroupCount__Output } from './generated/twinscope/v1/GroupCount.js';
import type { Timestamp__Output } from './generated/google/protobuf/Timestamp.js';
import { REACHES, type Reach } from './answer.js';
import { unescaped } from './text.js';

/** Facts about a store, its index and its server. */
export interface Stats {
  /** Folder of the store on the server, for people. */
  store: string;
  /** Equal store ids and generations give equal answers. */
  storeId: string;
  /** The generation of the store that searches see. */
  generation: number;
  /** Recipe of all hashes in the index. */
  recipe: string;
  /** `base`: hashes from the index file; `delta`: newer ones; `reach`: which frames of the images are indexed. */
  index: { kind: string; base: number; delta: number; reach: Reach | 'unknown' };
  /**
   * The calibration of `Answer.pWrong`: what it was fitted on, the number of images, and the lowest probability that
   * they can support; with a lower `maxPWrong` nothing is labelled. Undefined: an older server.
   */
  calibration?: { name: string; images: number; leastPWrong: number };
  /** When the store was created. Undefined: not known. */
  created?: Date;
  /** Folders that were indexed. */
  roots: string[];
  images: number;
  searchable: number;
  unhashable: number;
  failures: number;
  prefixes: number;
  contradictingPrefixes: number;
  /** Images by category, by file format, by bits per sample. */
  byCategory: Record<string, number>;
  byFormat: Record<string, number>;
  byBits: Record<string, number>;
  /** Limits on what the server accepts, in bytes, pixels and seconds. */
  limits: { maxMessageBytes: number; maxImageBytes: number; maxImagePixels: number; streamIdleSeconds: number };
  /** Version of Twinscope on the server, for example `1.2.0`. */
  serverVersion: string;
  /** Whether the server accepts writes. */
  writable: boolean;
}

/** Reads statistics from the wire. */
export function statsOf(message: GetIndexResponse__Output): Stats {
  const { index, counts, limits } = message;
  return {
    store: unescaped(message.store),
    storeId: message.storeId,
    generation: message.generation,
    recipe: message.recipe,
    index: {
      kind: index?.kind ?? '',
      base: index?.baseCount ?? 0,
      delta: index?.deltaCount ?? 0,
      reach: REACHES[index?.reach ?? ''] ?? 'unknown',
    },
    ...(message.calibration !== null && { calibration: calibrationOf(message.calibration) }),
    ...(message.createTime !== null && { created: dateOf(message.createTime) }),
    roots: message.roots.map(unescaped),
    images: counts?.images ?? 0,
    searchable: counts?.searchable ?? 0,
    unhashable: counts?.unhashable ?? 0,
    failures: counts?.failures ?? 0,
    prefixes: counts?.prefixes ?? 0,
    contradictingPrefixes: counts?.contradictingPrefixes ?? 0,
    byCategory: groupsOf(counts?.byCategory),
    byFormat: groupsOf(counts?.byFormat),
    byBits: groupsOf(counts?.byBits),
    limits: {
      maxMessageBytes: limits?.maxMessageBytes ?? 0,
      maxImageBytes: limits?.maxImageBytes ?? 0,
      maxImagePixels: limits?.maxImagePixels ?? 0,
      streamIdleSeconds: limits?.streamIdleSeconds ?? 0,
    },
    serverVersion: message.serverVersion,
    writable: message.writable,
  };
}

function calibrationOf({ name, imageCount, leastPWrong }: CalibrationFacts__Output): NonNullable<Stats['calibration']> {
  return { name: unescaped(name), images: imageCount, leastPWrong };
}

function groupsOf(groups: readonly GroupCount__Output[] = []): Record<string, number> {
  return Object.fromEntries(groups.map((group) => [unescaped(group.value), group.images]));
}

function dateOf(time: Timestamp__Output): Date {
  return new Date(time.seconds * 1000 + time.nanos / 1e6);
}
