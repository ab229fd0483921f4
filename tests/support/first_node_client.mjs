// Asks a server through a build of the client for Node, the first that was frozen: `node THIS FOLDER`, FOLDER being its
// clients/node. Requests come as JSON on standard input, what the client makes of the answers goes out as JSON.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const folder = pathToFileURL(`${process.argv[2]}/`);
const { connect, TwinscopeError } = await import(new URL('dist/index.js', folder));
const { printed } = await import(new URL('build/test/printed.js', folder));

const { target, images, hashes, options } = JSON.parse(readFileSync(0, 'utf8'));
const client = await connect(target);

async function told(call) {
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
  stats: await told(() => client.stats()),
  images: [],
  hashes: await told(async () => (await client.searchHashes(hashes)).map(printed)),
  options: [],
};
for (const image of images) {
  out.images.push(await told(async () => printed(await client.searchByImage(image))));
}
for (const some of options) {
  out.options.push(await told(async () => printed(await client.searchByImage(images[0], some))));
}
client.close();
process.stdout.write(JSON.stringify(out));
