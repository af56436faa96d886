// The worker: runs Python beside the page, so that the page stays responsive. build.py puts no file in front of it but
// Pyodide's two scripts, which define loadPyodide.
//
// A message to the worker is {id, call, parameters}, and the answer is {id, result} or {id, error}. While a cell runs,
// {id, kind, text} is what it writes.
"use strict";

const runs = new Map(); // the current run of each lesson, a Python value
const rooms = new Map(); // the namespace of each part of the tutorial
const DIGITS = "/lib/python3.12/site-packages/sklearn/datasets/data"; // where funcnet finds them
let python;
let page; // the module page.py
let cells; // the module cells.py
let asked; // the id of the message that is being answered

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
  add(files);
  python.FS.mkdirTree(DIGITS);
  for (const name of ["page.py", "strokes.py", "cells.py"]) python.FS.writeFile(name, new Uint8Array(files[name]));
  python.FS.writeFile(`${DIGITS}/digits.csv.gz`, new Uint8Array(files["digits.csv.gz"]));
  [page, cells] = ["page", "cells"].map((name) => python.pyimport(name));
  return { pyodide: python.version, ...JSON.parse(page.versions()) };
}

// Unpacks the wheels among some files.
function add(files) {
  for (const [name, data] of Object.entries(files)) if (name.endsWith(".whl")) python.unpackArchive(data, "wheel");
}

function run(name, number, source) {
  if (!rooms.has(name)) rooms.set(name, cells.room());
  const say = (kind, text) => postMessage({ id: asked, kind, text });
  return JSON.parse(cells.run(rooms.get(name), number, source, say));
}

function leave(name) {
  rooms.get(name)?.destroy();
  rooms.delete(name);
}

function keep(name, run) {
  runs.get(name)?.destroy();
  runs.set(name, run);
  return JSON.parse(page.drawing(run));
}

const calls = {
  load,
  add,
  run,
  leave,
  start(name, settings) {
    const drawing = keep(name, page.start(name, JSON.stringify(settings)));
    return { ...JSON.parse(page.describe(runs.get(name))), ...drawing };
  },
  advance: (name, epochs) => keep(name, page.advance(runs.get(name), epochs)),
  read: (name, strokes) => JSON.parse(page.read(runs.get(name), JSON.stringify(strokes))),
  printed: (program) => page.printed(program),
  reference: (arithmetic) => JSON.parse(page.reference(arithmetic)),
};

self.onmessage = async ({ data: { id, call, parameters } }) => {
  asked = id;
  try {
    postMessage({ id, result: await calls[call](...parameters) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error).trim() });
  }
};
