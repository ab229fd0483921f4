import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, createReadStream, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { connect, TwinscopeError, type Client, type InstrumentMetadata } from '@twinscope/client';

import { failure } from './failure.js';
import { jeol } from './microscope.js';
import { camelCase, printed, query, type Json } from './printed.js';
import { demo, json, serve, TWINSCOPE, type Demo, type Server } from './server.js';

let lab: Demo;
let server: Server;
let client: Client;
let expected: Json[];

before(async () => {
  lab = demo();
  expected = json('search', '--json', '--at', lab.store, ...lab.images);
  server = await serve(lab.store);
  client = await connect(server.target);
});
after(async () => {
  client?.close();
  assert.equal(await server?.stop(), 0);
});

test('every image gets the answer of the command', async () => {
  const seen = new Set<unknown>();
  for (const [i, image] of lab.images.entries()) {
    const known = expected[i] ?? {};
    seen.add(known['grade']);
    if (known['grade'] === 'failed') {
      await assert.rejects(client.searchByImage(image), (error) => {
        failure('INVALID_ARGUMENT', 'IMAGE_UNREADABLE', false)(error);
        assert.equal((error as TwinscopeError).details['fault'], known['fault']);
        return true;
      });
    } else {
      assert.deepEqual(printed(await client.searchByImage(image)), query(known), image);
    }
  }
  assert.deepEqual([...seen].sort(), ['excellent', 'failed', 'good', 'none', 'unhashable']);
});

test('bytes and streams get the answer of their file', async () => {
  const image = lab.images.find((_, i) => expected[i]?.['grade'] === 'excellent') ?? '';
  const [known] = json('search', '--json', '--at', lab.store, '-k', '2', '--excellent-ssim', '0.9999', image);
  const options = { k: 2, excellentSsim: 0.9999 };
  for (const source of [image, readFileSync(image), createReadStream(image)]) {
    assert.deepEqual(printed(await client.searchByImage(source, options)), query(known ?? {}));
  }
});

test('categories can be restricted and verification skipped', async () => {
  const i = expected.findIndex((answer) => answer['grade'] === 'excellent');
  const image = lab.images[i] ?? '';
  const unverified = await client.searchByImage(image, { verify: false });
  assert.equal(unverified.grade, 'unverified');
  assert.equal(unverified.category, undefined);
  assert.ok(!('ssim' in (unverified.matches[0] ?? {})));
  const other = expected[i]?.['category'] === 'Tips' ? 'Powder' : 'Tips';
  const elsewhere = await client.searchByImage(image, { categories: [other], maxDistance: 1024 });
  assert.deepEqual([...new Set(elsewhere.matches.map((match) => match.category))], [other]);
});

test('a twin that is too likely to be wrong has no label', async () => {
  const image = lab.images.find((_, i) => expected[i]?.['grade'] === 'excellent') ?? '';
  const certain = await client.searchByImage(image);
  assert.equal(certain.policy.maxPWrong, 0.05);
  const { estimate, low, high, calibration } = certain.pWrong ?? assert.fail('no probability');
  assert.ok(0 <= low && low <= estimate && estimate <= high && high < 0.5, `${low} ${estimate} ${high}`);
  assert.equal(calibration, 'shipped');
  const [known] = json('search', '--json', '--at', lab.store, '--max-p-wrong', '0', image);
  const doubtful = await client.searchByImage(image, { maxPWrong: 0 });
  assert.deepEqual(printed(doubtful), query(known ?? {}));
  assert.equal(doubtful.grade, 'doubtful');
  assert.ok(!('category' in doubtful) && !('code' in doubtful));
  assert.equal(doubtful.matches[0]?.category, certain.category);
  const [bare] = await client.searchHashes([certain.queryHash ?? '']);
  assert.ok(bare !== undefined && !('pWrong' in bare) && !('instrument' in bare));
});

