import type { Answer } from '@twinscope/client';

/** Output of the command for one image. */
export type Json = Record<string, unknown>;

/** Returns an answer as the command prints it: names in snake case, undefined values as null. */
export function printed(answer: Answer): Json {
  return {
    grade: answer.grade,
    category: answer.category ?? null,
    code: answer.code ?? null,
    matches: answer.matches.map((match) => ({
      image_id: match.imageId,
      source: match.source,
      category: match.category,
      code: match.code,
      distance: match.distance,
      scene_score: match.sceneScore ?? null,
      shift: match.shift ? [match.shift.x, match.shift.y] : null,
      ssim: match.ssim ?? null,
      note: match.note,
      published_prefix: match.publishedPrefix ?? null,
      transform: match.transform
        ? {
            symmetry: match.transform.symmetry,
            query_frame: match.transform.queryFrame,
            reference_frame: match.transform.referenceFrame,
          }
        : null,
      instrument: match.instrument ? snakeCase(match.instrument) : null,
      contradictions: match.contradictions,
    })),
    reason: answer.reason,
    reasons: answer.reasons.map(({ code, values }) => ({ code, ...values })),
    query_hash: answer.queryHash ?? null,
    policy: snakeCase(answer.policy),
    generation: answer.generation,
    recipe: answer.recipe,
    taxonomy: answer.taxonomy,
    instrument: answer.instrument ? snakeCase(answer.instrument) : null,
    p_wrong: answer.pWrong ? { ...answer.pWrong } : null,
  };
}

/** Returns the values with names in snake case, as the command prints them. */
function snakeCase(values: object): Json {
  return renamed(values, (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
}

/** Returns the values with names in camel case, as in this client. */
export function camelCase(values: object): object {
  return renamed(values, (name) => name.replace(/_(.)/g, (_all, letter: string) => letter.toUpperCase()));
}

function renamed(values: object, rename: (name: string) => string): Json {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]: [string, unknown]) => [
      rename(name),
      typeof value === 'object' && value !== null ? renamed(value, rename) : value,
    ]),
  );
}

/** Returns the output of the command without the name of the image. */
export function query(answer: Json): Json {
  const { query: _, path: _path, ...rest } = answer;
  return rest;
}
