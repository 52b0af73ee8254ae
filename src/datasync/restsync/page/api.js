// The way to the agent: requests with the token of this tab, and the stream of events.

let token = sessionStorage.getItem("datasync-token") || "";
let signedIn = null;

/** What the agent answered where it was not a success. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function request(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers, ...(used && { authorization: `Bearer ${used}` }) };
    const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    if (answer.status === 401) {
      if (used === token) await signIn(); // else another request has asked for a new one meanwhile
      continue;
    }
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Refused(answer.status, said.detail || answer.statusText);
    }
    return answer;
  }
}

/** Ask the person for a token, once for all requests that need one. */
function signIn() {
  signedIn ??= new Promise((resolve) => {
    const dialog = document.getElementById("sign-in");
    const field = document.getElementById("token");
    if (token) document.getElementById("sign-in-note").textContent = "The agent did not accept that token.";
    dialog.addEventListener("close", () => {
      token = field.value.trim();
      field.value = "";
      sessionStorage.setItem("datasync-token", token);
      signedIn = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return signedIn;
}

/** A JSON answer. */
export async function json(path, options) {
  return (await request(path, options)).json();
}

/** A key's value: its bytes and ETag; null where there is no such key, `known` where its tag is still the same. */
export async function valueOf(key, known = null) {
  // a browser takes `..` between slashes out of a path, encoded or not: the slashes of a key are none of the path's
  if (key === "." || key === "..") throw new Refused(0, "No browser can ask for this key; curl --path-as-is can.");
  try {
    const answer = await request("v1/keys/" + encodeURIComponent(key), known?.tag ? { headers: { "if-none-match": known.tag } } : {});
    return { bytes: new Uint8Array(await answer.arrayBuffer()), tag: answer.headers.get("etag") || "" };
  } catch (error) {
    if (error instanceof Refused && error.status === 304) return known;
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

/** Read the events of `path`, behind the one with the id `last`, until the stream ends; each is {type, id, data}. The
 * agent is told that this is its own page, which is not a remote watcher. */
export async function* events(path, last) {
  const answer = await request(path, { headers: { "datasync-page": "1", ...(last && { "last-event-id": last }) } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the caller has left the loop, and wants no more of it
  }
}

function parsed(block) {
  const event = { type: "message", id: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const field = line.slice(0, colon);
    const text = line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") event.type = text;
    else if (field === "id") event.id = text;
    else if (field === "data") event.data += text;
  }
  return event;
}
