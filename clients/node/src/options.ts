import type { SearchOptions as OptionsMessage } from './generated/twinscope/v1/SearchOptions.js';
import type { FullSize, Reach } from './answer.js';
import type { InstrumentMetadata } from './instrument.js';
import { escaped } from './text.js';
import { THRESHOLD_NAMES, thresholdsMessage, type ThresholdName, type Thresholds } from './thresholds.js';

/**
 * Options of a search. Most options are thresholds that decide whether a candidate is a twin. If a threshold is left
 * out, the server uses the value in its policy.
 */
export interface SearchOptions extends Thresholds {
  /** Name of the policy: `default`, `legacy`, or the name of another policy of the server. */
  policy?: string;
  /** Number of candidates, 1 to 1000. */
  k?: number;
  /** Maximum Hamming distance of a candidate, in bits, 0 to 1024. */
  maxDistance?: number;
  /**
   * Maximum Hamming distance of the few nearest references, in bits, 0 to 1024. These references are compared if no
   * candidate within `maxDistance` is a twin.
   */
  farDistance?: number;
  /** Candidates that are compared with the query at full size. */
  ssim?: FullSize;
  /** A candidate shows the same acquisition if its full-size SSIM is above this value, -1 to 1. */
  excellentSsim?: number;
  /** A candidate shows the same field if its scene score is at least this value, -1 to 1. */
  goodScene?: number;
  /**
   * A scene score of at least this value, -1 to 1, is sufficient if no other reference scores more than a third of the
   * candidate. This threshold helps if the query contains strong noise.
   */
  loneScene?: number;
  /** Candidates of two categories are ambiguous if their SSIMs differ by at most this value, 0 to 2. */
  ssimMargin?: number;
  /** Candidates of two categories are ambiguous if their scene scores differ by at most this value, 0 to 2. */
  sceneMargin?: number;
  /** A match is `doubtful` if its `pWrong` is above this value, 0 to 1. */
  maxPWrong?: number;
  /** Frames that are searched if the whole image has no twin. The search can use only frames that the store has. */
  reach?: Reach;
  /** Whether candidates are verified. If false, only hashes are compared, and the best grade is `unverified`. */
  verify?: boolean;
  /** Names, codes or aliases of the categories to search. By default, all categories are searched. */
  categories?: readonly string[];
  /** Minimum generation of the store to search. Set this option to find images that you have just written. */
  minGeneration?: number;
}

/** Options of a search by image. */
export interface ImageOptions extends SearchOptions {
  /** Instrument metadata of the image. By default, the server reads the metadata from the image file. */
  instrument?: InstrumentMetadata;
}

const FULL_SIZES = { never: 'FULL_SIZE_NEVER', best: 'FULL_SIZE_BEST', all: 'FULL_SIZE_ALL' } as const;
const REACHES = { frame: 'REACH_FRAME', views: 'REACH_VIEWS', windows: 'REACH_WINDOWS' } as const;

/** Options of a search that are not thresholds. The compiler checks that the list is complete. */
const OTHER: Record<Exclude<keyof ImageOptions, ThresholdName>, true> = {
  policy: true,
  ssim: true,
  reach: true,
  verify: true,
  categories: true,
  minGeneration: true,
  instrument: true,
};

/** Names of the options of a search. */
export const SEARCH_OPTIONS: readonly string[] = [...THRESHOLD_NAMES, ...Object.keys(OTHER)];

/**
 * Checks that an object contains only known options. A misspelt threshold would otherwise have no effect.
 *
 * @throws TypeError if an option is unknown; the message lists the known options.
 */
export function requireKnown(options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new TypeError(`there is no option ${name}; the options are ${[...known].sort().join(', ')}`);
    }
  }
}

/** Converts options to a message of the contract. */
export function optionsMessage(options: SearchOptions): OptionsMessage {
  const { policy, reach, ssim } = options;
  return {
    policy: {
      ...thresholdsMessage(options),
      ...(policy !== undefined && { name: escaped(policy) }),
      ...(ssim !== undefined && { fullSize: FULL_SIZES[ssim] }),
      ...(reach !== undefined && { reach: REACHES[reach] }),
    },
    verification: options.verify === false ? 'VERIFICATION_NONE' : 'VERIFICATION_FULL',
    categories: (options.categories ?? []).map(escaped),
    minGeneration: options.minGeneration ?? 0,
  };
}
