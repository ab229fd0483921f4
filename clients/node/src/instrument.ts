import type { InstrumentMetadata as MetadataMessage } from './generated/twinscope/v1/InstrumentMetadata.js';
import type { InstrumentMetadata__Output } from './generated/twinscope/v1/InstrumentMetadata.js';
import { escaped, unescaped } from './text.js';

/** Position of the stage, in the coordinates of the instrument. A coordinate that was not recorded is undefined. */
export interface StagePosition {
  xMm?: number;
  yMm?: number;
  zMm?: number;
  rotationDeg?: number;
  tiltDeg?: number;
}

/**
 * Metadata of an acquisition. The units are the same for all manufacturers. A value is undefined if it was not recorded
 * or if Twinscope could not read it.
 */
export interface InstrumentMetadata {
  /** Short name of the manufacturer, for example `Zeiss`. */
  vendor?: string;
  /** Model of the instrument, as written in the metadata. */
  instrument?: string;
  beamEnergyKev?: number;
  workingDistanceMm?: number;
  /** Magnification factor, relative to the display or print size that the manufacturer has chosen. */
  magnification?: number;
  /** Width of one pixel of this file, in nanometres. */
  pixelWidthNm?: number;
  /** Height of one pixel of this file, in nanometres. */
  pixelHeightNm?: number;
  /** Width of the field that the whole image shows, in micrometres. */
  fieldWidthUm?: number;
  detector?: string;
  stage?: StagePosition;
  /** Date, or date and time, of the acquisition by the clock of the instrument, in the format ISO 8601. */
  acquired?: string;
  /** Height of the info bar, which the instrument added below the scanned field, in rows of pixels. */
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

/** Converts a message of the contract to metadata. */
export function instrumentOf(message: InstrumentMetadata__Output): InstrumentMetadata {
  return {
    ...texts(message, unescaped),
    ...known(message, NUMBERS),
    ...(message.stage !== null && { stage: known(message.stage, STAGE) }),
  };
}

/** Converts metadata to a message of the contract. */
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

/** Returns an object with the named properties that are defined. */ function known<From extends object, Name extends
keyof From>(from: From, names: readonly Name[]): Pick<From, Name> {
  const defined = names.filter((name) => from[name] !== undefined);
  return Object.fromEntries(defined.map((name) => [name, from[name]])) as Pick<From, Name>;
}
