// A folder of unpacked Debian packages -> a trace of their texts.
//   node text-trace.mjs FOLDER TOKENS OUT [KIND]
// Of the kind of that name alone, where one is given.
// Of each kind, documents in a shuffled order until its share is full, cut every 4,096 tokens; then
// all sequences shuffled. The seed is fixed: the same packages make the same file.
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { stripHtml } from "./strip-html.mjs";
import { encode, fail, write } from "./trace.mjs";

const shortest = 64;
const longest = 4096;
// No more of a document than this many characters, so that no table of constants is a large part.
const longestText = 65536;
const handbook = "usr/share/doc/debian-handbook/html";
// Small kinds first: what one cannot fill of its share, those after it do.
const allKinds = [
  { name: "handbook (en)", share: 12, folder: `${handbook}/en-US`, files: /\.html$/ },
  { name: "handbook (zh)", share: 10, folder: `${handbook}/zh-CN`, files: /\.html$/ },
  { name: "handbook (fr)", share: 8, folder: `${handbook}/fr-FR`, files: /\.html$/ },
  // _sysconfigdata differs between architectures.
  { name: "Python", share: 22, folder: "usr/lib/python3.11",
    files: /^(?!.*_sysconfigdata).*\.py$/ },
  // Ports and most tests are left out: thousands of small files, mostly licence text.
  { name: "C", share: 18, folder: "glibc",
    files: /^(?!.*\/(sysdeps|benchtests)\/)(?!.*\/(tst|test|bug)-[^/]*$).*\.[ch]$/ },
  { name: "kernel documentation", share: 30, folder: "usr/share/doc/linux-doc-6.1/Documentation",
    files: /\.rst(\.gz)?$/ },
];

// mulberry32
let state = 20260112;
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let x = Math.imul(state ^ (state >>> 15), state | 1);
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
  return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below);
}

function shuffle(items) {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

// Regular files only: links lead to a text that is there already, or nowhere.
function filesBelow(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const name = path.join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(name) : entry.isFile() ? [name] : [];
  });
}

function textOf(file) {
  const bytes = fs.readFileSync(file);
  let text;
  try {
    const plain = file.endsWith(".gz") ? zlib.gunzipSync(bytes) : bytes;
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain);
  } catch {
    return ""; // a few old sources are not UTF-8
  }
  if (file.endsWith(".html")) text = stripHtml(text);
  if (text.length <= longestText) return text;
  return text.slice(0, text.lastIndexOf("\n", longestText) + 1);
}

const [root, wanted, out, only] =
  [process.argv[2], Number(process.argv[3]), process.argv[4], process.argv[5]];
const kinds = allKinds.filter((kind) => !only || kind.name === only);
if (kinds.length === 0) fail(`no kind is called ${only}: ${allKinds.map((k) => k.name).join(", ")}`);
const sequences = [];
const filled = [];
let total = 0;
let shares = kinds.reduce((n, kind) => n + kind.share, 0);
for (const { name, share, folder, files } of kinds) {
  const base = path.join(root, folder);
  const found = fs.existsSync(base) ? filesBelow(base).filter((file) => files.test(file)) : [];
  if (found.length === 0) fail(`the packages hold no file of the kind: ${name}`);
  const enough = total + Math.ceil(((wanted - total) * share) / shares);
  const before = total;
  for (const file of shuffle(found.sort())) {
    if (total >= enough) break;
    const ids = encode(textOf(file), file);
    for (let at = 0; at + shortest <= ids.length && total < enough; at += longest) {
      sequences.push(ids.slice(at, at + longest));
      total += sequences.at(-1).length;
    }
  }
  shares -= share;
  filled.push([name, total - before]);
}
if (total < wanted) fail(`the packages hold only ${total} tokens, ${wanted} were asked for`);
write(out, shuffle(sequences));
const mix = filled.map(([name, tokens]) => `${name} ${((100 * tokens) / total).toFixed(1)} %`);
console.log(`${total} tokens in ${sequences.length} sequences: ${mix.join(", ")}`);
