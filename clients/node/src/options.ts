import type { SearchOptions as OptionsMessage } from './generated/twinscope/v1/SearchOptions.js';
import type { FullSize, Reach } from './answer.js';
import type { InstrumentMetadata } from './instrument.js';
import { escaped } from './text.js';
import { thresholdsMessage, type Thresholds } from './thresholds.js';

/** What counts as the same image. An option that is left out has the value of the server's policy. */
export interface SearchOptions extends Thresholds {
  /** Name of the policy: `default`, `legacy`, or another one of the server. */
  policy?: string;
  /** Number of candidates, 1 to 1000. */
  k?: number;
  /** Largest Hamming distance of a candidate, in bits, 0 to 1024. */
  maxDistance?: number;
  /** If none of them is a twin, compare the few nearest references up to this distance, in bits, 0 to 1024. */
  farDistance?: number;
  /** Which candidates are compared at full size. */
  ssim?: FullSize;
  /** Full-size SSIM above which a candidate is the same acquisition, -1 to 1. */
  excellentSsim?: number;
  /** Lowest scene score with which a candidate shows the same field, -1 to 1. */
  goodScene?: number;
  /** The same if no other reference scores a third of it, as under noise, -1 to 1. */
  loneScene?: number;
  /** Candidates of two categories with closer SSIMs are ambiguous, 0 to 2. */
  ssimMargin?: number;
  /** The same for scene scores, 0 to 2. */
  sceneMargin?: number;
  /** A match with a higher `pWrong` is `doubtful`, 0 to 1. */
  maxPWrong?: number;
  /** Which frames are searched if the whole image has no twin, limited to those that the store has. */
  reach?: Reach;
  /** False: only hash distances are measured; the grade is `unverified` at best. */
  verify?: boolean;
  /** Only references of these categories (names, codes or aliases). */
  categories?: readonly string[];
  /** Answer from this generation of the store or a newer one, to see your own writes. */
  minGeneration?: number;
}

/** Options of a search by image. */
export interface ImageOptions extends SearchOptions {
  /** What its instrument wrote, for example next to the file. Default: the server reads it from the image file. */
  instrument?: InstrumentMetadata;
}

const FULL_SIZES = { never: 'FULL_SIZE_NEVER', best: 'FULL_SIZE_BEST', all: 'FULL_SIZE_ALL' } as const;
const REACHES = { frame: 'REACH_FRAME', views: 'REACH_VIEWS', windows: 'REACH_WINDOWS' } as const;

/** Writes options for the wire. */
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
