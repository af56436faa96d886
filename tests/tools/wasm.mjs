// Run machine_report.py of a checkout under Pyodide. Arguments: the folder of the parts, the folder of the two runs,
// the checkout, and the request.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [parts, runs, checkout, request] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${parts}/pyodide.mjs`));
const pyodide = await loadPyodide({ indexURL: `${parts}/` });
for (const name of ["numpy", "attrs", "funcnet"]) {
  pyodide.unpackArchive(new Uint8Array(readFileSync(`${parts}/${name}.whl`)), "wheel");
}
for (const [place, root] of [["/tests", `${checkout}/tests`], [runs, runs]]) {
  pyodide.FS.mkdirTree(place);
  pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root }, place);
}
pyodide.globals.set("request", request);
const program = `
import runpy, sys
sys.dont_write_bytecode = True  # the folder of the tests is the checkout's
sys.path += ["/tests", "/tests/tools"]
sys.argv = ["machine_report.py", request]
runpy.run_path("/tests/tools/machine_report.py", run_name="__main__")
`;
try {
  pyodide.runPython(program);
} catch (error) {
  console.error(error.message); // Python's traceback, without node's
  process.exit(1);
}
