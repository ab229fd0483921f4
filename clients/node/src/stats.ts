import type { CalibrationFacts__Output } from './generated/twinscope/v1/CalibrationFacts.js';
import type { GetIndexResponse__Output } from './generated/twinscope/v1/GetIndexResponse.js';
import type { GroupCount__Output } from './generated/twinscope/v1/GroupCount.js';
import type { Timestamp__Output } from './generated/google/protobuf/Timestamp.js';
import { REACHES, type Reach } from './answer.js';
import { unescaped } from './text.js';

/** A description of a store, of its index and of the server. */
export interface Stats {
  /** Folder of the store on the server, as a text for people. */
  store: string;
  /** Id of the store. Two stores with equal ids and equal generations give equal answers. */
  storeId: string;
  /** Generation of the store that searches use. */
  generation: number;
  /** Recipe of all hashes in the index. */
  recipe: string;
  /**
   * The index. `base` is the number of hashes in the index file, `delta` is the number of newer hashes, and `reach`
   * says which frames of the images are indexed.
   */
  index: { kind: string; base: number; delta: number; reach: Reach | 'unknown' };
  /**
   * The calibration of `Answer.pWrong`. `name` says which images the calibration was fitted to, `images` is the number
   * of these images, and `leastPWrong` is the lowest probability that these images can support. If `maxPWrong` is below
   * `leastPWrong`, no image is labelled. An older server does not send the calibration.
   */
  calibration?: { name: string; images: number; leastPWrong: number };
  /** Time when the store was created. Undefined if the time is not known. */
  created?: Date;
  /** Folders from which images were indexed. */
  roots: string[];
  /** Number of images in the store. */
  images: number;
  /** Number of images that a search can find. */
  searchable: number;
  /** Number of images that are unhashable. */
  unhashable: number;
  /** Number of images that could not be indexed. */
  failures: number;
  /** Number of images whose published file name begins with a code. */
  prefixes: number;
  /** Number of images whose published file name begins with a code that is not the code of their category. */
  contradictingPrefixes: number;
  /** Number of images of each category. */
  byCategory: Record<string, number>;
  /** Number of images of each file format. */
  byFormat: Record<string, number>;
  /** Number of images with each number of bits per sample. */
  byBits: Record<string, number>;
  /** Limits of the server for messages, images and idle streams, in bytes, pixels and seconds. */
  limits: { maxMessageBytes: number; maxImageBytes: number; maxImagePixels: number; streamIdleSeconds: number };
  /** Version of Twinscope on the server, for example `1.2.0`. */
  serverVersion: string;
  /** Whether the server accepts writes. */
  writable: boolean;
}

/** Converts a message of the contract to a description of the store. */
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
