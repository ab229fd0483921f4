import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The `twinscope` command that the tests run. */
export const TWINSCOPE = process.env['TWINSCOPE_COMMAND'] ?? 'twinscope';

/** A folder made by `twinscope demo`: a collection, a lab's TIFFs, and the store of the collection. */
export interface Demo {
  store: string;
  /** The lab's TIFFs. */
  images: string[];
}

/** Gives the demo in TWINSCOPE_DEMO, or makes one (a quarter of a minute). */
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

/** A running server; `stop` ends it gracefully and gives its exit code. */
export interface Server {
  target: string;
  stop(): Promise<number | null>;
}

/** Starts a server on a free port. */
export async function serve(store: string, ...flags: string[]): Promise<Server> {
  const child = spawn(TWINSCOPE, ['serve', store, '--port', '0', '--lame-duck-seconds', '0', '--quiet', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    const target = / at (grpcs?:\/\/\S+);/.exec(line)?.[1];
    if (target !== undefined) {
      child.stderr.resume();
      return { target, stop: () => (child.kill('SIGTERM'), exited) };
    }
  }
  throw new Error(`no server: ${said.join('\n')}`);
}

/** Runs the command and gives the JSON objects that it prints, one a line; it may fail for some inputs. */
export function json(...flags: string[]): Record<string, unknown>[] {
  let out: string;
  try {
    out = execFileSync(TWINSCOPE, flags, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch (error) {
    out = (error as { stdout: string }).stdout;
  }
  return out.trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
}
