import { loadPackageDefinition, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';

import type { ProtoGrpcType as Catalog } from './generated/catalog.js';
import type { ProtoGrpcType as Details } from './generated/error_details.js';
import type { ProtoGrpcType as Similarity } from './generated/similarity.js';
import type { ProtoGrpcType as RpcStatus } from './generated/status.js';

// These options must be equal to the options in scripts/protos.mjs, which generates the types. The 64-bit numbers of
// the contract are sizes, counts and generations. All values are far below 2^53, so JavaScript numbers are exact.
const definition = loadSync(
  ['twinscope/v1/similarity.proto', 'twinscope/v1/catalog.proto', 'google/rpc/error_details.proto'],
  {
    includeDirs: [fileURLToPath(new URL('./proto', import.meta.url))],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  },
);

type Contract = Similarity & Catalog;
type Rpc = Details['google']['rpc'] & RpcStatus['google']['rpc'];
const contract = loadPackageDefinition(definition) as unknown as Contract;

/** Class of the gRPC client for the service `SimilarityService`. */
export const SimilarityServiceClient = contract.twinscope.v1.SimilarityService;

/** Class of the gRPC client for the service `CatalogService`. */
export const CatalogServiceClient = contract.twinscope.v1.CatalogService;

/** Decodes the bytes of a message of the package `google.rpc`, for example the details of an error. */
export function deserialized<Name extends keyof Rpc>(
  name: Name,
  bytes: Buffer,
): Rpc[Name] extends MessageTypeDefinition<infer _In, infer Out> ? Out : never {
  const type = definition[`google.rpc.${name}`] as Exclude<(typeof definition)[string], ServiceDefinition>;
  if (!('deserialize' in type)) {
    throw new TypeError(`google.rpc.${name} is not a message`);
  }
  return type.deserialize(bytes) as ReturnType<typeof deserialized<Name>>;
}

/** Returns the JavaScript names of all numeric fields of a message of the contract. */
export function numbersOf(name: string): string[] {
  const type = definition[`twinscope.v1.${name}`] as MessageTypeDefinition<object, object>;
  const { field } = type.type as { field: { name: string; type: string }[] };
  return field.filter((one) => /^TYPE_(DOUBLE|INT32)$/.test(one.type)).map((one) => camelCase(one.name));
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
