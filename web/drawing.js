// The drawing: a canvas, the tools, and a history without end.
import {toImageData} from "./images.js";

/** Copies only what two states of a canvas do not share, so that a long history stays small. */
function changedArea(before, after) {
  const {width, height} = before;
  const a = new Uint32Array(before.data.buffer);
  const b = new Uint32Array(after.data.buffer);
  let top = height;
  let bottom = -1;
  let left = width;
  let right = -1;
  for (let i = 0; i < a.length; i++)
    if (a[i] !== b[i]) {
      const x = i % width;
      const y = (i - x) / width;
      top = Math.min(top, y);
      bottom = y;
      left = Math.min(left, x);
      right = Math.max(right, x);
    }
  return bottom < 0 ? null : {x: left, y: top, width: right - left + 1, height: bottom - top + 1};
}

export class Drawing {
  /**
   * onchange() is called whenever the canvas shows something new. crisp: edges are not smoothed, as in label maps.
   * ink: the colour of lines, under which all other colours go; else null.
   */
  constructor(canvas, {paper, ink, crisp, onchange}) {
    Object.assign(this, {canvas, paper, ink, crisp, onchange});
    this.underLines = ink === "#ffffff" ? "lighten" : "darken";
    this.context = canvas.getContext("2d", {willReadFrequently: true});
    this.tool = "brush";
    this.colour = ink ?? "#000000";
    this.width = 8;
    this.mirror = false; // whether the other half is drawn too
    this.source = null; // the whole photo, of which the canvas may show a part
    this.done = [];
    this.undone = [];
    this.stroke = null;
  }

  pixels() {
    return this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Adds what changed since `before` to the history. */
  commit(before, source = this.source) {
    const after = this.pixels();
    const previous = this.source;
    this.source = source;
    if (before.width !== after.width || before.height !== after.height) {
      this.done.push({before: {pixels: before, source: previous}, after: {pixels: after, source}});
    } else {
      const area = changedArea(before, after);
      if (!area) return;
      const part = pixels => {
        const cut = new ImageData(area.width, area.height);
        const from = new Uint32Array(pixels.data.buffer);
        const to = new Uint32Array(cut.data.buffer);
        for (let y = 0; y < area.height; y++) {
          const start = (area.y + y) * pixels.width + area.x;
          to.set(from.subarray(start, start + area.width), y * area.width);
        }
        return cut;
      };
      this.done.push({area, before: {pixels: part(before), source: previous}, after: {pixels: part(after), source}});
    }
    this.undone = [];
    this.onchange();
  }

  restore(area, {pixels, source}) {
    if (!area && (this.canvas.width !== pixels.width || this.canvas.height !== pixels.height))
      Object.assign(this.canvas, {width: pixels.width, height: pixels.height});
    this.context.putImageData(pixels, area?.x ?? 0, area?.y ?? 0);
    this.source = source;
    this.onchange();
  }

  undo() {
    if (this.stroke) this.end();
    const entry = this.done.pop();
    if (!entry) return;
    this.undone.push(entry);
    this.restore(entry.area, entry.before);
  }

  redo() {
    if (this.stroke) return;
    const entry = this.undone.pop();
    if (!entry) return;
    this.done.push(entry);
    this.restore(entry.area, entry.after);
  }

  /** Puts an image in the place of the drawing. */
  replace(image, source = null) {
    if (this.stroke) this.end();
    const before = this.pixels();
    if (this.canvas.width !== image.width || this.canvas.height !== image.height)
      Object.assign(this.canvas, {width: image.width, height: image.height});
    this.context.putImageData(toImageData(image), 0, 0);
    this.commit(before, source);
  }

  clear() {
    if (this.stroke) this.end();
    const before = this.pixels();
    this.context.fillStyle = this.paper;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.commit(before, null);
  }

  /** A stroke begins, goes on and ends, in pixels of the canvas; pressure 1 is the chosen width. */
  begin(x, y, pressure = 1) {
    if (this.stroke) this.end();
    const before = this.pixels();
    if (this.tool === "fill") {
      this.fill(Math.floor(x), Math.floor(y));
      return this.commit(before);
    }
    this.stroke = {before, from: [x, y], last: [x, y]};
    this.move(x, y, pressure);
  }

  move(x, y, pressure = 1) {
    if (!this.stroke) return;
    const {context, stroke} = this;
    const erasing = this.tool === "eraser";
    const width = this.width * pressure * (erasing ? 2 : 1);
    context.fillStyle = context.strokeStyle = erasing ? this.paper : this.colour;
    if (this.tool === "rect" || this.tool === "line") context.putImageData(stroke.before, 0, 0);
    if (this.tool === "rect") {
      const [left, right] = [stroke.from[0], x].sort((a, b) => a - b).map(Math.round);
      const [top, bottom] = [stroke.from[1], y].sort((a, b) => a - b).map(Math.round);
      context.fillRect(left, top, right - left, bottom - top);
    } else {
      this.segment(this.tool === "line" ? stroke.from : stroke.last, [x, y], width);
    }
    stroke.last = [x, y];
    this.onchange();
  }

  end() {
    const {stroke} = this;
    this.stroke = null;
    if (stroke) this.commit(stroke.before);
  }

  /** A line with round ends, and with `mirror` the same on the other side. */
  segment(from, to, width) {
    this.straight(from, to, width);
    if (!this.mirror) return;
    const across = ([x, y]) => [this.canvas.width - x, y];
    this.straight(across(from), across(to), width);
  }

  /** Smooth, or in whole pixels, since a smooth edge would mix the colours of labels. */
  straight([x0, y0], [x1, y1], width) {
    const {context} = this;
    if (!this.crisp) {
      const isUnderLines = this.ink && this.tool !== "eraser" && this.colour !== this.ink;
      context.globalCompositeOperation = isUnderLines ? this.underLines : "source-over";
      context.lineCap = "round";
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
      context.globalCompositeOperation = "source-over";
      return;
    }
    const radius = Math.max(0.5, width / 2);
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0)));
    for (let i = 0; i <= steps; i++) {
      const x = x0 + ((x1 - x0) * i) / steps;
      const y = y0 + ((y1 - y0) * i) / steps;
      for (let row = Math.ceil(y - radius - 0.5); row <= y + radius - 0.5; row++) {
        const half = Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
        const left = Math.round(x - half);
        context.fillRect(left, row, Math.max(1, Math.round(x + half) - left), 1);
      }
    }
  }

  /** Gives the area around a pixel the colour. Up to 32 levels of difference belong to it: JPEG examples are noisy. */
  fill(x, y) {
    const image = this.pixels();
    const {width, height, data} = image;
    const start = (y * width + x) * 4;
    const from = data.slice(start, start + 3);
    const to = [1, 3, 5].map(i => parseInt(this.colour.slice(i, i + 2), 16));
    const seen = new Uint8Array(width * height);
    const todo = [y * width + x];
    while (todo.length) {
      const at = todo.pop();
      if (seen[at]) continue;
      seen[at] = 1;
      if ([0, 1, 2].some(c => Math.abs(data[at * 4 + c] - from[c]) > 32)) continue;
      for (const c of [0, 1, 2]) data[at * 4 + c] = to[c];
      const column = at % width;
      if (column) todo.push(at - 1);
      if (column < width - 1) todo.push(at + 1);
      if (at >= width) todo.push(at - width);
      if (at < width * (height - 1)) todo.push(at + width);
    }
    this.context.putImageData(image, 0, 0);
  }
}
