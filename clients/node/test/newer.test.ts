import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Metadata, Server, ServerCredentials, status, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import { connect, TwinscopeError } from '@twinscope/client';

// A server of a later release sends values, fields and reasons that this contract does not have.
const LATER = 99;
const LATER_FIELD = Buffer.from([0xf8, 0x7f, 0x01]); // field 2047 of any message, a number
const contract = loadSync(['twinscope/v1/similarity.proto', 'twinscope/v1/catalog.proto', 'google/rpc/error_details.proto'], {
  includeDirs: [fileURLToPath(new URL('../../dist/proto', import.meta.url))],
  enums: String,
  defaults: true,
});

/** Returns the methods of a service, with a field of a later release in their responses. */
function later(name: string): ServiceDefinition {
  const service = contract[name] as ServiceDefinition;
  return Object.fromEntries(
    Object.entries(service).map(([method, definition]) => [
      method,
      {
        ...definition,
        responseSerialize: (value: unknown) => Buffer.concat([definition.responseSerialize(value), LATER_FIELD]),
      },
    ]),
  );
}

function packed(name: string, value: object): Buffer {
  return (contract[name] as MessageTypeDefinition<object, object>).serialize(value);
}

async function serving(handlers: Parameters<Server['addService']>[1]): Promise<{ server: Server; target: string }> {
  const server = new Server();
  server.addService(later('twinscope.v1.SimilarityService'), handlers);
  server.addService(later('twinscope.v1.CatalogService'), {
    getIndex: (_: unknown, done: (error: null, value: object) => void) =>
      done(null, { storeId: 'x', index: { kind: 'later', reach: LATER } }),
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { server, target: `grpc://127.0.0.1:${port}` };
}

test('grades, rules and fields of a later release are unknown', async () => {
  const policy = { name: 'later', rule: LATER, fullSize: LATER, reach: LATER };
  const reasons = [{ code: 'REASON_CODE_SAME_FIELD' }, { code: LATER, numbers: { by: 2 }, texts: { seen: 'a\\\\b' } }];
  const matches = [{ category: 'Tips' }];
  const answer = { grade: LATER, category: 'Tips', code: 'L9', reason: 'new', reasons, policy, matches };
  const { server, target } = await serving({
    batchSearch: (_: unknown, done: (error: null, value: object) => void) => done(null, { results: [{ answer }] }),
  });
  const client = await connect(target);
  assert.equal((await client.stats()).index.reach, 'unknown');
  const [got] = await client.searchHashes(['00'.repeat(128)]);
  assert.equal(got?.grade, 'unknown');
  assert.ok(!('category' in got) && !('code' in got));
  assert.deepEqual([got.reason, got.matches.length, got.matches[0]?.category], ['new', 1, 'Tips']);
  assert.deepEqual(got.reasons, [
    { code: 'same_field', values: {} },
    { code: 'unknown', values: { by: 2, seen: 'a\\b' } },
  ]);
  assert.deepEqual([got.policy.rule, got.policy.ssim, got.policy.reach], ['unknown', 'unknown', 'unknown']);
  client.close();
  server.forceShutdown();
});

test('a reason of a later release is passed through with the status code', async () => {
  const info = packed('google.rpc.ErrorInfo', { reason: 'TOO_BLURRED', domain: 'twinscope', metadata: { by: '7' } });
  const detail = { type_url: 'type.googleapis.com/google.rpc.ErrorInfo', value: info };
  const later = { type_url: 'type.googleapis.com/twinscope.v1.Later', value: LATER_FIELD };
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    packed('google.rpc.Status', { code: status.FAILED_PRECONDITION, message: 'no', details: [later, detail] }),
  );
  const { server, target } = await serving({
    batchSearch: (_: unknown, done: (error: object) => void) =>
      done({ code: status.FAILED_PRECONDITION, details: 'no', metadata }),
  });
  const client = await connect(target);
  await assert.rejects(client.searchHashes(['00'.repeat(128)]), (error) => {
    assert.ok(error instanceof TwinscopeError, String(error));
    assert.deepEqual([error.code, error.reason, error.retriable], ['FAILED_PRECONDITION', 'TOO_BLURRED', false]);
    assert.deepEqual(error.details, { by: '7' });
    return true;
  });
  client.close();
  server.forceShutdown();
});
