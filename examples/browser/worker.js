// The worker: runs Python beside the page, so that the page stays responsive. build.py puts no file in front of it but
// Pyodide's two scripts, which define loadPyodide.
//
// A message to the worker is {id, call, parameters}, and the answer is {id, result} or {id, error}.
"use strict";

const runs = new Map(); // the current run of each lesson, a Python value
let python;
let page; // the module page.py

// Pyodide fetches its parts, and gets those that came with the message.
async function load(files) {
  self.fetch = async (url) => {
    const name = String(url).split("/").pop();
    if (!(name in files)) throw new Error(`not a part of the page: ${url}`);
    const type = name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
    return new Response(files[name], { headers: { "Content-Type": type } });
  };
  postMessage({ stage: 2, text: "Starting Python" });
  python = await loadPyodide({ indexURL: "file:///parts/" });
  postMessage({ stage: 3, text: "Importing NumPy and funcnet" });
  for (const name of ["numpy.whl", "attrs.whl", "funcnet.whl"]) python.unpackArchive(files[name], "wheel");
  for (const name of ["page.py", "digits.csv.gz"]) python.FS.writeFile(name, new Uint8Array(files[name]));
  page = python.pyimport("page");
  return { pyodide: python.version, ...JSON.parse(page.versions()) };
}

function keep(name, run) {
  runs.get(name)?.destroy();
  runs.set(name, run);
  return JSON.parse(page.drawing(run));
}

const calls = {
  load,
  start(name, settings) {
    const drawing = keep(name, page.start(name, JSON.stringify(settings)));
    return { ...JSON.parse(page.describe(runs.get(name))), ...drawing };
  },
  advance: (name, epochs) => keep(name, page.advance(runs.get(name), epochs)),
  printed: (program) => page.printed(program),
  reference: (arithmetic) => JSON.parse(page.reference(arithmetic)),
};

self.onmessage = async ({ data: { id, call, parameters } }) => {
  try {
    postMessage({ id, result: await calls[call](...parameters) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error).trim() });
  }
};
