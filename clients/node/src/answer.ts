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
 * All grades, the most certain first, each with whether it carries a label. The contract has the same names in
 * capitals, after `GRADE_`. The Python package holds the same table, and its tests compare the two.
 */
export const GRADES = {
  excellent: { labelled: true }, // the same acquisition
  good: { labelled: true }, // the same field, re-encoded, resized, with changed contrast or slightly shifted
  doubtful: { labelled: false }, // pixels show a twin, but there is evidence against the match, or it is too likely to be wrong
  ambiguous: { labelled: false }, // candidates of different categories are equally close
  unverified: { labelled: false }, // close by hash alone
  none: { labelled: false }, // no twin
  unhashable: { labelled: false }, // the query has no structure that could identify it
} as const satisfies Readonly<Record<string, { labelled: boolean }>>;

/**
 * The verdict on a query, a name of {@link GRADES}. A person has to decide about every grade without a label.
 * `unknown`: a grade of a newer server, which carries no label here.
 */
export type Grade = keyof typeof GRADES | 'unknown';

/** A translation, as fractions of the width (`x`, to the right) and of the height (`y`, downwards) of an image. */
export interface Shift {
  x: number;
  y: number;
}

/** One candidate in an answer, with its scores. */
export interface Match {
  /** Id, 16 hexadecimal digits. It names the image for as long as the image stays in the store. */
  imageId: string;
  /** A path on the machine that indexed it, `archive!member`, or the source that a client named. */
  source: string;
  category: string;
  code: string;
  /** Hamming distance of the hashes in bits, 0 to 1024. */
  distance: number;
  /** Correlation of the registered thumbnails, -1 to 1. Undefined: not computed. */
  sceneScore?: number;
  /** How far the query is shifted relative to the candidate. Undefined: not computed. */
  shift?: Shift;
  /** Mean SSIM of the full-size images, -1 to 1. Undefined: not computed. */
  ssim?: number;
  /** Why something was not computed, for people; empty otherwise. */
  note: string;
  /** The code in the published file name, only recorded; it never decides a label. Undefined: there was none. */
  publishedPrefix?: string;
  /** How the query was changed for the comparison. Undefined: it was compared as it is. */
  transform?: Transform;
  /** Metadata that the image's instrument wrote. Undefined: there are none, or the query was a bare hash. */
  instrument?: InstrumentMetadata;
  /** How the metadata of the two instruments contradict each other, for people; empty: they do not. */
  contradictions: string[];
}

/** How the query was changed to resemble a candidate. */
export interface Transform {
  /** Changes of the query, such as `rotated by 90, inverted` (clockwise); empty: none. */
  symmetry: string;
  /** The frame of the query that was compared: `whole`, or a text for people. */
  queryFrame: string;
  /** The frame of the candidate that was compared: `whole`, or a text for people. */
  referenceFrame: string;
}

/** Which candidates are compared at full size: none, those that can change the answer, or all of the same field. */
export type FullSize = 'never' | 'best' | 'all';

/** Which frames are searched if the whole image has no twin. */
export type Reach = 'frame' | 'views' | 'windows';

/** The thresholds that decided; `types.proto` describes each. */
export interface Policy extends Required<Thresholds> {
  name: string;
  rule: 'scene' | 'legacy' | 'unknown';
  k: number;
  /** Bits. */
  maxDistance: number;
  /** Bits. */
  ssimDistance: number;
  excellentSsim: number;
  goodScene: number;
  /** Sufficient if no other reference scores a third of it; no effect if it is not below `goodScene`. */
  loneScene: number;
  ssimMargin: number;
  sceneMargin: number;
  reach: Reach | 'unknown';
  /** Bits. */
  farDistance: number;
  ssim: FullSize | 'unknown';
  /** A match with a higher `pWrong` is `doubtful`; 1: no limit. */
  maxPWrong: number;
}

/** The estimated probability that a match is wrong, 0 to 1. */
export interface ChanceOfError {
  /** The best estimate. */
  estimate: number;
  /** Lower end of the interval that contains 95 % of the estimates from resampled collections. */
  low: number;
  /** Upper end of that interval. */
  high: number;
  /** The calibration: `shipped`, or the collection of `twinscope calibrate`. */
  calibration: string;
}

/** One reason for the grade of an answer. */
export interface Reason {
  /**
   * A value of `ReasonCode` in `types.proto` without its prefix, in lower case, such as `same_field`; `unknown`: a code
   * of a newer server.
   */
  code: string;
  /** Its numbers and texts, by the names that `ReasonCode` lists. */
  values: Record<string, number | string>;
}

/** The answer to one query. */
export interface Answer {
  grade: Grade;
  /** The category to label the query with; undefined unless the grade carries a label. */
  category?: string;
  /** The code of `category`. */
  code?: string;
  /** Candidates, best first. If `category` is undefined, no label may be derived from them. */
  matches: Match[];
  /** Why the answer has this grade, for people; the wording may change with any release. */
  reason: string;
  /** Why the answer has this grade, for programs: what was found, then what adds to it. Empty: an older server. */
  reasons: Reason[];
  /** Hash of the query, hexadecimal. Undefined: the query is unhashable. */
  queryHash?: string;
  policy: Policy;
  /** The generation of the store that answered; it grows with every change. */
  generation: number;
  /** Recipe of the hashes. */
  recipe: string;
  /** Version of the taxonomy that the best match was labelled by; empty without matches. */
  taxonomy: string;
  /** Metadata that the query's instrument wrote. Undefined: none are known. */
  instrument?: InstrumentMetadata;
  /** Probability that the best match is wrong. Undefined: see `Answer.p_wrong` in `types.proto`. */
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

/** Reads an answer from the wire. */
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

/** Reads a grade from the wire: the name of a value, or the number of a value that this contract does not have. */
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
  const code: string | number = message.code; // a number if this contract does not have the value
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
    ...thresholdsOf(message, { farDistance: 0, loneScene: 1, maxPWrong: 1 }), // older servers do not use these
  };
}
