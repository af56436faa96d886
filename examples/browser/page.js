// The page: starts the worker, drives the lessons and draws. The computations are in page.py, which worker.js runs.
// build.py puts tutorial.js and pad.js in front of this file.

const RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 100, 200];
const PYTHON = ["pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json", "page.py", "strokes.py", "cells.py",
  "digits.csv.gz"];
const WHEELS = ["numpy.whl", "attrs.whl", "tqdm.whl", "funcnet.whl"];
const PLOTS = ["matplotlib.whl", "contourpy.whl", "kiwisolver.whl", "pillow.whl", "cycler.whl", "pyparsing.whl",
  "dateutil.whl", "six.whl", "packaging.whl"];
const begin = performance.now();
const find = (selector, element = document) => element.querySelector(selector);
const seconds = () => ((performance.now() - begin) / 1000).toFixed(1);

// ------------------------------------------------------------------------------------------------ files

const packed = {}; // what the scripts of the folder `files` have put here

// A file as gzip in base64: from the page itself, or from a script beside it. A page from a file may fetch nothing.
async function stored(name) {
  const element = document.getElementById(`file:${name}`);
  if (element) {
    element.remove(); // its memory is not needed any more
    return element.textContent;
  }
  const script = document.createElement("script");
  await new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`the browser does not load files/${name}.js`));
    script.src = `files/${name}.js`;
    document.head.append(script);
  });
  script.remove();
  const text = packed[name];
  delete packed[name];
  return text;
}

// A file as an ArrayBuffer.
async function file(name) {
  const text = atob(await stored(name));
  const bytes = Uint8Array.from(text, (each) => each.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const json = async (name) => JSON.parse(new TextDecoder().decode(await file(name)));

// The files with these names, by name.
async function files(names) {
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await file(name)])));
}

// ------------------------------------------------------------------------------------------------ the worker

const waiting = new Map(); // the calls without an answer
const loaded = {}; // the files that Python has
let program; // the address of the worker's script
let worker;
let ready; // the promise of a worker with Python; its value is the versions
let plots; // the promise of matplotlib
let count = 0;

function post(hear, call, parameters) {
  const id = ++count;
  worker.postMessage({ id, call, parameters });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject, hear }));
}

// Calls a function of worker.js; the answer is a promise. `hear` gets what a running cell writes.
async function listen(hear, call, ...parameters) {
  await ready;
  return post(hear, call, parameters);
}

const ask = (call, ...parameters) => listen(null, call, ...parameters);

