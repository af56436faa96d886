// The parts of the tutorial: their texts, and their cells, which the reader edits and runs. The computations are in
// cells.py, which worker.js runs.
"use strict";

// Shows an element with a text, or hides it if there is no text.
function fill(element, text) {
  element.textContent = text;
  element.closest("[data-box]").hidden = !text;
}

// ------------------------------------------------------------------------------------------------ a cell

// A program of a part. `output` is what the text says that it prints; a cell with `processes` is only shown.
class Cell {
  constructor(part, number, { source, output = "", exercise, solution, processes }) {
    Object.assign(this, { part, number, source, output, exercise, processes });
    this.element = find("#cell").content.cloneNode(true).firstElementChild;
    for (const name of ["code", "run", "reset", "verdict", "progress", "own", "text", "error", "images"]) {
      this[name] = find(`.${name}`, this.element);
    }
    this.code.setAttribute("aria-label", `Code of cell ${number}`);
    this.run.setAttribute("aria-label", `Run cell ${number}`);
    this.reset.setAttribute("aria-label", `Reset the code of cell ${number}`);
    this.run.onclick = () => part.runUpTo(this);
    this.reset.onclick = () => this.restore();
    this.code.oninput = () => this.grow();
    this.code.onkeydown = (event) => this.press(event);
    fill(find(".solution pre", this.element), solution ?? "");
    if (processes) this.lock();
    this.restore();
  }

  get edited() {
    return this.code.value !== this.source;
  }

  // A cell that starts processes or threads: a browser has none.
  lock() {
    this.code.readOnly = true;
    this.run.hidden = this.reset.hidden = true;
  }

  restore() {
    this.code.value = this.source;
    this.grow();
    this.forget();
  }

  // The cell before it has run.
  forget() {
    this.verdictOf = null;
    this.images.replaceChildren();
    for (const each of [this.progress, this.own, this.error]) fill(each, "");
    fill(this.text, this.output);
    this.say("", this.processes ? "A browser starts no processes and no threads: this cell is not run here." : "");
  }

  say(kind, text) {
    this.verdict.className = `verdict ${kind}`;
    this.verdict.textContent = text;
  }

  grow() {
    this.code.rows = this.code.value.split("\n").length;
    this.reset.disabled = !this.edited;
  }

  // Ctrl+Enter or Shift+Enter runs the cell; Enter keeps the indentation. Tab leaves the field, as everywhere.
  press(event) {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || event.shiftKey) {
      this.part.runUpTo(this);
      return;
    }
    const { value, selectionStart: from, selectionEnd: to } = this.code;
    const line = value.slice(0, from).split("\n").at(-1);
    const more = line.trimEnd().endsWith(":") ? "    " : "";
    this.code.setRangeText(`\n${line.match(/^ */)[0]}${more}`, from, to, "end");
    this.grow();
  }

  hear(kind, text) {
    if (kind === "progress") fill(this.progress, text);
    else fill(this.own, this.own.textContent + text);
  }

  // Runs the cell, and shows and returns what has come of it: "same", "different", "error", "exercise" or "solved".
  async execute() {
    this.forget();
    this.say("", "Running …");
    await addPlots(this.code.value);
    const clock = performance.now();
    const hear = (kind, text) => this.hear(kind, text);
    const found = await listen(hear, "run", this.part.name, this.number, this.code.value);
    fill(this.own, found.printed);
    fill(this.error, found.error.trim());
    for (const figure of found.figures) this.images.append(imageOf(figure));
    this.judge(found, `${((performance.now() - clock) / 1000).toFixed(1)} s`);
    return this.verdictOf;
  }

  judge({ printed, error }, time) {
    const solved = /^Exercise \d+: solved/m.test(printed);
    const same = printed === this.output;
    this.verdictOf = error ? "error" : this.exercise ? (solved ? "solved" : "exercise") : same ? "same" : "different";
    if (this.verdictOf === "same") fill(this.text, "");
    const changed = this.part.edited ? ", but you have changed code" : "";
    const [kind, said] = {
      error: ["different", "✗ Stopped by an error"],
      solved: ["same", `✓ Exercise ${this.exercise} is solved`],
      exercise: ["", `Exercise ${this.exercise} is not solved yet`],
      same: printed ? ["same", "✓ The same as in the text"] : ["", "Done"],
      different: ["different", `✗ Different from the text${changed}`],
    }[this.verdictOf];
    this.say(kind, `${said} (${time})`);
    console.log(`funcnet: ${this.part.name}:${this.number} ${this.verdictOf} ${JSON.stringify(error || printed)}`);
  }
}

