// Holds Kubernetes documents against their schemas and the rules for pods.
//   cd "$(tests/kubernetes/fetch-schemas.sh)" && node --input-type=module - documents.json < check_documents.mjs
// Its packages are looked for where it is started. Input: a list of documents. Output: a list of
// {"document": "Kind/name", "check": "schema" | "types" | rule, "message": ...}, of all that is wrong.
//   schema    wrong types, missing fields, values that are none of the enumerated
//   types     fields that nobody knows: TypeScript's check of what is written out in place
//   PSS, KBP  pod security, and practices
import { createDefaultMonokleValidator } from "@monokle/validation";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const documents = JSON.parse(readFileSync(process.argv[2], "utf8"));
const label = (document) => `${document.kind}/${document.metadata.name}`;
const problems = [];
const found = (document, check, message) => problems.push({ document, check, message });

const home = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "cert-manager.io": "@kubernetes-models/cert-manager",
};
const moduleOf = ({ apiVersion }) =>
  `${home[apiVersion.split("/")[0]] ?? "kubernetes-models"}/${apiVersion}`;

for (const document of documents) {
  try {
    const models = await import(moduleOf(document));
    new models[document.kind](document).validate();
  } catch (error) {
    found(label(document), "schema", error.message);
  }
}

// One file a document, named by its place in the list.
const scratch = mkdtempSync(join(process.cwd(), "documents-"));
try {
  documents.forEach((document, i) => writeFileSync(
    join(scratch, `${i}.ts`),
    `import type {I${document.kind} as T} from "${moduleOf(document)}";\n` +
    `export const document: T = ${JSON.stringify(document, null, 1)};\n`));
  writeFileSync(join(scratch, "tsconfig.json"), JSON.stringify({ compilerOptions: {
    noEmit: true, strict: true, skipLibCheck: true, types: [], module: "esnext", moduleResolution: "bundler",
  } }));
  const tsc = spawnSync(process.execPath, ["../node_modules/typescript/bin/tsc", "--pretty", "false"],
                        { cwd: scratch, encoding: "utf8" });
  const lines = tsc.stdout.split("\n").filter((line) => line.includes("error TS"));
  if (tsc.status !== 0 && lines.length === 0) throw new Error(`tsc: ${tsc.stdout}${tsc.stderr}`);
  for (const line of lines) {
    const at = line.match(/^(\d+)\.ts/);
    found(at ? label(documents[at[1]]) : "", "types", line);
  }
} finally {
  rmSync(scratch, { recursive: true });
}

// Its other plugins download what they know. All rules of these, also those that are off by themselves.
const plugins = { "pod-security-standards": true, practices: true, "kubernetes-schema": false,
                  "open-policy-agent": false, "resource-links": false, "yaml-syntax": false };
const validator = createDefaultMonokleValidator();
await validator.preload({ plugins });
const rules = {};
for (const plugin of ["pod-security-standards", "practices"]) {
  for (const rule of validator.rules[plugin]) rules[`${plugin}/${rule.name}`] = "err";
}
await validator.preload({ plugins, rules });
const resources = documents.map((document, i) => ({
  id: String(i), fileId: String(i), filePath: `${i}.yaml`, fileOffset: 0,
  name: document.metadata.name, apiVersion: document.apiVersion, kind: document.kind,
  namespace: document.metadata.namespace, content: document, text: JSON.stringify(document, null, 1),
}));
const answer = await validator.validate({ resources });
for (const run of answer.runs) {
  for (const result of run.results) {
    const file = result.locations?.[0]?.physicalLocation?.artifactLocation?.uri ?? "";
    const at = file.match(/(\d+)\.yaml$/);
    found(at ? label(documents[at[1]]) : "", result.ruleId, result.message.text);
  }
}

process.stdout.write(JSON.stringify(problems), () => process.exit(0));
