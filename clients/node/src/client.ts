import { Metadata, type CallOptions as GrpcCallOptions, type Client as GrpcClient } from '@grpc/grpc-js';
import { readFile } from 'node:fs/promises';
import { Readable, type Writable } from 'node:stream';

import { answerOf, type Answer } from './answer.js';
import { channelOptions, credentialsFor, targetOf, type Pems } from './channel.js';
import { CatalogServiceClient, SimilarityServiceClient } from './contract.js';
import { errorOf, itemError, TwinscopeError } from './errors.js';
import type { QueryResult__Output } from './generated/twinscope/v1/QueryResult.js';
import { optionsMessage, requireKnown, SEARCH_OPTIONS, type ImageOptions, type SearchOptions } from './options.js';
import { statsOf, type Stats } from './stats.js';
import { uploadMessages, type ImageSource } from './upload.js';

/** A function that returns the current bearer token. The client calls this function for every request. */
export type TokenProvider = () => string | Promise<string>;

/** Options of the connection to a server. */
export interface ConnectOptions {
  /** Bearer token, or a function that returns the token. Without TLS, the server must be on this machine. */
  token?: string | TokenProvider;
  /** Certificate authorities to trust instead of the well-known authorities: path of a PEM file, or its bytes. */
  ca?: string | Buffer;
  /** Certificate of this client, for mutual TLS (mTLS): path of a PEM file, or its bytes. */
  certificate?: string | Buffer;
  /** Private key of `certificate`: path of a PEM file, or its bytes. */
  key?: string | Buffer;
  /** Maximum duration of a call with all its attempts, in milliseconds. 60,000 by default. */
  timeoutMs?: number;
  /** Maximum number of attempts while the server is unavailable or overloaded: 1 to 5, by default 5. */
  attempts?: number;
}

/** Options of one call. */
export interface CallOptions {
  /** Maximum duration of this call, in milliseconds, instead of {@link ConnectOptions.timeoutMs}. */
  timeoutMs?: number;
  /** Signal that cancels the call. A cancelled call fails with the code `CANCELLED`. */
  signal?: AbortSignal;
}

/** Names of the options of one call. The compiler checks that the list is complete. */
const CALL: Record<keyof CallOptions, true> = { timeoutMs: true, signal: true };
const CALL_OPTIONS: readonly string[] = Object.keys(CALL);
const IMAGE_OPTIONS: readonly string[] = [...SEARCH_OPTIONS, ...CALL_OPTIONS];
const HASH_OPTIONS: readonly string[] = IMAGE_OPTIONS.filter((name) => name !== 'instrument');

/** Maximum number of queries and of candidates in one message of the contract, and the size of a hash in bytes. */
const MAX_BATCH = 1024;
const MAX_CANDIDATES = 65_536;
const HASH_BYTES = 128;

/**
 * Connects to a server, and checks that the server answers.
 *
 * @param target - The server: `grpc://host:port`, or `grpcs://host:port` with TLS.
 * @throws TypeError if the target is not valid, or if a token would cross the network in plain text.
 * @throws TwinscopeError if the server cannot be reached or refuses the call.
 */
