// Given strokes, drawn one after another as a hand draws them.
const FRAMES = 150; // for a whole drawing, two and a half seconds

export class Player {
  /**
   * size: [height, width] of the drawing, in whose units strokes come: [x, y, x, y, ...] are lines of `colour`, as wide
   * as `width` pixels of the canvas; {colour, width, points} are strokes of other colours, all in units of the drawing.
   */
  constructor(drawing, {size, colour, width}) {
    Object.assign(this, {drawing, size, colour, width});
    this.playing = false;
    this.before = null; // the user's tool, while another one draws
  }

  /** Draws strokes while one looks, or at once where motion is not wanted; stop() ends it. */
  async play(strokes) {
    this.stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.draw(strokes);
    const token = {};
    this.playing = token;
    this.takePen();
    document.body.dataset.playing = "yes";
    const count = strokes.reduce((sum, stroke) => sum + this.points(stroke).length, 0);
    const perFrame = Math.max(1, Math.ceil(count / FRAMES));
    let drawn = 0;
    for (const stroke of strokes) {
      this.take(stroke);
      for (const [index, point] of this.points(stroke).entries()) {
        this.go(index, point);
        drawn += 1;
        if (drawn % perFrame === 0) await new Promise(requestAnimationFrame);
        if (this.playing !== token) return;
      }
      this.drawing.end();
    }
    this.stop();
  }

  /** Draws strokes at once. */
  draw(strokes) {
    this.takePen();
    for (const stroke of strokes) {
      this.take(stroke);
      for (const [index, point] of this.points(stroke).entries()) this.go(index, point);
      this.drawing.end();
    }
    this.stop();
  }

  go(index, [x, y]) {
    if (index === 0) this.drawing.begin(x, y);
    else this.drawing.move(x, y);
  }

  /** The points of a stroke in pixels of the canvas. */
  points(stroke) {
    const [height, width] = this.size;
    const {canvas} = this.drawing;
    const values = stroke.points ?? stroke;
    const points = [];
    for (let i = 0; i < values.length; i += 2)
      points.push([(values[i] * canvas.width) / width, (values[i + 1] * canvas.height) / height]);
    return points;
  }

  /** Takes the colour and the width of a stroke. */
  take(stroke) {
    const {colour, width} = stroke.points ? stroke : this;
    const scale = stroke.points ? this.drawing.canvas.width / this.size[1] : 1;
    Object.assign(this.drawing, {colour, width: width * scale});
  }

  takePen() {
    const {tool, colour, width, mirror} = this.drawing;
    this.before = {tool, colour, width, mirror};
    Object.assign(this.drawing, {tool: "brush", colour: this.colour, width: this.width, mirror: false});
  }

  /** Ends what is being drawn, and gives the user's tool back. */
  stop() {
    this.playing = false;
    delete document.body.dataset.playing;
    if (!this.before) return;
    this.drawing.end();
    Object.assign(this.drawing, this.before);
    this.before = null;
  }
}