async function startPython() {
  if (!program) {
    showStage(1, "Unpacking");
    const scripts = Object.values(await files(["pyodide.asm.js", "pyodide.js", "worker.js"]));
    const blob = new Blob(scripts.flatMap((script) => [script, "\n"]), { type: "text/javascript" });
    program = URL.createObjectURL(blob);
    Object.assign(loaded, await files([...PYTHON, ...WHEELS]));
  }
  worker = new Worker(program);
  worker.onmessage = ({ data: { id, result, error, stage, kind, text } }) => {
    if (stage) return showStage(stage, text);
    const { resolve, reject, hear } = waiting.get(id);
    if (kind) return hear(kind, text);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  worker.onerror = (event) => showFailure(event);
  return post(null, "load", [loaded]);
}

// Ends whatever runs, and starts Python again, without the names of the parts and the runs of the lessons.
async function restartPython() {
  worker.terminate();
  const stopped = [...waiting.values()];
  waiting.clear();
  ready = startPython();
  for (const { reject } of stopped) reject(new Error("Stopped"));
  await ready;
  document.body.className = "ready";
  find("#status").textContent = "Python has started again.";
  for (const part of parts.values()) part.forget();
  for (const lesson of lessons) await lesson.act(lesson.restart);
}

// Gives Python matplotlib if a program needs it.
async function addPlots(source) {
  if (!/matplotlib|fn\.plots/.test(source)) return;
  plots ??= files(PLOTS).then(async (found) => {
    await ask("add", found);
    Object.assign(loaded, found);
  });
  await plots;
}

function showStage(stage, text) {
  find("#status").textContent = `${text} …`;
  find("#progress").value = stage;
  document.body.className = "";
}

function showFailure(error) {
  const message = error.message ?? "the browser does not start the worker";
  find("#status").textContent = `The page has failed: ${message}`;
  console.error(`funcnet: failed: ${message}`);
}

// ------------------------------------------------------------------------------------------------ drawings

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const channels = (name) => [1, 3, 5].map((at) => parseInt(color(name).slice(at, at + 2), 16));

// A canvas in the pixels of the screen, with a context that counts in those of the page. The style sets its size.
function context(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const to = canvas.getContext("2d");
  to.scale(devicePixelRatio, devicePixelRatio);
  return { to, width, height };
}

// The picture's numbers, from -1000 to 1000, as colors from class 0 over the middle to class 1.
function shades(picture, strength) {
  const [low, middle, high] = ["class-0", "middle", "class-1"].map(channels);
  const image = new ImageData(picture[0].length, picture.length);
  picture.flat().forEach((value, i) => {
    const share = strength * Math.min(1, Math.abs(value) / 1000);
    const end = value < 0 ? low : high;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = middle[c] + share * (end[c] - middle[c]);
    image.data[4 * i + 3] = 255;
  });
  return createImageBitmap(image);
}

async function drawPicture(canvas, { picture, points, extent }) {
  const image = await shades(picture, extent === null ? 1 : 0.6); // points need a paler ground
  const { to, width, height } = context(canvas);
  if (extent === null) {
    to.imageSmoothingEnabled = false;
    to.drawImage(image, 0, 0, width, height);
    return;
  }
  to.drawImage(image, 0.5, 0.5, image.width - 1, image.height - 1, 0, 0, width, height); // the grid's edge is the canvas's
  drawBoundary(to, picture, width / (picture.length - 1));
  const [low, high] = extent;
  const size = points.length < 20 ? 8 : 4;
  for (const [x, y, kind] of points) {
    const [left, top] = [((x - low) / (high - low)) * width, ((high - y) / (high - low)) * height];
    to.beginPath();
    if (kind === 0) to.arc(left, top, size, 0, 2 * Math.PI);
    else [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]].forEach(([x, y]) => to.lineTo(left + size * x, top + size * y));
    to.closePath();
    to.fillStyle = color(`class-${kind}`);
    to.fill();
    to.strokeStyle = color("back");
    to.stroke();
  }
}

// The line where the picture is 0: in each cell of the grid, between the crossings of its sides (marching squares).
function drawBoundary(to, picture, cell) {
  to.beginPath();
  for (let row = 0; row + 1 < picture.length; row++) {
    for (let column = 0; column + 1 < picture.length; column++) {
      const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
      const crossings = corners.flatMap(([r, c], i) => {
        const [r2, c2] = corners[(i + 1) % 4];
        const [a, b] = [picture[r][c], picture[r2][c2]];
        const share = a / (a - b);
        return a < 0 === b < 0 ? [] : [[cell * (c + share * (c2 - c)), cell * (r + share * (r2 - r))]];
      });
      crossings.forEach((point, i) => (i % 2 ? to.lineTo(...point) : to.moveTo(...point)));
    }
  }
  to.strokeStyle = color("edge");
  to.lineWidth = 2;
  to.stroke();
  to.lineWidth = 1;
}

