// Queries a server with a build of the Node client of the first frozen contract: `node THIS FOLDER`, where FOLDER is its
// clients/node. Reads requests as JSON from standard input and writes the client's results as JSON.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const folder = pathToFileURL(`${process.argv[2]}/`);
const { connect, TwinscopeError } = await import(new URL('dist/index.js', folder));
const { printed } = await import(new URL('build/test/printed.js', folder));

const { target, images, hashes, options } = JSON.parse(readFileSync(0, 'utf8'));
const client = await connect(target);

async function outcome(call) {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof TwinscopeError)) {
      throw error;
    }
    const { code, reason, retriable, details, violations } = error;
    return { error: { code, reason, retriable, details, violations } };
  }
}

const out = {
  stats: await outcome(() => client.stats()),
  images: [],
  hashes: await outcome(async () => (await client.searchHashes(hashes)).map(printed)),
  options: [],
};
for (const image of images) {
  out.images.push(await outcome(async () => printed(await client.searchByImage(image))));
}
for (const some of options) {
  out.options.push(await outcome(async () => printed(await client.searchByImage(images[0], some))));
}
client.close();
process.stdout.write(JSON.stringify(out));
