// Keys as a tree: the rows that are seen of it. A folder is a run of the sorted keys, found when it is looked into, so that
// nothing is built for what is closed.

/** What lies side by side in keys[from..to], which begin with the same `at` signs: keys, and folders of more than one. */
function* entries(keys, from, to, at) {
  while (from < to) {
    const key = keys[from];
    const slash = key.indexOf("/", at);
    const behind = slash < 0 ? from + 1 : end(keys, from, to, key.slice(0, slash + 1));
    if (behind - from === 1) {
      yield { id: `key ${key}`, key, name: key.slice(at) };
    } else {
      const prefix = shared(keys[from], keys[behind - 1]);
      yield { id: `folder ${prefix}`, prefix, name: prefix.slice(at), from, to: behind };
    }
    from = behind;
  }
}

/** Behind the last of those from `from` on that begin with the prefix. */
function end(keys, from, to, prefix) {
  let [low, high] = [from, to];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle].startsWith(prefix)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The longest folder in which both lie, and all between them. */
function shared(first, last) {
  let same = 0;
  while (same < first.length && first[same] === last[same]) same++;
  return first.slice(0, first.lastIndexOf("/", same - 1) + 1);
}

/** All folders that a name lies in: "a/", "a/b/" for "a/b/c", and for "a/b/". */
export function* folders(name) {
  for (let slash = name.indexOf("/"); slash >= 0; slash = name.indexOf("/", slash + 1)) yield name.slice(0, slash + 1);
}

/** The rows, where `isOpen` tells for each folder whether it is; each with its level, and its place among its siblings. */
export function rows(keys, isOpen) {
  const found = [];
  const walk = (from, to, at, level) => {
    const siblings = [...entries(keys, from, to, at)];
    siblings.forEach((one, index) => {
      const row = Object.assign(one, { level, place: index + 1, of: siblings.length });
      found.push(row);
      if (row.prefix === undefined) return;
      row.isOpen = isOpen(row.prefix);
      if (row.isOpen) walk(row.from, row.to, row.prefix.length, level + 1);
    });
  };
  walk(0, keys.length, 0, 1);
  return found;
}

/** The folders to begin with: from the top, as long as all that is seen is not more than so many rows. */
export function firstOpen(keys, most) {
  const open = new Set();
  const waiting = [{ from: 0, to: keys.length, prefix: "" }];
  let seen = 0;
  for (const { from, to, prefix } of waiting) {
    const inside = [];
    for (const one of entries(keys, from, to, prefix.length)) {
      inside.push(one);
      if (seen + inside.length > most) break;
    }
    if (prefix && seen + inside.length > most) continue;
    seen += inside.length;
    for (const folder of folders(prefix)) open.add(folder);
    waiting.push(...inside.filter((one) => one.prefix !== undefined));
  }
  return open;
}

/** The keys that hold a text, those that begin with it first; capitals count where it has any. */
export function search(keys, text) {
  const exact = text !== text.toLowerCase();
  const [begin, others] = [[], []];
  for (const key of keys) {
    const at = (exact ? key : key.toLowerCase()).indexOf(text);
    if (at >= 0) (at ? others : begin).push(key);
  }
  const found = [...begin, ...others];
  return found.map((key, index) => ({ id: `key ${key}`, key, name: key, level: 1, place: index + 1, of: found.length }));
}