function drawLosses(canvas, { losses, epochs }) {
  const { to, width, height } = context(canvas);
  const [left, right, top, bottom] = [48, width - 16, 16, height - 32];
  const most = Math.max(...losses, 0.5);
  const unit = 10 ** Math.floor(Math.log10(most));
  const tick = unit * [0.1, 0.2, 0.5, 1, 2].find((each) => most / (each * unit) <= 5.5);
  const decimals = Math.max(0, -Math.floor(Math.log10(tick)));
  const x = (epoch) => left + ((right - left) * epoch) / epochs;
  const y = (loss) => bottom - ((bottom - top) * loss) / most;
  to.font = "12px system-ui, sans-serif";
  to.fillStyle = color("quiet");
  to.strokeStyle = color("line");
  to.textAlign = "right";
  to.textBaseline = "middle";
  for (let value = 0; value <= most; value += tick) {
    to.fillText(most < 1e4 ? value.toFixed(decimals) : value.toExponential(0), left - 8, y(value));
    to.strokeRect(left, y(value), right - left, 0);
  }
  to.textAlign = "center";
  for (const epoch of [0, Math.round(epochs / 2), epochs]) to.fillText(epoch, x(epoch), bottom + 14);
  to.strokeStyle = to.fillStyle = color("accent");
  to.lineWidth = 2;
  to.beginPath();
  losses.forEach((loss, i) => to.lineTo(x(i + 1), y(loss)));
  to.stroke();
  if (losses.length) {
    to.beginPath();
    to.arc(x(losses.length), y(losses.at(-1)), 4, 0, 2 * Math.PI);
    to.fill();
  }
}

// ------------------------------------------------------------------------------------------------ comparisons

// Says whether what the browser printed is what the text says; returns it as well.
function compare(section, own, text, ifSame, ifDifferent) {
  const same = own.trim() === text.trim();
  const verdict = find(".verdict", section);
  verdict.className = `verdict ${same ? "same" : "different"}`;
  verdict.textContent = same ? `✓ ${ifSame}` : `✗ ${ifDifferent}`;
  console.log(`funcnet: ${section.dataset.lesson ?? section.id} ${same ? "same" : "different"} ${JSON.stringify(own)}`);
  return same;
}

function note(section, text) {
  find(".verdict", section).className = "verdict";
  find(".verdict", section).textContent = text;
}

// ------------------------------------------------------------------------------------------------ a lesson

// A lesson's section of the page. `state` is what the worker has said of its run, and `training` is the loop that runs:
// another loop, or null, ends it.
class Lesson {
  training = null;

  constructor(section, text) {
    this.section = section;
    this.name = section.dataset.lesson;
    this.text = text;
    for (const name of ["start", "reset", "picture", "losses"]) this[name] = find(`.${name}`, section);
  }

  get done() {
    return this.state.losses.length === this.state.epochs;
  }

  get settings() {
    const [learning_rate, ...hidden] = this.sliders.map(({ slider, values }) => values[slider.value]);
    return { learning_rate, hidden };
  }

  get asInText() {
    const { learning_rate, hidden } = this.state.settings;
    return JSON.stringify(this.settings) === JSON.stringify({ learning_rate, hidden });
  }