test('a twin with contradicting instrument metadata is doubtful', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinscope-instruments-'));
  const [store, reference, image] = ['store', 'Tips/a.tif', 'b.tif'].map((name) => join(folder, name));
  mkdirSync(join(folder, 'Tips'));
  const acquisition = lab.images.find((_, i) => expected[i]?.['grade'] === 'excellent') ?? '';
  for (const [copy, text] of [[reference, jeol(15)], [image, jeol(5)]]) {
    copyFileSync(acquisition, copy ?? '');
    writeFileSync(copy?.replace('.tif', '.txt') ?? '', text ?? '');
  }
  execFileSync(TWINSCOPE, ['index', '--store', store ?? '', join(folder, 'Tips')], { stdio: 'ignore' });
  const [known] = json('search', '--json', '--at', store ?? '', image ?? '');
  const wrote: InstrumentMetadata = camelCase((known?.['instrument'] ?? {}) as object);
  const instruments = await serve(store ?? '');
  const microscopist = await connect(instruments.target);

  const contradicted = await microscopist.searchByImage(image ?? '', { instrument: wrote });
  assert.deepEqual(printed(contradicted), query(known ?? {}));
  assert.equal(contradicted.grade, 'doubtful');
  assert.equal(contradicted.category, undefined);
  const stage = { xMm: 57.656, yMm: -15.152, zMm: 10.2, rotationDeg: 0, tiltDeg: -1.5 };
  assert.deepEqual(contradicted.instrument, {
    vendor: 'JEOL',
    instrument: 'JSM-7800F',
    beamEnergyKev: 5,
    workingDistanceMm: 9.7,
    magnification: 5000,
    pixelWidthNm: 250,
    pixelHeightNm: 250,
    fieldWidthUm: 160,
    detector: 'SEI \\ lower',
    stage,
    acquired: '2019-03-12T10:21:55',
    dataBarPx: 40,
  });
  const [match] = contradicted.matches;
  assert.equal(match?.instrument?.beamEnergyKev, 15);
  assert.deepEqual(match?.instrument?.stage, stage);
  assert.equal(match?.contradictions.length, 1);
  assert.match(match?.contradictions[0] ?? '', /5 keV and 15 keV/);

  const agreeing = await microscopist.searchByImage(image ?? '', { instrument: { ...wrote, beamEnergyKev: 15 } });
  assert.deepEqual([agreeing.grade, agreeing.matches[0]?.contradictions], ['excellent', []]);
  const silent = await microscopist.searchByImage(image ?? ''); // the image file has no metadata
  assert.equal(silent.grade, 'excellent');
  assert.ok(!('instrument' in silent));
  const unreal = { instrument: { beamEnergyKev: NaN, stage: { xMm: Infinity } } };
  await assert.rejects(microscopist.searchByImage(image ?? '', unreal), (error) => {
    failure('INVALID_ARGUMENT', 'INVALID_FIELD', false)(error);
    const fields = (error as TwinscopeError).violations.map(({ field }) => field);
    assert.deepEqual(fields, ['header.instrument.beam_energy_kev', 'header.instrument.stage.x_mm']);
    return true;
  });
  microscopist.close();
  assert.equal(await instruments.stop(), 0);
});

test('an image of many chunks arrives complete', async () => {
  const image = lab.images.find((_, i) => expected[i]?.['grade'] === 'excellent') ?? '';
  // Any bytes may follow a TIFF; these make it 13 chunks.
  const long = Buffer.concat([readFileSync(image), randomBytes(3_200_000)]);
  assert.equal((await client.searchByImage(long)).grade, 'excellent');
});

test('hashes in several messages are answered in order', async () => {
  const hashes = expected.flatMap((answer) => (typeof answer['query_hash'] === 'string' ? [answer['query_hash']] : []));
  const many = Array.from({ length: 1500 }, (_, i) => hashes[i % hashes.length] ?? '');
  const answers = await client.searchHashes(many);
  assert.deepEqual(answers.map((answer) => answer.queryHash), many);
  for (const answer of answers.slice(0, hashes.length)) {
    const known = expected.find((one) => one['query_hash'] === answer.queryHash) as { matches: Json[] };
    const nearest = Math.min(...known.matches.map((match) => match['distance'] as number));
    assert.equal(answer.grade, known.matches.length > 0 ? 'unverified' : 'none');
    assert.equal(answer.matches[0]?.distance ?? Infinity, nearest);
  }
  const [bytes] = await client.searchHashes([Buffer.from(many[0] ?? '', 'hex')]);
  assert.deepEqual(bytes, answers[0]);
  assert.deepEqual(await client.searchHashes([]), []);
  assert.equal((await client.searchHashes(many.slice(0, 100), { k: 1000 })).length, 100);
  await assert.rejects(client.searchHashes(['abcd']), RangeError);
});

