// The field of the digits where the reader draws one, which the network reads. The computations are in page.py.
"use strict";

class Pad {
  strokes = [];
  reading = false;

  constructor(section, lesson) {
    this.lesson = lesson;
    for (const name of ["pad", "seen", "answer", "shares", "wipe"]) this[name] = find(`.${name}`, section);
    this.bars = Array.from({ length: 10 }, (_, digit) => this.bar(digit));
    this.pad.onpointerdown = (event) => this.begin(event);
    this.pad.onpointermove = (event) => this.go(event);
    this.wipe.onclick = () => this.clear();
    this.text = this.answer.textContent;
    this.clear();
  }

  bar(digit) {
    const [item, meter] = [document.createElement("li"), document.createElement("meter")];
    meter.max = 1000;
    meter.setAttribute("aria-label", `Probability of ${digit}`);
    item.append(meter, String(digit));
    this.shares.append(item);
    return meter;
  }

  clear() {
    this.strokes = [];
    this.answer.textContent = this.text;
    for (const bar of this.bars) bar.value = 0;
    this.draw();
    context(this.seen);
  }

  begin(event) {
    this.pad.setPointerCapture(event.pointerId);
    this.strokes.push([]);
    this.go(event);
  }

  // A pointer that is down adds a point to the stroke.
  go({ buttons, offsetX, offsetY }) {
    if (!buttons || !this.strokes.length) return;
    this.strokes.at(-1).push([offsetX, offsetY]);
    this.read().catch(showFailure);
  }

  draw() {
    const { to, width } = context(this.pad);
    to.strokeStyle = color("text");
    [to.lineWidth, to.lineCap, to.lineJoin] = [width / 14, "round", "round"];
    to.beginPath();
    for (const [first, ...rest] of this.strokes) {
      to.moveTo(...first);
      for (const point of [first, ...rest]) to.lineTo(...point);
    }
    to.stroke();
  }

  // Shows what the network says; what is drawn while it computes is read afterwards.
  async read() {
    this.draw();
    if (!this.strokes.length) return;
    this.changed = true;
    if (this.reading) return;
    this.reading = true;
    try {
      while (this.changed && this.strokes.length) {
        this.changed = false;
        const found = await ask("read", this.lesson, this.strokes);
        if (this.strokes.length) await this.show(found);
      }
    } finally {
      this.reading = false;
    }
  }

  async show({ picture, probabilities }) {
    const image = await shades(picture, 1);
    const { to, width, height } = context(this.seen);
    to.imageSmoothingEnabled = false;
    to.drawImage(image, 0, 0, width, height);
    const most = Math.max(...probabilities);
    probabilities.forEach((each, digit) => (this.bars[digit].value = each));
    const probability = (most / 1000).toFixed(2);
    this.answer.textContent = `The network reads a ${probabilities.indexOf(most)}, with probability ${probability}.`;
  }
}