function imageOf({ png, titles }) {
  const image = document.createElement("img");
  image.src = `data:image/png;base64,${png}`;
  image.alt = titles ? `Figure: ${titles}` : "Figure";
  return image;
}

// ------------------------------------------------------------------------------------------------ a part

// A part of the tutorial: its section of the page, which is made when it is first shown.
class Part {
  running = false;

  constructor({ name, title, cells }) {
    Object.assign(this, { name, title, content: cells, cells: [] });
  }

  get edited() {
    return this.cells.some((cell) => cell.edited);
  }

  // Returns the section; `next` is the part after this one.
  open(next) {
    if (this.section) return this.section;
    this.section = find("#part").content.cloneNode(true).firstElementChild;
    const place = find(".cells", this.section);
    for (const each of this.content) {
      if (each.html !== undefined) {
        place.insertAdjacentHTML("beforeend", `<div class="prose">${each.html}</div>`);
        continue;
      }
      const cell = new Cell(this, this.cells.length + 1, each);
      this.cells.push(cell);
      place.append(cell.element);
    }
    find(".all", this.section).onclick = () => this.runAll().catch(showFailure);
    find(".stop", this.section).onclick = () => restartPython().catch(showFailure);
    find(".over", this.section).onclick = () => this.startOver().catch(showFailure);
    const link = find(".next", this.section);
    link.hidden = !next;
    if (next) [link.textContent, link.href] = [`Next: ${next.title}`, `#${next.name}`];
    this.showTally();
    return this.section;
  }

  // Runs cells in order until one of them is stopped by an error.
  async run(cells) {
    if (this.running) return;
    this.running = true;
    this.showTally();
    try {
      for (const cell of cells) {
        this.current = cell;
        if ((await cell.execute()) === "error") break;
        this.showTally();
      }
    } catch (error) {
      this.current.say("different", `✗ ${error.message.split("\n").at(-1)}`);
    }
    this.running = false;
    this.showTally();
  }

  get runnable() {
    return this.cells.filter((cell) => !cell.processes);
  }

  // Runs a cell, and before it those above it that have not run.
  async runUpTo(cell) {
    await this.run(this.runnable.filter((each) => each === cell || (each.number < cell.number && !each.verdictOf)));
  }

  async runAll() {
    if (this.running) return;
    this.forget();
    await ask("leave", this.name);
    await this.run(this.runnable);
  }

  // The text's code, and an empty namespace.
  async startOver() {
    if (this.running) await restartPython();
    else await ask("leave", this.name);
    for (const cell of this.cells) cell.restore();
    this.showTally();
  }

  // The part before any cell has run, with the reader's code.
  forget() {
    for (const cell of this.cells) cell.forget();
    if (this.section) this.showTally();
  }

  showTally() {
    for (const cell of this.cells) cell.run.disabled = this.running;
    find(".all", this.section).disabled = this.running;
    find(".stop", this.section).disabled = !this.running;
    const count = (verdict, among = this.cells) => among.filter((cell) => cell.verdictOf === verdict).length;
    const compared = this.runnable.filter((cell) => cell.output);
    const exercises = this.cells.filter((cell) => cell.exercise).length;
    const different = count("different");
    let text = `${count("same", compared)} of ${compared.length} outputs are those of the text`;
    if (different) text += `, ${different} different`;
    if (count("error")) text += ", stopped by an error";
    if (exercises) text += `; ${count("solved")} of ${exercises} exercises solved`;
    find(".tally", this.section).textContent = `${text}.`;
  }
}
