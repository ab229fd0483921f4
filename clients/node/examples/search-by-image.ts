/** Prints the answer of a server for each image: `node build/examples/search-by-image.js grpc://host:port IMAGE...` */
import { connect, TwinscopeError, type Client } from '@twinscope/client';

const [target, ...images] = process.argv.slice(2);
if (target === undefined || images.length === 0) {
  console.error('usage: search-by-image grpc[s]://host:port IMAGE...   (TWINSCOPE_TOKEN, TWINSCOPE_CA: token, CA file)');
  process.exit(2);
}
const { TWINSCOPE_TOKEN: token, TWINSCOPE_CA: ca } = process.env;
let client: Client | undefined;
try {
  client = await connect(target, { ...(token && { token }), ...(ca && { ca }) });
  for (const image of images) {
    const answer = await client.searchByImage(image);
    const label = answer.category === undefined ? '' : ` -> ${answer.category} (${answer.code})`;
    console.log(`${image}: ${answer.grade}${label}: ${answer.reason}`);
    if (answer.pWrong !== undefined) {
      const { estimate, low, high } = answer.pWrong;
      const [chance, from, to] = [estimate, low, high].map((share) => `${Number((100 * share).toPrecision(2))} %`);
      console.log(`  wrong with a probability of ${chance} (${from} to ${to})`);
    }
    for (const match of answer.matches) {
      const ssim = match.ssim?.toFixed(3) ?? '-';
      const scene = match.sceneScore?.toFixed(3) ?? '-';
      console.log(`  ${match.distance} bits  SSIM ${ssim}  scene ${scene}  ${match.category}  ${match.source}`);
      match.contradictions.forEach((contradiction) => console.log(`    but ${contradiction}`));
    }
  }
} catch (error) {
  if (error instanceof TwinscopeError) {
    console.error(`${error.message} [${error.reason ?? error.code}]${error.retriable ? ' Try again later.' : ''}`);
  } else if (error instanceof Error && 'syscall' in error) {
    console.error(error.message); // an image file or the CA file is missing or cannot be read
  } else {
    throw error;
  }
  process.exitCode = 1;
} finally {
  client?.close();
}
