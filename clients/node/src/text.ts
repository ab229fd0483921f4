const ESCAPE = /\\(?:(\\)|u(d[89a-f][0-9a-f]{2}))/g;
const SPECIAL = /\\|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * Reads escaped text of the contract.
 *
 * A byte HH of a file name that is not UTF-8 becomes the lone surrogate U+DCHH, as in Python and its JSON.
 */
export function unescaped(text: string): string {
  return text.replace(ESCAPE, (_all, backslash: string | undefined, surrogate: string | undefined) =>
    surrogate === undefined ? (backslash ?? '') : String.fromCharCode(parseInt(surrogate, 16)),
  );
}

/** Writes escaped text; the inverse of {@link unescaped}. */
export function escaped(text: string): string {
  return text.replace(SPECIAL, (found) =>
    found === '\\' ? '\\\\' : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
