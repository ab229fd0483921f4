import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';

import type { SearchByImageRequest } from './generated/twinscope/v1/SearchByImageRequest.js';
import { instrumentMessage } from './instrument.js';
import { optionsMessage, type ImageOptions } from './options.js';

/**
 * An image file: the path of the file, the bytes of the file, or a stream of these bytes. The client keeps the content
 * of a stream in memory, because it has to send the size before the content.
 */
export type ImageSource = string | Uint8Array | Readable;

/** Size of one piece of an uploaded file, in bytes. */
export const CHUNK = 256 * 1024;

/** Yields the messages that upload an image: first a header with size and SHA-256, then the file in pieces. */
export async function* uploadMessages(
  image: ImageSource,
  options: ImageOptions,
): AsyncGenerator<SearchByImageRequest, void, void> {
  const chunks = typeof image === 'string' ? fileChunks(image) : memoryChunks(await bytesOf(image));
  const digest = createHash('sha256');
  let size = 0;
  for await (const chunk of chunks()) {
    digest.update(chunk);
    size += chunk.length;
  }
  const { instrument } = options;
  yield {
    header: {
      sizeBytes: size,
      sha256: digest.digest(),
      options: optionsMessage(options),
      ...(instrument !== undefined && { instrument: instrumentMessage(instrument) }),
    },
  };
  for await (const chunk of chunks()) {
    yield { chunk };
  }
}

type Chunks = () => AsyncGenerator<Buffer, void, void>;

/** Returns a function that reads a file from its start. It is called once for the digest, and once to send the file. */
function fileChunks(path: string): Chunks {
  return async function* () {
    const file = await open(path);
    try {
      for (;;) {
        // Each piece needs its own buffer, because gRPC may still hold the buffer of the previous piece.
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK);
        if (bytesRead === 0) {
          return;
        }
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  };
}

function memoryChunks(bytes: Buffer): Chunks {
  return async function* () {
    for (let start = 0; start < bytes.length; start += CHUNK) {
      yield bytes.subarray(start, start + CHUNK);
    }
  };
}

async function bytesOf(image: Uint8Array | Readable): Promise<Buffer> {
  if (image instanceof Uint8Array) {
    return Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  }
  const pieces: Buffer[] = [];
  for await (const piece of image) {
    pieces.push(Buffer.from(piece as Uint8Array));
  }
  return Buffer.concat(pieces);
}