export async function connect(target: string, options: ConnectOptions = {}): Promise<Client> {
  const server = targetOf(target);
  if (options.token !== undefined && !server.tls && !server.loopback) {
    throw new TypeError(`a token would cross the network to ${server.address} in plain text: use grpcs://`);
  }
  const pems: Pems = {};
  for (const name of ['ca', 'certificate', 'key'] as const) {
    const given = options[name];
    if (given !== undefined) {
      pems[name] = typeof given === 'string' ? await readFile(given) : given;
    }
  }
  const credentials = credentialsFor(server, pems);
  const channel = channelOptions(server, options.attempts ?? 5);
  const similarity = new SimilarityServiceClient(server.address, credentials, channel);
  const catalog = new CatalogServiceClient(server.address, credentials, {
    ...channel,
    channelOverride: similarity.getChannel(),
  });
  const client = new Client(target, { similarity, catalog }, options.token, options.timeoutMs ?? 60_000);
  try {
    await client.stats();
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

interface Stubs {
  similarity: InstanceType<typeof SimilarityServiceClient>;
  catalog: InstanceType<typeof CatalogServiceClient>;
}

/** A connection to a server, created by the function {@link connect}. Several calls can run at the same time. */
export class Client {
  readonly #target: string;
  readonly #stubs: Stubs;
  readonly #token: string | TokenProvider | undefined;
  readonly #timeoutMs: number;

  /** @internal */
  constructor(target: string, stubs: Stubs, token: string | TokenProvider | undefined, timeoutMs: number) {
    this.#target = target;
    this.#stubs = stubs;
    this.#token = token;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Finds the labelled twin of an image. The image is uploaded in pieces.
   *
   * @throws TypeError if an option is unknown.
   * @throws TwinscopeError if the call fails, for example with the reason `IMAGE_UNREADABLE`.
   * @throws Error the original error of Node, if the file cannot be read on this machine.
   */
  async searchByImage(image: ImageSource, options: ImageOptions & CallOptions = {}): Promise<Answer> {
    requireKnown(options, IMAGE_OPTIONS);
    const messages = Readable.from(uploadMessages(image, options));
    const response = await this.#call<{ result: QueryResult__Output | null }>(options, (metadata, callOptions, done) => {
      const call = this.#stubs.similarity.searchByImage(metadata, callOptions, (error, value) => {
        messages.destroy();
        done(error, value);
      });
      messages.once('error', (error) => {
        done(error);
        call.cancel();
      });
      messages.pipe(call as unknown as Writable); // the types of @grpc/grpc-js do not say that a call is a Writable
      return call;
    });
    return this.#answer(response.result);
  }

  /**
   * Finds the nearest references of each hash. A hash is given as 128 bytes or as 256 hexadecimal digits.
   *
   * The answers have the order of the hashes. The candidates are not verified, so the best possible grade is
   * `unverified`. The hashes are sent in as many messages as needed.
   *
   * @throws RangeError if an item is not a hash.
   * @throws TypeError if an option is unknown.
   * @throws TwinscopeError if a call or a query fails.
   */
  async searchHashes(
    hashes: readonly (Uint8Array | string)[],
    options: SearchOptions & CallOptions = {},
  ): Promise<Answer[]> {
    requireKnown(options, HASH_OPTIONS);
    const queries = hashes.map((hash, i) => ({ hash: hashBytes(hash, i) }));
    const size = Math.max(1, Math.min(MAX_BATCH, Math.floor(MAX_CANDIDATES / (options.k ?? 1))));
    const answers: Answer[] = [];
    for (let start = 0; start < queries.length; start += size) {
      const request = { queries: queries.slice(start, start + size), options: optionsMessage(options) };
      const response = await this.#call<{ results: QueryResult__Output[] }>(options, (metadata, callOptions, done) =>
        this.#stubs.similarity.batchSearch(request, metadata, callOptions, done),
      );
      answers.push(...response.results.map((result) => this.#answer(result)));
    }
    return answers;
  }

  /** Returns a description of the store, the index and the server. */
  async stats(options: CallOptions = {}): Promise<Stats> {
    requireKnown(options, CALL_OPTIONS);
    return statsOf(
      await this.#call(options, (metadata, callOptions, done) =>
        this.#stubs.catalog.getIndex({}, metadata, callOptions, done),
      ),
    );
  }

  /** Closes the connection. Calls that are in progress fail. */
  close(): void {
    (this.#stubs.similarity as GrpcClient).close();
  }

  #answer(result: QueryResult__Output | null): Answer {
    if (result?.error) {
      throw itemError(result.error, this.#target);
    }
    if (!result?.answer) {
      throw new TwinscopeError('INTERNAL', `${this.#target}: the server sent no answer`);
    }
    return answerOf(result.answer);
  }

  async #call<Response>(
    { timeoutMs = this.#timeoutMs, signal }: CallOptions,
    start: (
      metadata: Metadata,
      options: GrpcCallOptions,
      done: (error: Error | null, value?: Response) => void,
    ) => { cancel(): void },
  ): Promise<Response> {
    const deadline = Date.now() + timeoutMs;
    const metadata = new Metadata();
    if (this.#token !== undefined) {
      const token = typeof this.#token === 'string' ? this.#token : await this.#token();
      metadata.set('authorization', `Bearer ${token}`);
    }
    if (signal?.aborted) {
      throw new TwinscopeError('CANCELLED', `${this.#target}: the caller cancelled the call`);
    }
    let cancel = (): void => {};
    try {
      return await new Promise<Response>((resolve, reject) => {
        const call = start(metadata, { deadline }, (error, value) =>
          error || value === undefined ? reject(error ?? new Error('a call ended without a response')) : resolve(value),
        );
        cancel = () => call.cancel();
        signal?.addEventListener('abort', cancel, { once: true });
      });
    } catch (error) {
      throw errorOf(error, this.#target);
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }
}

function hashBytes(hash: Uint8Array | string, i: number): Uint8Array {
  const bytes = typeof hash === 'string' ? Buffer.from(hash, 'hex') : hash;
  if (bytes.length !== HASH_BYTES || (typeof hash === 'string' && hash.length !== 2 * HASH_BYTES)) {
    throw new RangeError(`hashes[${i}] has ${bytes.length} bytes; a hash has ${HASH_BYTES}`);
  }
  return bytes;
}
