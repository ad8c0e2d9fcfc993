// What the page's own address says, and addresses to share.

export interface Asked {
  room: string;
  /** The server's key or a token. It stands in the fragment, which no server ever sees. */
  access: string;
}

/** `/?room=desk#key=…`; `room` may stand in the fragment too, and `token` instead of `key`. */
export function asked(address: URL): Asked {
  const fragment = new URLSearchParams(address.hash.slice(1));
  return {
    room: address.searchParams.get("room") ?? fragment.get("room") ?? "",
    access: fragment.get("key") ?? fragment.get("token") ?? "",
  };
}

/** The address that brings somebody else to the room; no key and no token in it. */
export function shareLink(address: URL, room: string): string {
  const link = new URL(address.pathname, address.origin);
  link.searchParams.set("room", room);
  return link.href;
}

export interface Claims {
  sub: string;
  room?: string;
  language?: string;
  hear?: string;
}

/** What a token says, or null when it is none. It is read, not checked: that is the server's. */
export function claimsOf(token: string): Claims | null {
  const parts = token.split(".");
  if (parts.length !== 3 || !parts[1]) return null;
  try {
    const base64 = parts[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims?.sub === "string" ? (claims as Claims) : null;
  } catch {
    return null;
  }
}
