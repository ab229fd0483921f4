import assert from 'node:assert/strict';
import { test } from 'node:test';

import { escaped, unescaped } from '#text';

test('escaped text is that of the contract', () => {
  assert.equal(unescaped('Müller\\\\a\\udcff.tif'), 'Müller\\a\udcff.tif');
  assert.equal(escaped('Müller\\a\udcff.tif'), 'Müller\\\\a\\udcff.tif');
});

test('reading restores what was written', () => {
  for (const text of ['', 'a', '\\', '\\\\', '\\udc80', '\udc80\udc81', '🔬\\n', '\ud83d', 'x\udfffy']) {
    assert.equal(unescaped(escaped(text)), text);
  }
});
