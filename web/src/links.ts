// `Link` headers of WHIP and WHEP (RFC 8288, RFC 9725 section 4.6): servers that help to get through.

/** `<turn:host?transport=udp>; rel="ice-server"; username="u"; credential="c"`, comma-separated. */
export function iceServersOf(header: string | null): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, target, rest] of (header ?? "").matchAll(LINK)) {
    const said = new Map<string, string>();
    for (const [, name, quoted, plain] of (rest ?? "").matchAll(PARAMETER)) {
      if (name) said.set(name.toLowerCase(), quoted?.replaceAll(/\\(.)/g, "$1") ?? plain ?? "");
    }
    if (!target || !said.get("rel")?.split(" ").includes("ice-server")) continue;
    const username = said.get("username");
    const credential = said.get("credential");
    servers.push({
      urls: target,
      ...(username && { username }),
      ...(credential && { credential }),
    });
  }
  return servers;
}

// A target and its parameters; a comma within quotes ends nothing.
const LINK = /<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))*)/g;
const PARAMETER = /;\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))/g;
