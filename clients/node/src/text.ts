const ESCAPE = /\\(?:(\\)|u(d[89a-f][0-9a-f]{2}))/g;
const SPECIAL = /\\|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * Converts an escaped text of the contract to the original text.
 *
 * A file name may contain bytes that are not valid UTF-8. Such a byte, with the hexadecimal digits HH, becomes the lone
 * surrogate U+DCHH, as in Python and in the JSON that Python writes.
 */
export function unescaped(text: string): string {
  return text.replace(ESCAPE, (_all, backslash: string | undefined, surrogate: string | undefined) =>
    surrogate === undefined ? (backslash ?? '') : String.fromCharCode(parseInt(surrogate, 16)),
  );
}

/** Converts a text to an escaped text of the contract. This function is the inverse of {@link unescaped}. */
export function escaped(text: string): string {
  return text.replace(SPECIAL, (found) =>
    found === '\\' ? '\\\\' : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
