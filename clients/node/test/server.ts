import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The `twinscope` command that the tests run. */
export const TWINSCOPE = process.env['TWINSCOPE_COMMAND'] ?? 'twinscope';

/** A folder of `twinscope demo`: a collection, the TIFFs of a lab, and the store of the collection. */
export interface Demo {
  store: string;
  /** TIFFs of the lab. */
  images: string[];
}

/** Returns the demo in TWINSCOPE_DEMO, or creates one (15 seconds). */
export function demo(): Demo {
  const given = process.env['TWINSCOPE_DEMO'];
  const folder = given ?? join(mkdtempSync(join(tmpdir(), 'twinscope-')), 'demo');
  if (given === undefined) {
    execFileSync(TWINSCOPE, ['demo', '--out', folder], { stdio: 'ignore' });
  }
  const lab = join(folder, 'lab');
  const images = readdirSync(lab, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.tif'))
    .sort()
    .map((name) => join(lab, name));
  return { store: join(folder, 'lab.store'), images };
}

/** A running server; `stop` shuts it down and returns its exit code. */
export interface Server {
  target: string;
  stop(): Promise<number | null>;
}

/** Starts a server on a free port. It ends with the process of the tests, so that a failed test cannot leave it behind. */
export async function serve(store: string, ...flags: string[]): Promise<Server> {
  const child = spawn(TWINSCOPE, ['serve', store, '--port', '0', '--lame-duck-seconds', '0', '--quiet', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  process.once('exit', () => child.kill('SIGKILL'));
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const target = / at (grpcs?:\/\/\S+);/.exec(line)?.[1];
    if (target !== undefined) {
      child.stderr.resume();
      // If a failed test did not stop its server, this process must end nevertheless.
      child.unref();
      (child.stderr as Socket).unref();
      return { target, stop: () => (child.ref(), child.kill('SIGTERM'), exited) };
    }
  }
  throw new Error(`the server did not start: ${lines.join('\n')}`);
}

/**
 * Runs the command and returns the JSON objects that it prints, one per line, without their type and without the
 * summary at the end. The command may fail for some inputs.
 */
export function json(...flags: string[]): Record<string, unknown>[] {
  let out: string;
  try {
    out = execFileSync(TWINSCOPE, flags, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch (error) {
    out = (error as { stdout: string }).stdout;
  }
  return out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((one) => one['type'] !== 'summary')
    .map(({ type: _, ...rest }) => rest);
}
