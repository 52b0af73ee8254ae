// The fragment of the address: what of the page it points at, so that a link leads to a watch, a source or a key.

const PATTERN = /^#(key|watch|source)=(.*)$/s;

/** What the address points at, {kind, name}; null for nothing. */
export function pointed() {
  const found = PATTERN.exec(location.hash);
  if (!found) return null;
  try {
    return { kind: found[1], name: decodeURIComponent(found[2]) };
  } catch {
    return null; // a percent sign with nothing behind it
  }
}

/** The fragment that points at it. */
export const fragment = (kind, name) => `#${kind}=${encodeURIComponent(name)}`;

/** Point at it, without a new entry in the history: going through the keys is not navigation. */
export function point(kind, name) {
  history.replaceState(null, "", fragment(kind, name));
}

/** Call `lead` with the name whenever somebody follows a link to one of `kind`, and now where the address has one. */
export function onPointed(kind, lead) {
  const follow = () => {
    const at = pointed();
    if (at?.kind === kind) lead(at.name);
  };
  addEventListener("hashchange", follow);
  // the same link once more changes nothing, and should lead there all the same
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("a")?.hash === location.hash) follow();
  });
  follow();
}
