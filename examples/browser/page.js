// The page: starts the worker, drives the lessons and draws. The computations are in page.py, which worker.js runs.
"use strict";

const RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 100];
const PARTS = ["pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json", "numpy.whl", "attrs.whl", "funcnet.whl"];
const begin = performance.now();
const find = (selector, element = document) => element.querySelector(selector);
const seconds = () => ((performance.now() - begin) / 1000).toFixed(1);

// ------------------------------------------------------------------------------------------------ files

// A file as an ArrayBuffer: from the page itself, where build.py has put it as gzip in base64, or from the server.
async function file(name) {
  const element = document.getElementById(`file:${name}`);
  if (!element) {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
    return response.arrayBuffer();
  }
  const text = atob(element.textContent);
  element.remove(); // its memory is not needed any more
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// ------------------------------------------------------------------------------------------------ the worker

const waiting = new Map();
let worker;
let count = 0;

// Calls a function of worker.js; the answer is a promise.
function ask(call, ...parameters) {
  const id = ++count;
  worker.postMessage({ id, call, parameters });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

async function startWorker() {
  const scripts = await Promise.all(["pyodide.asm.js", "pyodide.js", "worker.js"].map(file));
  const blob = new Blob(scripts.flatMap((script) => [script, "\n"]), { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(blob));
  worker.onmessage = ({ data: { id, result, error, stage, text } }) => {
    if (stage) return showStage(stage, text);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  worker.onerror = (event) => showFailure(event);
}

function showStage(stage, text) {
  find("#status").textContent = `${text} …`;
  find("#progress").value = stage;
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
    for (const name of ["start", "reset", "rate", "hidden", "picture", "losses"]) this[name] = find(`.${name}`, section);
    this.sliders = [[this.rate, RATES, "learning_rate"], [this.hidden, SIZES, "hidden"]];
  }

  get done() {
    return this.state.losses.length === this.state.epochs;
  }

  get settings() {
    return Object.fromEntries(this.sliders.map(([slider, values, name]) => [name, values[slider.value]]));
  }

  get asInText() {
    return this.sliders.every(([, , name]) => this.settings[name] === this.state.settings[name]);
  }

  // Gets the run before its first epoch, and connects the controls.
  async open() {
    find("pre.text", this.section).textContent = this.text;
    this.state = await ask("start", this.name, {});
    for (const [slider, values, name] of this.sliders) {
      slider.max = values.length - 1;
      slider.value = values.indexOf(this.state.settings[name]);
      slider.oninput = () => this.showSettings();
      slider.onchange = () => this.act(this.restart);
    }
    this.start.onclick = () => this.act(this.training ? this.pause : this.train);
    this.reset.onclick = () => this.act(this.restart);
    for (const each of [this.start, this.reset, this.rate, this.hidden]) each.disabled = false;
    this.showSettings();
    await this.draw();
    addEventListener("resize", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
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
    const { state, picture, losses } = this;
    const epoch = state.losses.length;
    drawLosses(losses, state);
    await drawPicture(picture, state);
    const shown = state.extent ? "Decision boundary" : "Weights of the first layer";
    const loss = epoch ? `: ${state.losses.at(-1).toFixed(3)}` : "";
    describe(picture, `${shown} after ${epoch} of ${state.epochs} epochs`);
    describe(losses, `Mean loss by epoch${loss}`);
    find("pre.own", this.section).textContent = state.printed;
    this.start.textContent = this.training ? "Pause" : this.done ? "Again" : epoch ? "Resume" : "Start";
  }

  showSettings() {
    for (const [slider, values] of this.sliders) {
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

// With #all in its address, the page runs everything once by itself.
async function main() {
  for (const section of document.querySelectorAll(".lesson")) {
    section.append(find("#lesson").content.cloneNode(true));
    find(".source", section).textContent = `${section.dataset.source} prints`;
  }
  showStage(1, "Unpacking");
  await startWorker();
  const names = [...PARTS, "page.py", "digits.csv.gz"];
  const files = await Promise.all(names.map(async (name) => [name, await file(name)]));
  const texts = JSON.parse(new TextDecoder().decode(await file("texts.json")));
  showVersions(await ask("load", Object.fromEntries(files)));
  const time = seconds();
  console.log(`funcnet: ready after ${time} seconds`);
  document.body.className = "ready";
  find("#status").textContent = `Ready after ${time} seconds. Computing the fingerprint …`;
  const same = await fingerprint(find("#fingerprint"), texts.fingerprint);
  find("#status").textContent = `Ready after ${time} seconds. The fingerprint is ${same ? "the same" : "different"}.`;
  const lessons = [...document.querySelectorAll(".lesson")].map((each) => new Lesson(each, texts[each.dataset.lesson]));
  for (const lesson of lessons) await lesson.open();
  find("#reference button").onclick = () => reference(find("#reference"));
  if (location.hash !== "#all") return;
  for (const lesson of lessons) await lesson.act(lesson.train);
  await reference(find("#reference"));
  console.log("funcnet: end");
}

window.addEventListener("unhandledrejection", ({ reason }) => showFailure(reason));
main();
