// What of a value is text, and how the rest is shown.

/** Whether a text that came over as UTF-8 is meant to be read: no text has a NUL. */
export const isReadable = (text) => !text.includes("\0");

/** The bytes as a column of codes beside one of signs. */
export function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const part = [...bytes.subarray(at, at + 8)];
    const codes = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(24);
    const signs = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${codes} ${signs}`);
  }
  return lines.join("\n");
}

/** The bytes as base64. */
export function base64(bytes) {
  let signs = "";
  for (let at = 0; at < bytes.length; at += 8192) signs += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(signs);
}

/** How many bytes base64 stands for. */
export const packedSize = (packed) => Math.floor((packed.replace(/=+$/, "").length * 3) / 4);
