// The parts of an OpenAPI 3.1 document that the reference shows, and how they are read.

export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  oneOf?: Schema[];
  allOf?: Schema[];
  enum?: unknown[];
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  maxItems?: number;
  pattern?: string;
}

export interface Content {
  schema?: Schema;
  example?: unknown;
}

export interface Parameter {
  name: string;
  in: string;
  description?: string;
  required?: boolean;
  schema?: Schema;
}

export interface Answer {
  description: string;
  content?: Record<string, Content>;
  headers?: Record<string, { description?: string }>;
}

export interface Operation {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, Content> };
  responses: Record<string, Answer>;
  security?: Record<string, string[]>[];
}

export interface OpenApi {
  info: { title: string; version: string; description: string };
  tags: { name: string; description: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Schema>;
    securitySchemes: Record<string, { description: string }>;
  };
}

/** An operation and where it is. */
export interface Call {
  method: string;
  path: string;
  operation: Operation;
}

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Every operation, those of one path together. */
export function calls(document: OpenApi): Call[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method];
      return operation ? [{ method, path, operation }] : [];
    }),
  );
}

/** The name of the schema that a reference leads to. */
export function nameOf(reference: string): string {
  return reference.split("/").pop() ?? reference;
}

/** What is said of a property, which may stand beside a reference. */
export function aboutOf(schema: Schema): string {
  return schema.description ?? schema.oneOf?.find((one) => one.description)?.description ?? "";
}

/** What a value may be besides its type: `1 to 64 characters`. */
export function limits(schema: Schema): string[] {
  const range = (least: number | undefined, most: number | undefined, unit: string) => {
    if (least !== undefined && most !== undefined) return [`${least} to ${most}${unit}`];
    if (most !== undefined) return [`at most ${most}${unit}`];
    return least === undefined ? [] : [`at least ${least}${unit}`];
  };
  return [
    ...range(schema.minLength, schema.maxLength, " characters"),
    ...range(schema.minimum, schema.maximum, ""),
    ...range(undefined, schema.maxItems, " items"),
  ];
}

/** The type in a word or two: `string`, `list of Room`, `Gain or null`. */
export function typeOf(schema: Schema): string {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.items) return `list of ${typeOf(schema.items)}`;
  const several = schema.oneOf ?? schema.allOf;
  if (several) {
    const names = several.map(typeOf).sort((a, b) => Number(a === "null") - Number(b === "null"));
    return [...new Set(names)].join(schema.oneOf ? " or " : " with ");
  }
  return [schema.type ?? "anything"].flat().join(" or ");
}

/** A call of curl that does it. */
export function curl({ method, path, operation }: Call, origin: string): string {
  const parts = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}"${origin}${path}"`];
  const security = operation.security ?? [];
  if (security.length > 0) {
    const word = security.some((one) => "key" in one) ? "$key" : "$token";
    parts.push(`-H "Authorization: Bearer ${word}"`);
  }
  const body = Object.entries(operation.requestBody?.content ?? {});
  const [type, content] = body.find(([type]) => type === "application/json") ?? body[0] ?? [];
  if (type === "multipart/form-data") {
    for (const [name, values] of Object.entries(content?.example ?? {})) {
      for (const value of [values].flat()) parts.push(`-F "${name}=${value}"`);
    }
  } else if (type && content) {
    parts.push(`-H "Content-Type: ${type}"`);
    parts.push(
      type === "application/json" ? `-d '${JSON.stringify(content.example)}'` : "--data-binary @-",
    );
  }
  return parts.join(" \\\n  ");
}
