// How one operation and one schema look.

import {
  type Answer,
  aboutOf,
  type Call,
  type Content,
  curl,
  limits,
  nameOf,
  type Parameter,
  type Schema,
  typeOf,
} from "./document.ts";
import { element, prose, spans } from "./elements.ts";

const CREDENTIALS: Record<string, string> = {
  key: "API key",
  token: "participant's token",
  address: "token as ?access_token=",
};

export function operationView(call: Call): HTMLElement {
  const { method, path, operation } = call;
  const security = (operation.security ?? []).flatMap((one) => Object.keys(one));
  const who = security.map((name) => CREDENTIALS[name] ?? name).join(" or ");
  const section = element(
    "article",
    { id: operation.operationId, class: "operation card" },
    element(
      "h3",
      {},
      element("a", { href: `#${operation.operationId}` }, operation.summary),
      element("small", { class: "who" }, who || "open to all"),
    ),
    element("p", { class: "address" }, badge(method), pathView(path)),
    ...prose(operation.description),
  );
  const parameters = operation.parameters ?? [];
  if (parameters.length > 0) {
    const rows = parameters.map((parameter) => parameterView(parameter));
    section.append(element("h4", {}, "Parameters"), element("dl", { class: "fields" }, ...rows));
  }
  for (const [type, content] of Object.entries(operation.requestBody?.content ?? {})) {
    section.append(heading("Body", type), ...contentView(content));
  }
  section.append(element("h4", {}, "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    section.append(answerView(status, answer));
  }
  section.append(copyable(curl(call, location.origin)));
  return section;
}

export function schemaView(name: string, schema: Schema): HTMLElement {
  return element(
    "article",
    { id: `schema-${name}`, class: "schema card" },
    element("h3", {}, element("a", { href: `#schema-${name}` }, name)),
    ...prose(schema.description ?? ""),
    ...shapeView(schema),
  );
}

export function badge(method: string): HTMLElement {
  return element("b", { class: "method", "data-method": method }, method.toUpperCase());
}

function pathView(path: string): HTMLElement {
  const parts = path.split(/(\{[^}]+\})/);
  return element(
    "code",
    { class: "path" },
    ...parts.map((part) => (part.startsWith("{") ? element("em", {}, part) : part)),
  );
}

function heading(title: string, type: string): HTMLElement {
  return element("h4", {}, `${title} `, element("code", {}, type));
}

function parameterView(parameter: Parameter): HTMLElement {
  const place = parameter.in === "query" ? "after ?" : `in ${parameter.in}`;
  const need = parameter.required ? `${place}, needed` : place;
  const schema = parameter.schema ?? {};
  return field(parameter.name, need, schema, parameter.description ?? "");
}

function field(name: string, need: string, schema: Schema, about: string): HTMLElement {
  return element(
    "div",
    {},
    element("dt", {}, element("code", {}, name), " ", typeView(schema), element("small", {}, need)),
    element("dd", {}, ...spans(about), ...limitsView(schema)),
  );
}

/** The type, with a link where it has a name. */
function typeView(schema: Schema): HTMLElement {
  const named = schema.oneOf?.find((one) => one.$ref) ?? schema.items ?? schema;
  const text = typeOf(schema);
  const link = named.$ref ? element("a", { href: `#schema-${nameOf(named.$ref)}` }, text) : text;
  return element("span", { class: "type" }, link);
}

function limitsView(schema: Schema): HTMLElement[] {
  const words = (schema.enum ?? []).map((word) => element("code", {}, String(word)));
  const shown = limits(schema).map((limit) => element("span", {}, limit));
  if (schema.pattern) shown.push(element("code", {}, schema.pattern));
  const all = [...words, ...shown];
  return all.length > 0 ? [element("p", { class: "limits" }, ...all)] : [];
}

function shapeView(schema: Schema): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (schema.properties) {
    const required = new Set(schema.required);
    const rows = Object.entries(schema.properties).map(([name, property]) =>
      field(name, required.has(name) ? "needed" : "", property, aboutOf(property)),
    );
    parts.push(element("dl", { class: "fields" }, ...rows));
  } else if (schema.oneOf) {
    const variants = schema.oneOf.filter((one) => one.type !== "null");
    const items = variants.map((one) =>
      element("li", {}, ...spans(one.description ?? ""), ...shapeView(one)),
    );
    parts.push(element("ul", { class: "variants" }, ...items));
  } else if (schema.allOf) {
    parts.push(...schema.allOf.flatMap(shapeView));
  } else if (schema.$ref) {
    parts.push(element("p", {}, "As ", typeView(schema), "."));
  } else {
    parts.push(element("p", {}, typeView(schema)), ...limitsView(schema));
  }
  return parts;
}

function contentView(content: Content): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (content.schema) parts.push(element("p", {}, typeView(content.schema)));
  if (content.example !== undefined) parts.push(exampleView(content.example));
  return parts;
}

function exampleView(example: unknown): HTMLElement {
  const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
  return element("pre", { tabindex: "0" }, text);
}

function answerView(status: string, answer: Answer): HTMLElement {
  const kind = status.slice(0, 1);
  const summary = element(
    "summary",
    {},
    element("b", { class: "status", "data-kind": kind }, status),
    element("span", {}, ...spans(answer.description.split("\n\n").join(" "))),
  );
  const details = element("details", { class: "answer" }, summary);
  const headers = Object.entries(answer.headers ?? {}).map(([name, header]) =>
    field(name, "header", { type: "string" }, header.description ?? ""),
  );
  for (const [type, content] of Object.entries(answer.content ?? {})) {
    details.append(heading("Body", type), ...contentView(content));
  }
  details.append(element("dl", { class: "fields" }, ...headers));
  return details;
}

function copyable(text: string): HTMLElement {
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  });
  return element("div", { class: "copyable" }, element("pre", { tabindex: "0" }, text), button);
}
