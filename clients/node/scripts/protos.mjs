// Copies the .proto files of the wire contract to dist/proto, and generates TypeScript types for them in src/generated.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const FILES = [
  ...['catalog', 'errors', 'similarity', 'types'].map((name) => `twinscope/v1/${name}.proto`),
  ...['error_details', 'status'].map((name) => `google/rpc/${name}.proto`),
];

rmSync(here('dist'), { recursive: true, force: true });
rmSync(here('build'), { recursive: true, force: true });
rmSync(here('src/generated'), { recursive: true, force: true });
mkdirSync(here('dist/proto'), { recursive: true });
for (const file of FILES) {
  cpSync(here(`../../proto/${file}`), here(`dist/proto/${file}`));
}
// These options must be equal to the options with which src/contract.ts loads the .proto files.
execFileSync(
  process.execPath,
  [
    here('node_modules/@grpc/proto-loader/build/bin/proto-loader-gen-types.js'),
    ...['--longs=Number', '--enums=String', '--defaults', '--oneofs', '--grpcLib=@grpc/grpc-js'],
    ...['--importFileExtension=.js', '--includeDirs=.', `--outDir=${here('src/generated')}`],
    ...FILES,
  ],
  { cwd: here('dist/proto'), stdio: ['ignore', 'ignore', 'inherit'] },
);
