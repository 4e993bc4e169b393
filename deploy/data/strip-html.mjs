// An HTML page of the Debian handbook -> its text. Knows the markup that this book uses, no more:
// the page's navigation is left out, <pre> keeps its line ends, elsewhere blanks are one blank.
const leftOut = [
  /<!--[^]*?-->/g,
  /<head\b[^]*?<\/head>/g,
  /<(script|style)\b[^]*?<\/\1>/g,
  /<div id="banner">[^]*?<\/div>/g,
  /<p id="title">[^]*?<\/p>/g,
  /<ul class="docnav\b[^]*?<\/ul>/g,
];
const block = /<\/?(?:div|p|h[1-6]|ul|ol|li|dl|dt|dd|table|tr|pre|br|hr|blockquote)\b[^>]*>/g;
const named = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

const inline = (html) => html.replace(block, "\n").replace(/<[^>]*>/g, "");

const flow = (html) =>
  inline(html.replace(/\s+/g, " ")).replace(/ *\n */g, "\n").replace(/\n+/g, "\n");

export function stripHtml(page) {
  const body = leftOut.reduce((html, part) => html.replace(part, ""), page);
  const parts = body.split(/(<pre\b[^]*?<\/pre>)/); // every second one is a <pre>
  const text = parts.map((part, i) => (i % 2 ? inline(part) : flow(part))).join("");
  return text
    .replace(/&(?:#(\d+)|#x([0-9a-f]+)|([a-z]+));/gi, (all, decimal, hex, name) =>
      name ? named[name] ?? all : String.fromCodePoint(decimal ? +decimal : parseInt(hex, 16)))
    .trim() + "\n";
}
