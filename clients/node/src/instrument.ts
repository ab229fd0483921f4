import type { InstrumentMetadata as MetadataMessage } from './generated/twinscope/v1/InstrumentMetadata.js';
import type { InstrumentMetadata__Output } from './generated/twinscope/v1/InstrumentMetadata.js';
import { escaped, unescaped } from './text.js';

/** Position of the stage, in the instrument's own coordinates. Undefined: not recorded. */
export interface StagePosition {
  xMm?: number;
  yMm?: number;
  zMm?: number;
  rotationDeg?: number;
  tiltDeg?: number;
}

/** Metadata of an acquisition, in one set of units. Undefined: not recorded, or not understood. */
export interface InstrumentMetadata {
  /** Short name of the manufacturer, for example `Zeiss`. */
  vendor?: string;
  /** Model, as the instrument names itself. */
  instrument?: string;
  beamEnergyKev?: number;
  workingDistanceMm?: number;
  /** Magnification factor, for the medium that the manufacturer refers to. */
  magnification?: number;
  /** Width of a pixel of this file. */
  pixelWidthNm?: number;
  pixelHeightNm?: number;
  /** Width of the field that the whole image shows. */
  fieldWidthUm?: number;
  detector?: string;
  stage?: StagePosition;
  /** Date, or date and time, by the instrument's clock; ISO 8601. */
  acquired?: string;
  /** Height of the info bar: rows of pixels that the instrument added below the scanned field. */
  dataBarPx?: number;
}

const TEXTS = ['vendor', 'instrument', 'detector', 'acquired'] as const;
const NUMBERS = [
  'beamEnergyKev',
  'workingDistanceMm',
  'magnification',
  'pixelWidthNm',
  'pixelHeightNm',
  'fieldWidthUm',
  'dataBarPx',
] as const;
const STAGE = ['xMm', 'yMm', 'zMm', 'rotationDeg', 'tiltDeg'] as const;

/** Reads metadata from the wire. */
export function instrumentOf(message: InstrumentMetadata__Output): InstrumentMetadata {
  return {
    ...texts(message, unescaped),
    ...known(message, NUMBERS),
    ...(message.stage !== null && { stage: known(message.stage, STAGE) }),
  };
}

/** Writes metadata for the wire. */
export function instrumentMessage(metadata: InstrumentMetadata): MetadataMessage {
  return {
    ...texts(metadata, escaped),
    ...known(metadata, NUMBERS),
    ...(metadata.stage !== undefined && { stage: known(metadata.stage, STAGE) }),
  };
}

type Texts = Partial<Record<(typeof TEXTS)[number], string>>;

function texts(from: Texts, change: (text: string) => string): Texts {
  return Object.fromEntries(Object.entries(known(from, TEXTS)).map(([name, text]) => [name, change(text)]));
}

/** Returns the properties with these names that are defined. */
function known<From extends object, Name extends keyof From>(from: From, names: readonly Name[]): Pick<From, Name> {
  const defined = names.filter((name) => from[name] !== undefined);
  return Object.fromEntries(defined.map((name) => [name, from[name]])) as Pick<From, Name>;
}