test('statistics are those of the command', async () => {
  const [printedStats] = json('store', 'stats', '--json', lab.store);
  const { with_instrument: _, ...known } = printedStats ?? {}; // not part of the contract
  const { created, limits, serverVersion, writable, ...stats } = await client.stats();
  assert.deepEqual(
    known,
    {
      store: stats.store,
      store_id: stats.storeId,
      generation: stats.generation,
      recipe: stats.recipe,
      index: stats.index,
      calibration: {
        name: stats.calibration?.name,
        images: stats.calibration?.images,
        least_p_wrong: stats.calibration?.leastPWrong,
      },
      created: created?.toISOString().replace('.000Z', 'Z'),
      roots: stats.roots,
      images: stats.images,
      searchable: stats.searchable,
      unhashable: stats.unhashable,
      failures: stats.failures,
      prefixes: stats.prefixes,
      contradicting_prefixes: stats.contradictingPrefixes,
      category: stats.byCategory,
      format: stats.byFormat,
      bits: stats.byBits,
    },
  );
  assert.equal(limits.maxImageBytes, 256 * 1024 * 1024);
  assert.match(serverVersion, /^\d+\.\d+/);
  assert.equal(writable, true);
});

test('errors have code, reason and field', async () => {
  await assert.rejects(client.searchByImage(Buffer.from('no image')), failure('INVALID_ARGUMENT', 'IMAGE_UNREADABLE', false));
  await assert.rejects(client.searchByImage('/nowhere/image.tif'), { code: 'ENOENT' });
  await assert.rejects(client.searchByImage(lab.images[0] ?? '', { categories: ['Cheese'] }), (error) => {
    failure('INVALID_ARGUMENT', 'UNKNOWN_CATEGORY', false)(error);
    assert.equal((error as TwinscopeError).violations.length, 1);
    return true;
  });
  await assert.rejects(client.searchByImage(lab.images[0] ?? '', { maxPWrong: 2 }), failure('INVALID_ARGUMENT', 'INVALID_FIELD', false));
  await assert.rejects(client.searchHashes(['00'.repeat(128)], { minGeneration: 9, timeoutMs: 700 }), (error) => {
    assert.ok(error instanceof TwinscopeError && error.code === 'DEADLINE_EXCEEDED' && error.retriable);
    return true;
  });
});

test('a misspelt option is refused', async () => {
  const misspelt = { maxPwrong: 0.1 } as object;
  await assert.rejects(client.searchByImage(lab.images[0] ?? '', misspelt), /no option maxPwrong; .*\bmaxPWrong\b/);
  await assert.rejects(client.searchHashes(['00'.repeat(128)], misspelt), TypeError);
  await assert.rejects(client.stats(misspelt), /the options are signal, timeoutMs$/);
});

test('a call can be cancelled before and while it waits', async () => {
  const signal = AbortSignal.abort();
  await assert.rejects(client.stats({ signal }), failure('CANCELLED', undefined, false));
  const soon = client.searchHashes(['00'.repeat(128)], { minGeneration: 9, signal: AbortSignal.timeout(200) });
  await assert.rejects(soon, failure('CANCELLED', undefined, false));
});

test('an upload that is too large is refused early', async () => {
  const small = await serve(lab.store, '--max-upload-mib', '1');
  const narrow = await connect(small.target);
  await assert.rejects(narrow.searchByImage(Buffer.alloc(24 << 20)), failure('INVALID_ARGUMENT', 'IMAGE_TOO_LARGE', false));
  assert.equal((await narrow.stats()).limits.maxImageBytes, 1 << 20);
  narrow.close();
  assert.equal(await small.stop(), 0);
});

test('a rate-limited call is retried, or fails without attempts', async () => {
  const slow = await serve(lab.store, '--requests-per-second', '4');
  const once = await connect(slow.target, { attempts: 1 });
  const refused: TwinscopeError[] = [];
  while (refused.length === 0) { // a busy machine may stay below the rate limit
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => once.stats()));
    refused.push(...outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason as TwinscopeError] : [])));
  }
  for (const error of refused) {
    failure('RESOURCE_EXHAUSTED', 'RATE_LIMITED', true)(error);
    assert.ok(error.retryAfterMs !== undefined && error.retryAfterMs <= 250, String(error.retryAfterMs));
  }
  once.close();
  const patient = await connect(slow.target);
  for (let i = 0; i < 6; i++) {
    await patient.searchHashes(['00'.repeat(128)]);
  }
  patient.close();
  assert.equal(await slow.stop(), 0);
});

