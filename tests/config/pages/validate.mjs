// Validates AsyncAPI documents with the official parser: `node validate.mjs FOLDER FILE...`, where FOLDER holds the
// parser. Prints the errors as JSON lines; exit code 1 when there are any.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const [folder, ...files] = process.argv.slice(2);
const { Parser } = createRequire(join(resolve(folder), "x.js"))("@asyncapi/parser");
let errors = 0;
for (const file of files) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
  for (const found of diagnostics.filter((each) => each.severity === 0)) {
    console.log(JSON.stringify({ code: found.code, message: found.message, path: found.path.join("/") }));
    errors += 1;
  }
  if (document) console.log(JSON.stringify({ messages: document.allMessages().length }));
}
process.exit(errors ? 1 : 0);
