// Text on standard input -> a token trace.
//   node tokenize.mjs OUT < TEXT
// The first sequence has 12,288 tokens (a prefill chunk and more), the others 512 to 2,048;
// what is left at the end and fills none is left out.
import fs from "node:fs";
import { encode, write } from "./trace.mjs";

const ids = encode(fs.readFileSync(0, "utf8"), "standard input");
const sequences = [];
let length = 12288;
let at = 0;
while (at + length <= ids.length) {
  sequences.push(ids.slice(at, at + length));
  at += length;
  length = 512 + ((at * 2654435761) % 1537);
}
write(process.argv[2], sequences);
console.error(`${sequences.length} sequences, ${at} of ${ids.length} tokens`);
