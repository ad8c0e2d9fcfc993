// The API's reference: shows what the server says of itself in /v1/openapi.json.

import "../style.css";
import "./reference.css";
import { type Call, calls, type OpenApi } from "./document.ts";
import { element, prose } from "./elements.ts";
import { badge, operationView, schemaView } from "./view.ts";

function find(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

const main = find("reference");
const contents = find("contents");

/** Every entry of the contents, with what a filter looks at and the section it leads to. */
const entries: { text: string; link: HTMLElement; section: HTMLElement }[] = [];

function enter(text: string, label: (Node | string)[], section: HTMLElement): HTMLElement {
  const link = element("a", { href: `#${section.id}` }, ...label);
  entries.push({ text: text.toLowerCase(), link, section });
  return link;
}

function group(title: string, about: HTMLElement[], sections: [HTMLElement, HTMLElement][]): void {
  main.append(
    element(
      "section",
      { class: "group" },
      element("h2", {}, title),
      ...about,
      ...sections.map(([section]) => section),
    ),
  );
  contents.append(
    element("section", {}, element("h2", {}, title), ...sections.map(([, link]) => link)),
  );
}

function show(api: OpenApi): void {
  find("version").textContent = `version ${api.info.version}`;
  main.append(element("section", { class: "about" }, ...prose(api.info.description)));
  const all = calls(api);
  for (const tag of api.tags) {
    const own = all.filter(({ operation }) => operation.tags.includes(tag.name));
    group(tag.name, prose(tag.description), own.map(entry));
  }
  const shapes = Object.entries(api.components.schemas).map(
    ([name, schema]): [HTMLElement, HTMLElement] => {
      const section = schemaView(name, schema);
      return [section, enter(name, [name], section)];
    },
  );
  group("Schemas", prose("The shapes that bodies and parameters have."), shapes);
}

function entry(call: Call): [HTMLElement, HTMLElement] {
  const { method, path, operation } = call;
  const section = operationView(call);
  const problems = Object.values(operation.responses).map((answer) => answer.description);
  const text = [
    operation.summary,
    operation.description,
    method,
    path,
    ...Object.keys(operation.responses),
    ...problems,
  ].join(" ");
  return [section, enter(text, [badge(method), operation.summary], section)];
}

function filter(wanted: string): void {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { text, link, section } of entries) {
    const isWanted = words.every((word) => text.includes(word));
    link.hidden = !isWanted;
    section.hidden = !isWanted;
  }
  for (const section of document.querySelectorAll<HTMLElement>(".group, #contents section")) {
    section.hidden = !section.querySelector("article:not([hidden]), a:not([hidden])");
  }
}

const input = find("filter") as HTMLInputElement;
input.addEventListener("input", () => filter(input.value));

try {
  const answer = await fetch("/v1/openapi.json");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  show((await answer.json()) as OpenApi);
  // The address may name a section that was not there before.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error);
  main.append(element("p", { role: "alert" }, `The document cannot be shown: ${reason}.`));
} finally {
  main.removeAttribute("aria-busy");
}
