import assert from 'node:assert/strict';

import { TwinscopeError } from '@twinscope/client';

/** Gives a check that an error is what a call throws, with this code and reason. */
export const failure = (code: string, reason: string | undefined, retriable: boolean) => (error: unknown) => {
  assert.ok(error instanceof TwinscopeError, String(error));
  assert.deepEqual([error.code, error.reason, error.retriable], [code, reason, retriable]);
  return true;
};
