import type { SearchOptions as OptionsMessage } from './generated/twinscope/v1/SearchOptions.js';
import type { FullSize, Reach } from './answer.js';
import type { InstrumentMetadata } from './instrument.js';
import { escaped } from './text.js';
import { thresholdsMessage, type Thresholds } from './thresholds.js';

/** What counts as the same image; what is left out is as the server's policy says. */
export interface SearchOptions extends Thresholds {
  /** Name of the policy: `default`, `reference`, or another that the server knows. */
  policy?: string;
  /** Candidates to look at, 1 to 1000. */
  k?: number;
  /** Look at references up to this Hamming distance, in bits, 0 to 1024. */
  maxDistance?: number;
  /** Where none of those is a twin, at the few nearest up to here, in bits. */
  farDistance?: number;
  /** Which candidates are compared at full size. */
  ssim?: FullSize;
  /** Full-size SSIM above which it is the same acquisition, -1 to 1. */
  excellentSsim?: number;
  /** Scene score from which it is the same field, -1 to 1. */
  goodScene?: number;
  /** The same where no other reference has a third of it, as under noise, -1 to 1. */
  loneScene?: number;
  /** Candidates of two categories with closer SSIMs are ambiguous, 0 to 2. */
  ssimMargin?: number;
  /** The same for scene scores, 0 to 2. */
  sceneMargin?: number;
  /** A match that is more likely than this to be wrong is `doubtful`, 0 to 1. */
  maxPWrong?: number;
  /** What is tried where the image as it is has no twin, as far as the store was indexed for it. */
  reach?: Reach;
  /** False: hash distances only; the grade is `unverified` at best. */
  verify?: boolean;
  /** Only references of these categories (names, codes or aliases). */
  categories?: readonly string[];
  /** Answer from this generation of the store or a newer one: read your writes. */
  minGeneration?: number;
}

/** What can be said of an image besides. */
export interface ImageOptions extends SearchOptions {
  /** What its instrument wrote, for example beside the file. Left out: the server reads it from the file itself. */
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
