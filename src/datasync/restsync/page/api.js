// The way to the agent: requests with the token of this tab, and the stream of events.

let token = sessionStorage.getItem("datasync-token") || "";
let signedIn = null;

/** What the agent answered where it was no success. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function request(path, options = {}) {
  for (;;) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    if (answer.status === 401) {
      await signIn();
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

/** A key's value: its bytes and revision, or null where there is no such key. */
export async function valueOf(key) {
  try {
    const answer = await request("v1/keys/" + encodeURIComponent(key).replaceAll(".", "%2E").replaceAll("%2F", "/"));
    return {
      bytes: new Uint8Array(await answer.arrayBuffer()),
      revision: (answer.headers.get("etag") || "").replaceAll('"', ""),
    };
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

/** Read the events of `path` until `signal` aborts or the stream ends; each is {type, id, data}. */
export async function* events(path, signal) {
  const answer = await request(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
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
      if (event.data) yield event;
    }
  }
}
