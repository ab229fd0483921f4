import assert from 'node:assert/strict';

import { TwinscopeError } from '@twinscope/client';

/** Returns a check that an error is a `TwinscopeError` with this code and reason. */
export const failure = (code: string, reason: string | undefined, retriable: boolean) => (error: unknown) => {
  assert.ok(error instanceof TwinscopeError, String(error));
  assert.deepEqual([error.code, error.reason, error.retriable], [code, reason, retriable]);
  return true;
};
