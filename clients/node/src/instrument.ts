import type { InstrumentMetadata as MetadataMessage } from './generated/twinscope/v1/InstrumentMetadata.js';
import type { InstrumentMetadata__Output } from './generated/twinscope/v1/InstrumentMetadata.js';
import { escaped, unescaped } from './text.js';

/** Where the stage stood, in the instrument's own coordinates. Undefined: not told. */
export interface StagePosition {
  xMm?: number;
  yMm?: number;
  zMm?: number;
  rotationDeg?: number;
  tiltDeg?: number;
}

/** What a microscope wrote about an acquisition, in one set of units. Undefined: not told, or not to be understood. */
export interface InstrumentMetadata {
  /** Short name of the maker, for example `Zeiss`. */
  vendor?: string;
  /** The model, as the instrument calls itself. */
  instrument?: string;
  beamEnergyKev?: number;
  workingDistanceMm?: number;
  /** Times, on whatever medium the maker refers to. */
  magnification?: number;
  /** Of the pixels of this file. */
  pixelWidthNm?: number;
  pixelHeightNm?: number;
  /** Of the whole width of this picture. */
  fieldWidthUm?: number;
  detector?: string;
  stage?: StagePosition;
  /** Date, or date and time, by the instrument's clock; ISO 8601. */
  acquired?: string;
  /** Rows at the bottom that the instrument added below the scanned field. */
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

/** Takes the properties of these names, all of them optional, as far as they are defined. */
function known<From extends object, Name extends keyof From>(from: From, names: readonly Name[]): Pick<From, Name> {
  const defined = names.filter((name) => from[name] !== undefined);
  return Object.fromEntries(defined.map((name) => [name, from[name]])) as Pick<From, Name>;
}
