import type { Answer__Output } from './generated/twinscope/v1/Answer.js';
import type { ChanceOfError__Output } from './generated/twinscope/v1/ChanceOfError.js';
import type { Match__Output } from './generated/twinscope/v1/Match.js';
import type { Policy__Output } from './generated/twinscope/v1/Policy.js';
import type { Reason__Output } from './generated/twinscope/v1/Reason.js';
import type { Transform__Output } from './generated/twinscope/v1/Transform.js';
import { instrumentOf, type InstrumentMetadata } from './instrument.js';
import { unescaped } from './text.js';
import { thresholdsOf, type Thresholds } from './thresholds.js';

/**
 * All grades, and whether a query with this grade is labelled. The most certain grade comes first. The contract uses
 * the same names in capitals with the prefix `GRADE_`. The Python package has the same table; the tests of the Python
 * package compare both tables.
 */
export const GRADES = {
  excellent: { labelled: true }, // the best match shows the same acquisition
  good: { labelled: true }, // the best match shows the same field, re-encoded, resized, shifted or with other contrast
  doubtful: { labelled: false }, // the pixels show a twin, but there is evidence against the match
  ambiguous: { labelled: false }, // candidates of different categories are equally good
  unverified: { labelled: false }, // only the hashes were compared, and they are similar
  none: { labelled: false }, // the store has no twin
  unhashable: { labelled: false }, // the query has no structure that could identify it
} as const satisfies Readonly<Record<string, { labelled: boolean }>>;

/**
 * The verdict on a query: one of the names in {@link GRADES}. If the grade is not labelled, a person has to decide.
 * A grade that only a newer server knows becomes `unknown`, which is not labelled.
 */
export type Grade = keyof typeof GRADES | 'unknown';

/** A translation of an image. */
export interface Shift {
  /** Translation to the right, as a fraction of the width of the image. */
  x: number;
  /** Translation downwards, as a fraction of the height of the image. */
  y: number;
}

/** One candidate in an answer, with its scores. */
export interface Match {
  /** Id of the image, 16 hexadecimal digits. The id does not change while the image is in the store. */
  imageId: string;
  /**
   * Source of the image: the path on the machine that indexed the image, `archive!member` for a member of an archive,
   * or the source that a client named when it added the image.
   */
  source: string;
  category: string;
  code: string;
  /** Hamming distance between the hashes of query and candidate, in bits, 0 to 1024. */
  distance: number;
  /** Correlation of the registered thumbnails, -1 to 1. Undefined if the correlation was not computed. */
  sceneScore?: number;
  /** Shift of the query relative to the candidate. Undefined if the shift was not computed. */
  shift?: Shift;
  /** Mean SSIM of the full-size images, -1 to 1. Undefined if the SSIM was not computed. */
  ssim?: number;
  /** Text for people that says why a score was not computed. Empty if all scores were computed. */
  note: string;
  /** Code in the published file name. It never decides a label. Undefined if the file name contains no code. */
  publishedPrefix?: string;
  /** Change of the query for the comparison. Undefined if the query was compared without a change. */
  transform?: Transform;
  /** Instrument metadata of the candidate. Undefined if the candidate has no metadata, or after a search by hash. */
  instrument?: InstrumentMetadata;
  /** Contradictions between the metadata of query and candidate, as texts for people. Empty without contradictions. */
  contradictions: string[];
}

/** The change of the query that makes it resemble a candidate. */
export interface Transform {
  /** Changes of the query, such as `rotated by 90, inverted` (clockwise). Empty if the query was not changed. */
  symmetry: string;
  /** Frame of the query that was compared: `whole` for the whole image, or a text for people. */
  queryFrame: string;
  /** Frame of the candidate that was compared: `whole` for the whole image, or a text for people. */
  referenceFrame: string;
}

/**
 * Candidates that are compared with the query at full size. `never`: no candidates. `best`: the candidates that can
 * change the answer. `all`: every candidate that shows the same field.
 */
