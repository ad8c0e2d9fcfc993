// What the page's own address says, and addresses to share.

import { isRole, type Role } from "./roles.ts";
import type { Grants } from "./wire.ts";

/** What an invitation to a conference says beside the room. */
export interface Invitation {
  role: Role;
  /** The conference's channels, should the room have to be made anew; empty when it is not said. */
  languages: string[];
  /** The channel to interpret into; empty for every other role. */
  channel: string;
}

export interface Asked {
  room: string;
  /** The server's key or a token. It stands in the fragment, which no server ever sees. */
  access: string;
  /** Missing when the address is not one of a conference. */
  conference?: Invitation;
}

/**
 * `/?room=desk#key=…`; `room` may stand in the fragment too, and `token` instead of `key`. A
 * conference is `/?room=hall&kind=conference&languages=en,es&role=listener`.
 */
export function asked(address: URL): Asked {
  const fragment = new URLSearchParams(address.hash.slice(1));
  const said = (name: string) => address.searchParams.get(name) ?? "";
  const role = said("role");
  return {
    room: address.searchParams.get("room") ?? fragment.get("room") ?? "",
    access: fragment.get("key") ?? fragment.get("token") ?? "",
    ...(said("kind") === "conference" && {
      conference: {
        role: isRole(role) ? role : "listener",
        languages: said("languages").split(",").filter(Boolean),
        channel: said("channel"),
      },
    }),
  };
}

/** The address that brings somebody else to the room; no key and no token in it. */
export function shareLink(address: URL, room: string, invitation?: Invitation): string {
  const link = new URL(address.pathname, address.origin);
  link.searchParams.set("room", room);
  if (!invitation) return link.href;
  const { role, languages, channel } = invitation;
  link.searchParams.set("kind", "conference");
  if (languages.length > 0) link.searchParams.set("languages", languages.join(","));
  link.searchParams.set("role", role);
  if (role === "interpreter" && channel) link.searchParams.set("channel", channel);
  // A comma needs no escape in a query, and people read these.
  return link.href.replaceAll("%2C", ",");
}

export interface Claims {
  sub: string;
  room?: string;
  language?: string;
  hear?: string;
  grants?: Grants;
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