test('a server on this machine is reached without the proxy', async () => {
  process.env['grpc_proxy'] = 'http://127.0.0.1:9';
  try {
    const direct = await connect(server.target, { attempts: 1, timeoutMs: 10_000 });
    assert.equal((await direct.stats()).store, lab.store);
    direct.close();
  } finally {
    delete process.env['grpc_proxy'];
  }
});

test('a port without a server is UNAVAILABLE within the timeout', async () => {
  const placeholder = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => placeholder.once('listening', resolve));
  const { port } = placeholder.address() as AddressInfo;
  await new Promise((resolve) => placeholder.close(resolve));
  await assert.rejects(connect(`grpc://127.0.0.1:${port}`, { timeoutMs: 3000 }), (error) => {
    assert.ok(error instanceof TwinscopeError && error.retriable, String(error));
    assert.ok(error.code === 'UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED');
    return true;
  });
});

test('invalid targets and tokens in plain text are refused', async () => {
  for (const target of ['lab.store', 'http://localhost:1', 'grpc://localhost', 'grpc://localhost:1/path']) {
    await assert.rejects(connect(target), TypeError);
  }
  await assert.rejects(connect('grpc://192.0.2.1:50051', { token: 'secret' }), /plain text/);
});

test('a token provider is called for every call over TLS', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinscope-tls-'));
  const script = fileURLToPath(new URL('../../../../deploy/make-certificates.sh', import.meta.url));
  execFileSync(script, [folder], { stdio: 'ignore' });
  const token = randomBytes(16).toString('hex');
  const digest = createHash('sha256').update(token).digest('hex');
  writeFileSync(join(folder, 'tokens'), `node read ${digest}\n`);
  const [certificate, key, ca] = ['server.pem', 'server.key', 'ca.pem'].map((name) => join(folder, name));
  const flags = ['--tls-certificate', certificate ?? '', '--tls-key', key ?? '', '--tokens', join(folder, 'tokens')];
  const closed = await serve(lab.store, ...flags);
  const target = closed.target.replace('127.0.0.1', 'localhost');
  let asked = 0;
  const provider = async (): Promise<string> => (asked++, Promise.resolve(token));
  const trusted = await connect(target, { token: provider, ca: ca ?? '' });
  assert.equal(printed(await trusted.searchByImage(lab.images[0] ?? ''))['grade'], expected[0]?.['grade']);
  assert.equal(asked, 2);
  trusted.close();
  await assert.rejects(connect(target, { token: 'wrong', ca: ca ?? '' }), failure('UNAUTHENTICATED', 'TOKEN_INVALID', false));
  await assert.rejects(connect(target, { ca: ca ?? '' }), failure('UNAUTHENTICATED', 'TOKEN_INVALID', false));
  await assert.rejects(connect(target, { token, timeoutMs: 2000 }), TwinscopeError); // the default authorities do not know it
  assert.equal(await closed.stop(), 0);
});

test('the example prints label and candidates, or the error', () => {
  const i = expected.findIndex((answer) => answer['grade'] === 'excellent');
  const example = fileURLToPath(new URL('../examples/search-by-image.js', import.meta.url));
  const out = execFileSync(process.execPath, [example, server.target, lab.images[i] ?? ''], { encoding: 'utf8' });
  assert.ok(out.startsWith(`${lab.images[i]}: excellent -> ${expected[i]?.['category'] as string}`), out);
  assert.match(out, /\n {2}wrong with a probability of [\d.]+ % \([\d.]+ % to [\d.]+ %\)\n/);
  assert.match(out, /\n {2}\d+ bits {2}SSIM (0\.9\d\d|1\.000) {2}scene /);
  const failed = spawnSync(process.execPath, [example, server.target, '/dev/null'], { encoding: 'utf8' });
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /^grpc:.*\[INVALID_FIELD\]\n$/);
});