export type FullSize = 'never' | 'best' | 'all';

/**
 * Frames that are searched if the whole image has no twin. `frame`: no other frames. `views`: also the image without an
 * info bar, and the image in all orientations. `windows`: also smaller frames.
 */
export type Reach = 'frame' | 'views' | 'windows';

/** The thresholds of one request. `types.proto` describes each threshold. */
export interface Policy extends Required<Thresholds> {
  name: string;
  rule: 'scene' | 'legacy' | 'unknown';
  /** Number of candidates that the search returns. */
  k: number;
  /** Maximum Hamming distance of a candidate, in bits. */
  maxDistance: number;
  /** Maximum Hamming distance for a comparison at full size, in bits. */
  ssimDistance: number;
  /** A candidate shows the same acquisition if its SSIM is above this value. */
  excellentSsim: number;
  /** A candidate shows the same field if its scene score is at least this value. */
  goodScene: number;
  /**
   * A scene score of at least this value is sufficient if no other reference scores more than a third of the candidate.
   * This threshold has an effect only if it is below `goodScene`.
   */
  loneScene: number;
  /** Candidates of two categories are ambiguous if their SSIMs differ by at most this value. */
  ssimMargin: number;
  /** Candidates of two categories are ambiguous if their scene scores differ by at most this value. */
  sceneMargin: number;
  reach: Reach | 'unknown';
  /** Maximum Hamming distance, in bits, of the few nearest references that are compared if no candidate is a twin. */
  farDistance: number;
  ssim: FullSize | 'unknown';
  /** A match is `doubtful` if its `pWrong` is above this value. The value 1 means that there is no limit. */
  maxPWrong: number;
}

/** The estimated probability that a match is wrong, 0 to 1. */
export interface ChanceOfError {
  /** Best estimate of the probability. */
  estimate: number;
  /** Lower end of the interval that contains 95 % of the estimates from resampled collections. */
  low: number;
  /** Upper end of the interval that contains 95 % of the estimates from resampled collections. */
  high: number;
  /** Name of the calibration: `shipped`, or a description of the collection that `twinscope calibrate` has used. */
  calibration: string;
}

/** One reason for the grade of an answer. */
export interface Reason {
  /**
   * Code of the reason: a value of `ReasonCode` in `types.proto` without its prefix, in lower case, such as
   * `same_field`. A code that only a newer server knows becomes `unknown`.
   */
  code: string;
  /** Numbers and texts of the reason. `ReasonCode` in `types.proto` lists their names. */
  values: Record<string, number | string>;
}

/** The answer to one query. */
export interface Answer {
  grade: Grade;
  /** Category to label the query with. Undefined if the grade is not labelled. */
  category?: string;
  /** Code of `category`. Undefined if the grade is not labelled. */
  code?: string;
  /** Candidates; the best candidate comes first. If `category` is undefined, do not use a candidate as the label. */
  matches: Match[];
  /** Reasons for the grade, as a sentence for people. The wording may change with any release. */
  reason: string;
  /** Reasons for the grade, for programs. The first reason says what was found. Older servers send no reasons. */
  reasons: Reason[];
  /** Hash of the query, as hexadecimal digits. Undefined if the query is unhashable. */
  queryHash?: string;
  policy: Policy;
  /** Generation of the store that was searched. The number increases with every change of the store. */
  generation: number;
  /** Recipe of the hashes in the store. */
  recipe: string;
  /** Version of the taxonomy that was used to label the best match. Empty if there are no matches. */
  taxonomy: string;
  /** Instrument metadata of the query. Undefined if no metadata are known. */
  instrument?: InstrumentMetadata;
  /** Probability that the best match is wrong. `Answer.p_wrong` in `types.proto` says when it is undefined. */
  pWrong?: ChanceOfError;
}

const RULES: Readonly<Record<string, Policy['rule']>> = { RULE_SCENE: 'scene', RULE_REFERENCE: 'legacy' };