  // Gets the run before its first epoch, and connects the controls.
  async open() {
    find("pre.text", this.section).textContent = this.text;
    this.state = await ask("start", this.name, {});
    const { learning_rate, hidden } = this.state.settings;
    const layers = hidden.map((_, i) => (hidden.length > 1 ? `Neurons in hidden layer ${i + 1}` : "Hidden neurons"));
    this.sliders = [this.slider("Learning rate", RATES, learning_rate)];
    layers.forEach((name, i) => this.sliders.push(this.slider(name, SIZES, hidden[i])));
    this.start.onclick = () => this.act(this.training ? this.pause : this.train);
    this.reset.onclick = () => this.act(this.restart);
    for (const each of [this.start, this.reset]) each.disabled = false;
    this.showSettings();
    if (find(".pad", this.section)) this.pad = new Pad(this.section, this.name);
    await this.draw();
    addEventListener("resize", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Adds a slider over some values to the controls.
  slider(name, values, value) {
    const label = find("#slider").content.cloneNode(true).firstElementChild;
    label.prepend(`${name} `);
    find(".controls", this.section).append(label);
    const slider = find("input", label);
    slider.max = values.length - 1;
    slider.value = values.indexOf(value);
    slider.oninput = () => this.showSettings();
    slider.onchange = () => this.act(this.restart);
    return { slider, values };
  }

  // Runs a method; an error ends the training, and the page shows it.
  async act(method) {
    try {
      await method.call(this);
    } catch (error) {
      this.training = null;
      note(this.section, error.message.split("\n").at(-1)); // the last line of Python's traceback
      await this.draw();
    }
  }

  async restart() {
    this.training = null;
    Object.assign(this.state, await ask("start", this.name, this.settings));
    note(this.section, this.asInText ? "" : "These are not the settings of the text.");
    await this.draw();
  }

  async train() {
    if (this.done) await this.restart();
    const own = (this.training = {});
    while (this.training === own && !this.done) {
      const next = await ask("advance", this.name, 1);
      if (this.training !== own) return;
      Object.assign(this.state, next);
      await this.draw();
      await new Promise(requestAnimationFrame);
    }
    if (this.training !== own) return;
    this.training = null;
    const verdicts = ["The same as in the text", "Different from the text"];
    if (this.asInText) compare(this.section, this.state.printed, this.text, ...verdicts);
    await this.draw();
  }

  async pause() {
    this.training = null;
    Object.assign(this.state, await ask("advance", this.name, 0)); // after the epoch that the worker computes
    await this.draw();
  }

  async draw() {
    const { state, picture, losses, pad } = this;
    const epoch = state.losses.length;
    drawLosses(losses, state);
    await drawPicture(picture, state);
    await pad?.read();
    const shown = state.extent ? "Decision boundary" : "Weights of the first layer";
    const loss = epoch ? `: ${state.losses.at(-1).toFixed(3)}` : "";
    describe(picture, `${shown} after ${epoch} of ${state.epochs} epochs`);
    describe(losses, `Mean loss by epoch${loss}`);
    find("pre.own", this.section).textContent = state.printed;
    this.start.textContent = this.training ? "Pause" : this.done ? "Again" : epoch ? "Resume" : "Start";
  }

  showSettings() {
    for (const { slider, values } of this.sliders) {
      find("output", slider.parentElement).textContent = values[slider.value];
      slider.setAttribute("aria-valuetext", values[slider.value]);
    }
  }
}

// Sets the caption of a drawing.
function describe(canvas, text) {
  find("figcaption", canvas.parentElement).textContent = text;
  canvas.setAttribute("aria-label", text);
}

// ------------------------------------------------------------------------------------------------ the other sections

async function fingerprint(section, { program, output }) {
  find(".program", section).textContent = program;
  find("pre.text", section).textContent = output.trim();
  await ready;
  const clock = performance.now();
  const own = await ask("printed", program);
  console.log(`funcnet: the fingerprint takes ${((performance.now() - clock) / 1000).toFixed(2)} seconds`);
  find("pre.own", section).textContent = own.trim();
  const same = "The same fingerprint: your browser computes the bits of the guide";
  return compare(section, own, output, same, "Different: your browser computes other bits than the guide");
}

async function reference(section) {
  const button = find("button", section);
  button.disabled = true;
  for (const row of section.querySelectorAll("[data-arithmetic]")) {
    const { arithmetic } = row.dataset;
    note(section, `Training in ${arithmetic} arithmetic …`);
    const found = await ask("reference", arithmetic);
    const [time, hash] = row.querySelectorAll("td");
    time.textContent = found.seconds.toFixed(1);
    find("code", hash).textContent = found.fingerprint;
    console.log(`funcnet: ${arithmetic} ${found.seconds.toFixed(2)} seconds ${found.fingerprint}`);
    row.found = found;
  }
  const { fingerprint, expected } = find('[data-arithmetic="portable"]', section).found;
  const [same, different] = ["The same as", "Different from"].map((each) => `${each} the committed fingerprint`);
  compare(section, fingerprint, expected, `${same}, in portable arithmetic`, `${different}, in portable arithmetic`);
  button.disabled = false;
}

function showVersions({ pyodide, python, numpy, funcnet, machine }) {
  const rows = { Browser: navigator.userAgent, Pyodide: pyodide, Python: `${python} on ${machine}`, NumPy: numpy, funcnet };
  for (const [name, value] of Object.entries(rows)) {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, description.textContent] = [name, value];
    find("#versions").append(term, description);
  }
}

// ------------------------------------------------------------------------------------------------ the page

const parts = new Map(); // the parts of the tutorial by name
const lessons = []; // those that are open
let texts; // what the documentation prints

// Shows the part that the page's address names, or the lessons.
async function show() {
  const name = location.hash.replace(/^#(run:)?/, "");
  const names = [...parts.keys()];
  const shown = parts.get(name);
  find("#lessons").hidden = Boolean(shown);
  find("#contents").open = !shown;
  for (const each of document.querySelectorAll("article")) each.remove();
  for (const link of document.querySelectorAll("#contents a")) {
    if (link.hash === (shown ? `#${name}` : "#lessons")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${shown ? shown.title : "The class-room"} - funcnet in your browser`;
  if (!shown) {
    await openLessons();
    for (const lesson of lessons) await lesson.draw(); // a hidden drawing has no size
    return;
  }
  const section = shown.open(parts.get(names[names.indexOf(name) + 1]));
  find("main").append(section);
  section.focus({ preventScroll: true });
}

function showContents() {
  for (const [name, title] of [["lessons", "Lessons"], ...[...parts].map(([name, { title }]) => [name, title])]) {
    const [item, link] = [document.createElement("li"), document.createElement("a")];
    [link.textContent, link.href] = [title, `#${name}`];
    item.append(link);
    find("#contents ul").append(item);
  }
}

// Runs the program of the guide, and connects the controls of the lessons; once.
async function openLessons() {
  if (texts) return;
  texts = await json("texts.json");
  for (const section of document.querySelectorAll(".lesson")) {
    section.append(find("#lesson").content.cloneNode(true));
    find(".figures", section).after(...section.querySelectorAll(".drawn"));
    find(".source", section).textContent = `${section.dataset.source} prints`;
  }
  await fingerprint(find("#fingerprint"), texts.fingerprint);
  for (const section of document.querySelectorAll(".lesson")) {
    const lesson = new Lesson(section, texts[section.dataset.lesson]);
    await lesson.open();
    lessons.push(lesson);
  }
  find("#reference button").onclick = () => reference(find("#reference"));
}

// Runs a part that is on the page.
async function runPart(name) {
  const clock = performance.now();
  await parts.get(name).runAll();
  console.log(`funcnet: ${name} takes ${((performance.now() - clock) / 1000).toFixed(2)} seconds`);
}

// Runs the lessons once.
async function runLessons() {
  for (const lesson of lessons) await lesson.act(lesson.train);
  await reference(find("#reference"));
}

// Runs the parts once, each on the page.
async function runParts() {
  for (const name of parts.keys()) {
    history.replaceState(null, "", `#${name}`);
    await show();
    await runPart(name);
  }
}

// With #all in its address, the page runs everything once by itself; with #run, the lessons; with #run:part_01_neuron,
// that part.
async function main() {
  const asked = location.hash;
  ready = startPython();
  for (const part of await json("tutorial.json")) parts.set(part.name, new Part(part));
  showContents();
  const shown = show();
  addEventListener("hashchange", () => {
    scrollTo(0, 0);
    show().catch(showFailure);
  });
  showVersions(await ready);
  const time = seconds();
  console.log(`funcnet: ready after ${time} seconds`);
  document.body.className = "ready";
  find("#status").textContent = `Python is ready after ${time} seconds.`;
  await shown;
  if (asked === "#all" || asked === "#run") await runLessons();
  if (asked === "#all") await runParts();
  if (parts.has(asked.replace("#run:", ""))) await runPart(asked.replace("#run:", ""));
  if (/^#(all|run)/.test(asked)) console.log("funcnet: end");
}

main().catch(showFailure);
