// The stream of changes: followed once for all parts of the page, and taken up again where it breaks off.

import { Refused, events } from "./api.js";

const listeners = [];

/** Be told of what happens: {kind: "live", resumed} when the stream stands, from where it was or from now on;
 * {kind: "commit", revision, changes}; {kind: "resync"} where the whole state was read again; {kind: "broken", stood}
 * where the connection broke off, or could not be made. */
export function onChanges(listener) {
  listeners.push(listener);
}

function tell(happened) {
  for (const listener of listeners) listener(happened);
}

/** Follow them for as long as the page is open. */
export async function followChanges() {
  let last = "";
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    const resumed = last !== "";
    let stood = false;
    let broken = true;
    try {
      for await (const event of events("v1/events?from=now", last)) {
        pause = 500;
        if (event.type === "snapshot-begin") {
          tell({ kind: "resync" });
          broken = false;
          last = ""; // all the keys are not for here: go on with what is new
          break;
        }
        if (!stood) tell({ kind: "live", resumed });
        stood = true;
        if (event.type === "commit") tell({ kind: "commit", ...JSON.parse(event.data) });
        last = event.id || last;
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 400) last = ""; // a position that this agent does not know
    }
    if (broken) tell({ kind: "broken", stood });
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