export const REACHES: Readonly<Record<string, Reach>> = {
  REACH_FRAME: 'frame',
  REACH_VIEWS: 'views',
  REACH_WINDOWS: 'windows',
};

export const FULL_SIZES: Readonly<Record<string, FullSize>> = {
  FULL_SIZE_NEVER: 'never',
  FULL_SIZE_BEST: 'best',
  FULL_SIZE_ALL: 'all',
};

/** Converts a message of the contract to an answer. */
export function answerOf(message: Answer__Output): Answer {
  const grade = gradeOf(message.grade);
  const labelled = grade !== 'unknown' && GRADES[grade].labelled;
  return {
    grade,
    ...(labelled && message.category !== undefined && { category: unescaped(message.category) }),
    ...(labelled && message.code !== undefined && { code: unescaped(message.code) }),
    matches: message.matches.map(matchOf),
    reason: unescaped(message.reason),
    reasons: message.reasons.map(reasonOf),
    ...(message.queryHash !== undefined && { queryHash: message.queryHash.toString('hex') }),
    policy: policyOf(message.policy),
    generation: message.generation,
    recipe: message.recipe,
    taxonomy: unescaped(message.taxonomy),
    ...(message.instrument !== null && { instrument: instrumentOf(message.instrument) }),
    ...(message.pWrong !== null && { pWrong: chanceOf(message.pWrong) }),
  };
}

/** Converts a grade of the contract: the name of a grade, or a number if only a newer server knows the grade. */
function gradeOf(value: string | number): Grade {
  const name = String(value).replace(/^GRADE_/, '').toLowerCase();
  return Object.hasOwn(GRADES, name) ? (name as keyof typeof GRADES) : 'unknown';
}

function matchOf(message: Match__Output): Match {
  return {
    imageId: message.imageId,
    source: unescaped(message.source),
    category: unescaped(message.category),
    code: unescaped(message.code),
    distance: message.distanceBits,
    ...(message.sceneScore !== undefined && { sceneScore: message.sceneScore }),
    ...(message.shift !== null && { shift: { x: message.shift.x, y: message.shift.y } }),
    ...(message.ssim !== undefined && { ssim: message.ssim }),
    note: unescaped(message.note),
    ...(message.publishedPrefix !== undefined && { publishedPrefix: unescaped(message.publishedPrefix) }),
    ...(message.transform !== null && { transform: transformOf(message.transform) }),
    ...(message.instrument !== null && { instrument: instrumentOf(message.instrument) }),
    contradictions: message.contradictions.map(unescaped),
  };
}

function reasonOf(message: Reason__Output): Reason {
  const code: string | number = message.code; // a number if only a newer server knows the code
  const texts = Object.entries(message.texts).map(([name, text]) => [name, unescaped(text)]);
  return {
    code: typeof code === 'string' ? code.replace(/^REASON_CODE_/, '').toLowerCase() : 'unknown',
    values: { ...message.numbers, ...(Object.fromEntries(texts) as Record<string, string>) },
  };
}

function chanceOf({ estimate, low, high, calibration }: ChanceOfError__Output): ChanceOfError {
  return { estimate, low, high, calibration: unescaped(calibration) };
}

function transformOf(message: Transform__Output): Transform {
  const { symmetry, queryFrame, referenceFrame } = message;
  return { symmetry, queryFrame, referenceFrame };
}

function policyOf(message: Policy__Output | null): Policy {
  return {
    name: unescaped(message?.name ?? ''),
    rule: RULES[message?.rule ?? ''] ?? 'unknown',
    reach: REACHES[message?.reach ?? ''] ?? 'unknown',
    ssim: FULL_SIZES[message?.fullSize ?? ''] ?? 'unknown',
    ...thresholdsOf(message, { farDistance: 0, loneScene: 1, maxPWrong: 1 }), // older servers lack these thresholds
  };
}
